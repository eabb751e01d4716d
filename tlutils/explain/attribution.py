"""Which pixels did this score come from? Eight answers, one contract.

Each function takes a model, a preprocessed batch x (N, C, H, W) and a `target` (a class index, one per
image, or None for the class that the model finds), and returns a map (N, H, W) on the model's device. The
model and its gradients stay as they were; a frozen model and a surrounding `no_grad` make no difference.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import models
from ..errors import LearnerError
from ..runtime import progress, seeded
from .activations import map_axes
from .hooks import Reader, Target, checked, chosen, class_index, examined, scores, stages
from .rules import relu_rule


def _gradient(model: nn.Module, x: Tensor, index: Tensor) -> Tensor:
    """Return d score[index] / d x (N, C, H, W) of a bare model; nothing is left on its parameters."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(chosen(scores(model, x), index).sum(), x)[0]


def _found(model: nn.Module, x: Tensor, target: Target) -> Tensor:
    """Return the classes (N,) to explain; one forward pass also proves that the model takes this batch."""
    with torch.no_grad():
        return class_index(target, scores(model, x))


def _strongest(gradient: Tensor, per_channel: bool) -> Tensor:
    return gradient if per_channel else gradient.abs().amax(1)


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    fill: float | Tensor = 0.0,
    batch_size: int = 16,
) -> Tensor:
    """Return how far the class score falls when a square is covered (N, H, W): the mean over squares
    covering a pixel.

    `window` and `stride` are in pixels: the stride is a fourteenth of the shorter side unless given, the
    window twice the stride. The last square of a row is cut at the border. `fill` is what covers, in
    preprocessed values: a number (0 is the data's mean colour) or a tensor that broadcasts to (C, H, W).
    `batch_size` pictures run at once. Zeiler and Fergus 2014, section 4.2.
    """
    x = checked(model, x)
    height, width = x.shape[2:]
    stride = max(1, min(height, width) // 14) if stride is None else stride
    window = min(2 * stride, height, width) if window is None else window
    if not (1 <= stride <= window <= min(height, width)):
        raise LearnerError(
            f"window={window}, stride={stride} on images of {height}×{width} pixels. Expected "
            f"1 ≤ stride ≤ window ≤ {min(height, width)}, so that every pixel is covered at least once."
        )
    tops = range(0, height - window + stride, stride)
    lefts = range(0, width - window + stride, stride)
    squares = [(slice(t, t + window), slice(s, s + window)) for t in tops for s in lefts]
    cover = torch.as_tensor(fill, dtype=x.dtype, device=x.device).expand(x.shape[1:])
    total, times = torch.zeros_like(x[:, 0]), torch.zeros_like(x[0, 0])
    with examined(model) as model, torch.no_grad():
        out = scores(model, x)
        index = class_index(target, out)
        whole = chosen(out, index)
        jobs = [(n, square) for n in range(len(x)) for square in squares]
        for start in progress(range(0, len(jobs), batch_size), desc="occlusion"):
            part = jobs[start : start + batch_size]
            rows = torch.tensor([n for n, _ in part], device=x.device)
            # Channels-last is what convolutions on a processor like best; the numbers are the same.
            covered = x[rows].contiguous(memory_format=torch.channels_last)
            for picture, (_, (v, h)) in zip(covered, part, strict=True):
                picture[:, v, h] = cover[:, v, h]
            falls = whole[rows] - chosen(scores(model, covered), index[rows])
            for fall, (n, (v, h)) in zip(falls, part, strict=True):
                total[n, v, h] += fall
    for v, h in squares:
        times[v, h] += 1
    return total / times


def saliency(model: nn.Module, x: Tensor, target: Target = None, *, per_channel: bool = False) -> Tensor:
    """Return |d score / d pixel| (N, H, W), the largest over the channels, of the unnormalised class score.

    `per_channel=True` gives the signed gradient (N, C, H, W). Simonyan, Vedaldi and Zisserman 2014, section
    3.
    """
    x = checked(model, x)
    with examined(model) as model:
        return _strongest(_gradient(model, x, _found(model, x, target)), per_channel)


def smoothgrad(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
    per_channel: bool = False,
) -> Tensor:
    """Return the saliency (N, H, W) of the gradient averaged over `samples` noisy copies of each image.

    `noise` is the standard deviation as a share of each image's own range (max minus min). The class is the
    one found on the clean image. `per_channel=True` gives the signed mean gradient (N, C, H, W). Smilkov et
    al. 2017.
    """
    if samples < 1 or noise < 0:
        raise LearnerError(f"samples={samples}, noise={noise}. Expected samples ≥ 1 and noise ≥ 0.")
    x = checked(model, x)
    spread = noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(x)
    with examined(model) as model, seeded(seed):
        index = _found(model, x, target)
        for _ in progress(range(samples), desc="smoothgrad"):
            total += _gradient(model, x + spread * torch.randn_like(x), index)
    return _strongest(total / samples, per_channel)


def _ruled(rule: str, model: nn.Module, x: Tensor, target: Target, per_channel: bool) -> Tensor:
    x = checked(model, x)
    with examined(model) as model:
        index = _found(model, x, target)
        with relu_rule(rule) as used:
            gradient = _gradient(model, x, index)
    if not used.calls:
        raise LearnerError(
            f"{models.info(model).name} has no ReLU, and this method is a rule for ReLUs: on other "
            "activations "
            "it would be plain saliency under another name. Use saliency, smoothgrad, integrated_gradients "
            "or "
            "occlusion."
        )
    return _strongest(gradient, per_channel)


def guided_backprop(
    model: nn.Module, x: Tensor, target: Target = None, *, per_channel: bool = False
) -> Tensor:
    """Return the saliency (N, H, W) of gradients that pass a ReLU only where both signal and gradient are
    positive.

    Every ReLU counts: module or function, in place, shared, ReLU6. A model without one is a LearnerError.
    `per_channel=True` gives the signed gradient (N, C, H, W). Springenberg et al. 2015; sharp, but see
    `faithfulness.cascade` before you believe it.
    """
    return _ruled("guided", model, x, target, per_channel)


def deconvnet(model: nn.Module, x: Tensor, target: Target = None, *, per_channel: bool = False) -> Tensor:
    """Return the saliency (N, H, W) of gradients that pass a ReLU wherever the gradient is positive.

    Otherwise as `guided_backprop`. Zeiler and Fergus 2014, section 2.1.
    """
    return _ruled("deconvnet", model, x, target, per_channel)


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 50,
    batch_size: int = 16,
    per_channel: bool = False,
) -> Tensor:
    """Return (x - baseline) times the mean gradient on the way from baseline to x, summed over channels (N,
    H, W).

    Signed. The sum over all pixels is score(x) - score(baseline), up to the error of `steps` Gauss-Legendre
    points. `baseline` is a number (0 is the data's mean colour) or a tensor that broadcasts to x.
    Sundararajan et al. 2017.
    """
    if steps < 1:
        raise LearnerError(
            f"steps={steps}. Expected at least 1 point on the way from the baseline to the image."
        )
    x = checked(model, x)
    start = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    shares, lengths = (torch.as_tensor(a).to(x) for a in ((1 + nodes) / 2, weights / 2))
    mean = torch.zeros_like(x)
    with examined(model) as model:
        index = _found(model, x, target)
        for part in progress(
            torch.arange(steps).split(max(1, batch_size // len(x))), desc="integrated gradients"
        ):
            points = start + shares[part].view(-1, 1, 1, 1, 1) * (x - start)  # (P, N, C, H, W)
            gradient = _gradient(model, points.flatten(0, 1), index.repeat(len(part))).view_as(points)
            mean += torch.einsum("p,pnchw->nchw", lengths[part], gradient)
    result = (x - start) * mean
    return result if per_channel else result.sum(1)


class _Maps:
    """Maps (N, C, h, w) that leave a stage, the last spatial one unless named, and the scores, in one
    graph.
    """

    def __init__(self, model: nn.Module, x: Tensor, at: str | None, method: str) -> None:
        if at is None:
            known = stages(model, x)
            found = [
                s.name
                for s in known
                if not isinstance(s.output_shape[0], tuple) and map_axes((1, *s.output_shape), x)
            ]
            if not found:
                raise _no_maps(
                    model, method, f"has no stage with two spatial axes ({', '.join(known.names)})"
                )
            at = found[-1]
        # The input asks for gradients, so that there is a graph on a frozen model too.
        out = Reader(model, [at], like=x, with_scores=True)(x.detach().requires_grad_())
        self.leaving, self.scores = out[at], out["scores"]
        order = map_axes(self.leaving.shape, x)
        if order is None:
            raise _no_maps(
                model, method, f"gives {tuple(self.leaving.shape)} at {at!r}, which has no two spatial axes"
            )
        self.order, self.maps = order, self.leaving.detach().permute(order)

    def gradient(self, score: Tensor) -> Tensor:
        """Return d score / d maps (N, C, h, w)."""
        return torch.autograd.grad(score, self.leaving)[0].permute(self.order)


def _no_maps(model: nn.Module, method: str, what: str) -> LearnerError:
    return LearnerError(
        f"{method} weighs maps, and {models.info(model).name} {what}. It needs a stage that gives (N, "
        "channels, "
        "height, width) with more than one position. On any model occlusion, saliency, smoothgrad and "
        "integrated_gradients work."
    )


def _upsampled(maps: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(maps[:, None], x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def grad_cam(model: nn.Module, x: Tensor, target: Target = None, *, at: str | None = None) -> Tensor:
    """Return the part of a stage's maps that speaks for the class, at least 0, at image size (N, H, W).

    Each channel's map is weighed by the mean of d score / d map; what is above 0 in the sum is upsampled
    bilinearly. `at` is a stage or a module, the last one with spatial maps unless given. Raises
    LearnerError where there is none (token models). Selvaraju et al. 2017.
    """
    x = checked(model, x)
    with examined(model) as model:
        found = _Maps(model, x, at, "Grad-CAM")
        weights = found.gradient(chosen(found.scores, class_index(target, found.scores)).sum()).mean(
            (2, 3), keepdim=True
        )
        return _upsampled((weights * found.maps).sum(1).relu(), x)


def cam(model: nn.Module, x: Tensor, target: Target = None) -> Tensor:
    """Return the class activation map (N, H, W), signed: the last maps weighed by the class's own weights
    in the head.

    Defined where the head is one linear layer on the average of these maps; its mean over the maps'
    positions is the class score without bias. Anything else is a LearnerError that names what works. Zhou
    et al. 2016.
    """
    x = checked(model, x)
    with examined(model) as model, torch.no_grad():
        found = _Maps(model, x, None, "CAM")
        index = class_index(target, found.scores)
        pooled = found.maps.mean((2, 3))
        weight = _head_on(model, pooled, found.scores)
        return _upsampled(torch.einsum("nk,nkhw->nhw", weight[index], found.maps), x)


def _head_on(model: nn.Module, pooled: Tensor, out: Tensor) -> Tensor:
    """Return W (K, C) such that the scores are W·pooled + b, found by trying it on this batch."""
    if pooled.shape == out.shape and torch.allclose(pooled, out, rtol=1e-3, atol=1e-3):
        return torch.eye(out.shape[1], dtype=out.dtype, device=out.device)  # the maps are the classes' own
    fitting = (out.shape[1], pooled.shape[1])
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.shape == fitting):
        if torch.allclose(layer(pooled), out, rtol=1e-3, atol=1e-3):
            return layer.weight
    raise LearnerError(
        "CAM needs a model that averages its last maps and puts one linear layer on them, and "
        f"{models.info(model).name} does something else in between. grad_cam is its generalisation and "
        "works here."
    )
