"""Is this map worth believing? Deletion and insertion curves, randomised weights, and the pointing game."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binomtest, spearmanr
from torch import Tensor, nn

from ..errors import LearnerError
from ..runtime import progress, seeded
from .attribution import filled
from .hooks import Target, chosen, class_index, examined, scores, stages


@dataclass(frozen=True)
class Curve:
    """`scores` (N, S) of the class while a `share` (S,) of the pixels has changed, and the area under them
    (N,).
    """

    shares: Tensor
    scores: Tensor

    @property
    def area(self) -> Tensor:
        return torch.trapezoid(self.scores, self.shares, dim=1)


def _matching(maps: Tensor, x: Tensor) -> Tensor:
    if not isinstance(maps, Tensor) or maps.shape != (len(x), *x.shape[2:]):
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise LearnerError(
            f"maps is {got}. Expected one map per image, {(len(x), *x.shape[2:])}, as attributions return."
        )
    if not maps.isfinite().all():
        raise LearnerError("maps holds NaN or infinity; a pixel cannot be ranked by that.")
    return maps.detach().to(x.device)


def _curve(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    steps: int,
    fill: float | Tensor,
    *,
    insert: bool,
) -> Curve:
    if steps < 1:
        raise LearnerError(f"steps={steps}. Expected at least 1.")
    with examined(model, x) as (model, x), torch.no_grad():
        maps, cover = _matching(maps, x), filled(fill, x)
        index = class_index(target, scores(model, x))
        # Stable: pixels of equal weight go in reading order, so a constant map is a fair, dull control.
        order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
        places = torch.arange(order.shape[1], device=x.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(1, order, places).view(len(x), 1, *x.shape[2:])
        shares = torch.linspace(0, 1, steps + 1, dtype=x.dtype, device=x.device)
        rows = []
        for share in progress(shares, desc="insertion" if insert else "deletion"):
            changed = rank < round(float(share) * order.shape[1])
            probability = scores(model, torch.where(changed == insert, x, cover)).softmax(1)
            rows.append(chosen(probability, index))
        return Curve(shares, torch.stack(rows, 1))


def deletion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    steps: int = 20,
    fill: float | Tensor = 0.0,
) -> Curve:
    """Return the class probability while pixels vanish, the map's strongest first. A good map gives a small
    area.

    x (N, C, H, W) preprocessed, maps (N, H, W). `fill` is what a vanished pixel becomes, in preprocessed
    values. Petsiuk, Das and Saenko 2018 (RISE).
    """
    return _curve(model, x, maps, target, steps, fill, insert=False)


def insertion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    steps: int = 20,
    fill: float | Tensor = 0.0,
) -> Curve:
    """Return the class probability while pixels appear, the map's strongest first. A good map gives a large
    area.

    `fill` is what stands there before: a number, or a tensor such as a blurred x. Otherwise as `deletion`.
    """
    return _curve(model, x, maps, target, steps, fill, insert=True)


def cascading_randomization(
    model: nn.Module,
    x: Tensor,
    method: Callable[..., Tensor],
    target: Target = None,
    *,
    seed: int = 0,
    **options,
) -> dict[str, Tensor]:
    """Return how similar a map stays as stages become random, {stage: rank correlation (N,)}.

    Head first, each stage on top of those before: its weights are replaced by random ones (same mean and
    spread), in a copy, and `method(copy, x, target, **options)` is compared with the map of the trained model
    by Spearman's correlation of the absolute values. A map that stays the same (near 1) shows the picture,
    not what the network learned. A constant map counts as 0. Adebayo et al. 2018, "Sanity checks for saliency
    maps".
    """
    with examined(model, x) as (bare, x), torch.no_grad():
        index = class_index(target, scores(bare, x))
        forgetful = copy.deepcopy(bare)
    before = method(forgetful, x, index, **options).abs().flatten(1).cpu()
    result = {}
    with seeded(seed):
        for stage in progress(list(reversed(stages(forgetful, x))), desc="cascade"):
            own = set(stage.parameters)
            fresh = [p for name, p in forgetful.named_parameters() if name in own]
            if not fresh:
                continue
            with torch.no_grad():
                for parameter in fresh:
                    spread = parameter.std() if parameter.numel() > 1 else parameter.abs().sum()
                    parameter.copy_(parameter.mean() + spread * torch.randn_like(parameter))
            after = method(forgetful, x, index, **options).abs().flatten(1).cpu()
            result[stage.name] = torch.tensor(
                [_rank_correlation(a, b) for a, b in zip(before, after, strict=True)]
            )
    return result


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(np.nan_to_num(spearmanr(a.numpy(), b.numpy()).statistic))


@dataclass(frozen=True)
class HitRate:
    """Whether each map's peak is in its box (N,), the share of hits, and its 95 % Wilson interval."""

    hits: Tensor
    rate: float
    low: float
    high: float


def pointing_game(maps: Tensor, boxes: Tensor | list) -> HitRate:
    """Return how often the strongest pixel of a map (N, H, W) lies in its box (N, 4) = (top, left, bottom,
    right).

    Bottom and right are excluded, in pixels. Zhang et al. 2016.
    """
    boxes = torch.as_tensor(boxes)
    if maps.ndim != 3 or boxes.shape != (len(maps), 4) or not len(maps):
        raise LearnerError(
            f"maps {tuple(maps.shape)}, boxes {tuple(boxes.shape)}. Expected (N, H, W) and (N, 4): one box "
            "per map."
        )
    peak = maps.flatten(1).argmax(1).cpu()
    row, column = peak // maps.shape[2], peak % maps.shape[2]
    top, left, bottom, right = boxes.cpu().unbind(1)
    hits = (top <= row) & (row < bottom) & (left <= column) & (column < right)
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return HitRate(hits, float(hits.float().mean()), float(interval.low), float(interval.high))
