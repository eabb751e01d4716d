"""Which places of the last feature maps speak for this class? CAM and Grad-CAM."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import models
from ..errors import LearnerError
from .channels import as_maps
from .hooks import (
    Reader,
    Target,
    compute_gradient,
    compute_scores,
    examining,
    read_layouts,
    resolve_target,
    say_empty,
    select_scores,
    stages,
)


class _Maps:
    """Maps (N, C, h, w) that leave a stage, the last spatial one by default, and scores, in one graph."""

    def __init__(self, model: nn.Module, x: Tensor, at: str | None, method: str) -> None:
        if at is None:
            known = stages(model, x)
            found = [stage.name for stage in known if stage.map_size not in (None, (1, 1))]
            if not found:
                raise _no_maps(
                    model, method, f"has no stage with two spatial axes ({', '.join(known.names)})"
                )
            at = found[-1]
        self.at = at
        # The input asks for gradients, so that there is a graph on a frozen model too.
        reader = Reader(model, [at], like=x, with_scores=True)
        out = reader(x.detach().requires_grad_())
        self.leaving, self.scores, self.layout = out[at], out["scores"], reader.layouts[at]
        maps = as_maps(self.leaving.detach(), self.layout)
        if maps is None:
            raise _no_maps(
                model, method, f"gives {tuple(self.leaving.shape)} at {at!r}, which has no two spatial axes"
            )
        self.maps = maps

    def gradient(self, score: Tensor) -> Tensor:
        """Return d score / d maps (N, C, h, w)."""
        gradient = as_maps(compute_gradient(score, self.leaving), self.layout)
        assert gradient is not None  # the maps have the same layout
        return gradient


def _no_maps(model: nn.Module, method: str, what: str) -> LearnerError:
    return LearnerError(
        f"{method} needs feature maps, and {models.info(model).name} {what}. Expected a stage that gives (N, "
        "channels, height, width) with more than one position. On any model occlusion, saliency, smoothgrad "
        "and integrated_gradients work."
    )


def upsample(maps: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(maps[:, None], x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def grad_cam(model: nn.Module, x: Tensor, target: Target = None, *, at: str | None = None) -> Tensor:
    """Return the Grad-CAM map (N, H, W): where a stage's feature maps raise the class score.

    Each feature map is weighted by the mean of d score / d map; what is above 0 in the sum is upsampled
    bilinearly. A map that is 0 everywhere is reported in the log. Selvaraju et al. 2017.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.
        at: A stage or a module, the last stage with height and width unless given.

    Raises:
        LearnerError: If what leaves there has no height and width (token models), there is no such place or
            class, or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.grad_cam(model, torch.randn(2, 3, 32, 32), at="stage1").shape
        torch.Size([2, 32, 32])
    """
    with examining(model, x) as (model, x):
        found = _Maps(model, x, at, "Grad-CAM")
        score = select_scores(found.scores, resolve_target(target, found.scores)).sum()
        weights = found.gradient(score).mean((2, 3), keepdim=True)
        return say_empty(
            upsample((weights * found.maps).sum(1).relu(), x),
            "Grad-CAM",
            f"at {found.at!r} nothing speaks for the class, and what speaks against it is not shown. Try "
            "another class or at=, or integrated_gradients, which has both signs.",
        )


def cam(model: nn.Module, x: Tensor, target: Target = None) -> Tensor:
    """Return the class activation map (N, H, W), signed: the last feature maps times the class's weights.

    Defined where the scores are one linear layer (or 1×1 convolution) on the average of feature maps; the
    mean of a map, before it is upsampled, is then the class score without bias. Also defined where the scores
    are averages of feature maps of their own, one per class: those are the maps. Zhou et al. 2016.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.

    Raises:
        LearnerError: If the model is built otherwise (the error names what works), there is no such class, or
            the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.cam(model, torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 32, 32])
    """
    close = partial(torch.allclose, rtol=1e-3, atol=1e-3)
    with examining(model, x) as (model, x), torch.no_grad():
        out, seen = _read_maps(model, x)
        index = resolve_target(target, out)
        layers = [
            m
            for m in model.modules()
            if isinstance(m, models.layers.LINEAR_OR_CONV) and len(m.weight) == out.shape[1]
        ]
        # A 1×1 convolution before the average gives what it gives behind it, so both places are tried.
        averaged = [(m, m.mean((2, 3))) for values in reversed(seen) for m in (values, values.relu())]
        for layer in layers:
            weight = layer.weight.flatten(1)
            for maps, pooled in averaged:
                # The weights themselves are tried: a layer may use them in a way of its own.
                if weight.shape[1] == pooled.shape[1] and close(F.linear(pooled, weight, layer.bias), out):
                    return say_empty(upsample(torch.einsum("nk,nkhw->nhw", weight[index], maps), x), "CAM")
        for maps, pooled in averaged:
            if pooled.shape == out.shape and close(pooled, out):
                return say_empty(upsample(maps[torch.arange(len(x)), index], x), "CAM")
    raise LearnerError(
        "CAM needs scores that are one linear layer or 1×1 convolution on the average of feature maps, or "
        f"averages of one map per class; those of {models.info(model).name} are neither. grad_cam is its "
        "generalisation, for any model with feature maps; occlusion and saliency work on every model."
    )


def _read_maps(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the scores, and the output of each module that gives feature maps (N, C, h, w), in order."""
    seen: list[Tensor] = []
    layouts = read_layouts(model, x)

    def keeper(layout: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            if (maps := as_maps(output, layout)) is not None:
                seen.append(maps)

        return keep

    with ExitStack() as hooks:
        for name, layout in layouts.items():
            hooks.callback(model.get_submodule(name).register_forward_hook(keeper(layout)).remove)
        return compute_scores(model, x), seen
