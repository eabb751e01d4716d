"""Which pixels did this score come from? Six answers here and two in `cams`, one contract.

Each function takes a model, a preprocessed batch x (N, C, H, W) and a `target` (a class index, one per
image, or None for the class that the model finds), and returns a map (N, H, W) on the model's device. The
model and its gradients stay as they were; a frozen model and a surrounding `no_grad` make no difference.
"""

import numpy as np
import torch
from torch import Tensor, nn

from .. import models
from ..errors import LearnerError
from ..runtime import progress, seeded
from .hooks import (
    Target,
    compute_gradient,
    compute_scores,
    examining,
    resolve_target,
    say_empty,
    select_scores,
)
from .relu_backward import relu_rule


def _gradient(model: nn.Module, x: Tensor, target: Target) -> Tensor:
    """Return d score[target] / d x (N, C, H, W) of a bare model; nothing is left on its parameters."""
    x = x.detach().requires_grad_()
    scores = compute_scores(model, x)
    return compute_gradient(select_scores(scores, resolve_target(target, scores)).sum(), x)


def _predict_classes(model: nn.Module, x: Tensor, target: Target) -> Tensor:
    """Return the classes (N,) to explain; one forward pass also proves that the model takes this batch."""
    with torch.no_grad():
        return resolve_target(target, compute_scores(model, x))


def _reduce_channels(gradient: Tensor, per_channel: bool) -> Tensor:
    return gradient if per_channel else gradient.abs().amax(1)


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: float | Tensor = 0.0,
    batch_size: int = 16,
) -> Tensor:
    """Return how far the class score falls when a square is covered, per pixel (N, H, W).

    A pixel gets the mean over the squares that cover it. The last square of a row is cut at the border.
    Zeiler and Fergus 2014.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.
        window: The side of the square in pixels, twice the stride unless given.
        stride: How many pixels apart the squares lie, a fourteenth of the shorter side unless given.
        baseline: What covers, in preprocessed values: a number (0 is the data's mean colour) or a tensor that
            broadcasts to (C, H, W).
        batch_size: How many covered images run at once.

    Raises:
        LearnerError: If 1 ≤ stride ≤ window ≤ side does not hold, there is no such class, or the batch is not
            one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.occlusion(model, torch.randn(2, 3, 16, 16), window=8, stride=4).shape
        torch.Size([2, 16, 16])
    """
    with examining(model, x) as (model, x), torch.no_grad():
        squares = _squares(x.shape[2], x.shape[3], window, stride)
        cover = expand_baseline(baseline, x[0])
        out = compute_scores(model, x)
        index = resolve_target(target, out)
        whole = select_scores(out, index)
        total, times = torch.zeros_like(x[:, 0]), torch.zeros_like(x[0, 0])
        jobs = [(n, square) for n in range(len(x)) for square in squares]
        for start in progress(range(0, len(jobs), batch_size), desc="occlusion"):
            part = jobs[start : start + batch_size]
            rows = torch.tensor([n for n, _ in part], device=x.device)
            covered = x[rows]
            for picture, (_, (v, h)) in zip(covered, part, strict=True):
                picture[:, v, h] = cover[:, v, h]
            falls = whole[rows] - select_scores(compute_scores(model, covered), index[rows])
            for fall, (n, (v, h)) in zip(falls, part, strict=True):
                total[n, v, h] += fall
        for v, h in squares:
            times[v, h] += 1
        return say_empty(total / times, "Occlusion")


def _squares(height: int, width: int, window: int | None, stride: int | None) -> list[tuple[slice, slice]]:
    """Return the squares that an occluder visits, as (rows, columns)."""
    side = min(height, width)
    stride = max(1, side // 14) if stride is None else stride
    window = min(2 * stride, side) if window is None else window
    if not 1 <= stride <= window <= side:
        raise LearnerError(
            f"window={window}, stride={stride} on images of {height}×{width} pixels. Expected "
            f"1 ≤ stride ≤ window ≤ {side}, so that every pixel is covered at least once."
        )
    tops, lefts = (range(0, length - window + stride, stride) for length in (height, width))
    return [(slice(top, top + window), slice(left, left + window)) for top in tops for left in lefts]


def expand_baseline(baseline: float | Tensor, like: Tensor) -> Tensor:
    """Return `baseline`, a number or a tensor, in the shape, precision and place of `like`."""
    cover = torch.as_tensor(baseline, dtype=like.dtype, device=like.device)
    try:
        return cover.expand_as(like)
    except RuntimeError as error:
        raise LearnerError(
            f"A baseline of shape {tuple(cover.shape)} does not fit {tuple(like.shape)}. Expected a number, "
            "one number per channel as (C, 1, 1), or a whole image."
        ) from error


def saliency(model: nn.Module, x: Tensor, target: Target = None, *, per_channel: bool = False) -> Tensor:
    """Return the largest absolute gradient of the class score over the channels of each pixel, (N, H, W).

    Simonyan, Vedaldi and Zisserman 2014.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.
        per_channel: Whether to return the signed gradient (N, C, H, W) instead.

    Raises:
        LearnerError: If there is no such class, or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.saliency(model, torch.randn(2, 3, 16, 16), target=1).shape
        torch.Size([2, 16, 16])
    """
    with examining(model, x) as (model, x):
        return say_empty(_reduce_channels(_gradient(model, x, target), per_channel), "Saliency")


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
    """Return the saliency (N, H, W) of the gradient averaged over noisy copies of each image.

    The class is the one found on the clean image. Smilkov et al. 2017.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.
        samples: How many noisy copies there are.
        noise: The standard deviation of the noise, as a share of each image's own range (max minus min).
        seed: Seed of the noise.
        per_channel: Whether to return the signed mean gradient (N, C, H, W) instead.

    Raises:
        LearnerError: If `samples` or `noise` is too small, there is no such class, or the batch is not one
            that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.smoothgrad(model, torch.randn(2, 3, 16, 16), samples=4).shape
        torch.Size([2, 16, 16])
    """
    if samples < 1 or noise < 0:
        raise LearnerError(f"samples={samples}, noise={noise}. Expected samples ≥ 1 and noise ≥ 0.")
    with examining(model, x) as (model, x), seeded(seed):
        index = _predict_classes(model, x, target)
        spread = noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
        total = torch.zeros_like(x)
        for _ in progress(range(samples), desc="smoothgrad"):
            # Drawn by shape alone: the same noise for every layout, type and device.
            total += _gradient(model, x + spread * torch.randn(x.shape).to(x), index)
        return say_empty(_reduce_channels(total / samples, per_channel), "SmoothGrad")


def _saliency_by_rule(rule: str, model: nn.Module, x: Tensor, target: Target, per_channel: bool) -> Tensor:
    with examining(model, x) as (model, x):
        with relu_rule(rule) as used:
            gradient = _gradient(model, x, target)
        if used.calls:
            return say_empty(
                _reduce_channels(gradient, per_channel),
                f"The map by the rule {rule!r}",
                "the rule lets through what speaks for the class, and nothing does. Another may show more.",
            )
    raise LearnerError(
        f"{models.info(model).name} has no ReLU, and this method is a rule for ReLUs: it would be plain "
        "saliency under another name. Use saliency, smoothgrad, integrated_gradients or occlusion."
    )


def guided_backprop(
    model: nn.Module, x: Tensor, target: Target = None, *, per_channel: bool = False
) -> Tensor:
    """Return the saliency (N, H, W) of gradients that pass a ReLU only if signal and gradient are positive.

    Every ReLU counts: module or function, in place, shared, ReLU6. Springenberg et al. 2015; sharp, but see
    `cascading_randomization` before you believe it.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.
        per_channel: Whether to return the signed gradient (N, C, H, W) instead.

    Raises:
        LearnerError: If the model has no ReLU, there is no such class, or the batch is not one that the model
            takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.guided_backprop(model, torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 16, 16])
    """
    return _saliency_by_rule("guided", model, x, target, per_channel)


def deconvnet(model: nn.Module, x: Tensor, target: Target = None, *, per_channel: bool = False) -> Tensor:
    """Return the saliency (N, H, W) of gradients that pass a ReLU wherever the gradient is positive.

    Every ReLU counts: module or function, in place, shared, ReLU6. Zeiler and Fergus 2014, section 2.1.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.
        per_channel: Whether to return the signed gradient (N, C, H, W) instead.

    Raises:
        LearnerError: If the model has no ReLU, there is no such class, or the batch is not one that the model
            takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.deconvnet(model, torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 16, 16])
    """
    return _saliency_by_rule("deconvnet", model, x, target, per_channel)


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
    """Return (x - baseline) times the mean gradient on the way from baseline to x (N, H, W).

    Signed and summed over the channels: the sum over all pixels is score(x) - score(baseline), up to the
    error of the Gauss-Legendre points. Sundararajan, Taly and Yan 2017.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.
        baseline: Where the way begins: a number (0 is the data's mean colour) or a tensor that broadcasts to
            x.
        steps: How many points there are on the way.
        batch_size: How many images run at once.
        per_channel: Whether to keep the channels (N, C, H, W).

    Raises:
        LearnerError: If `steps` is below 1, `baseline` does not fit x, there is no such class, or the batch
            is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> x = torch.randn(1, 3, 16, 16)
        >>> change = (model(x) - model(torch.zeros_like(x)))[0, 1]
        >>> bool((explain.integrated_gradients(model, x, target=1).sum() - change).abs() < 0.01)
        True
    """
    if steps < 1:
        raise LearnerError(f"steps={steps}. Expected at least 1 point from the baseline to the image.")
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    with examining(model, x) as (model, x):
        index = _predict_classes(model, x, target)
        start = expand_baseline(baseline, x)
        shares, lengths = (torch.as_tensor(a).to(x) for a in ((1 + nodes) / 2, weights / 2))
        mean = torch.zeros_like(x)
        at_once = max(1, batch_size // len(x))
        for part in progress(torch.arange(steps).split(at_once), desc="integrated gradients"):
            points = start + shares[part].view(-1, 1, 1, 1, 1) * (x - start)  # (P, N, C, H, W)
            gradient = _gradient(model, points.flatten(0, 1), index.repeat(len(part))).view_as(points)
            mean += torch.einsum("p,pnchw->nchw", lengths[part], gradient)
        result = (x - start) * mean
        return say_empty(result if per_channel else result.sum(1), "Integrated gradients")
