"""Is this map worth believing? Deletion and insertion curves, randomised weights, and the pointing game."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import LearnerError
from ..intervals import wilson_interval
from ..runtime import progress, seeded
from .attribution import expand_baseline
from .hooks import (
    Target,
    compute_scores,
    examining,
    expecting_empty,
    resolve_target,
    select_scores,
    stages,
)


@dataclass(frozen=True)
class Curve:
    """The probability of the class while more and more pixels have changed.

    Attributes:
        shares: Of the pixels that have changed (S,), from 0 to 1.
        scores: The probability of the class (N, S).
    """

    shares: Tensor
    scores: Tensor

    @property
    def area(self) -> Tensor:
        """The area under each curve (N,)."""
        return torch.trapezoid(self.scores, self.shares, dim=1)


def _check_maps(maps: Tensor, x: Tensor) -> Tensor:
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
    baseline: float | Tensor,
    *,
    insert: bool,
) -> Curve:
    if steps < 1:
        raise LearnerError(f"steps={steps}. Expected at least 1.")
    with examining(model, x) as (model, x), torch.no_grad():
        maps, cover = _check_maps(maps, x), expand_baseline(baseline, x)
        index = resolve_target(target, compute_scores(model, x))
        # Stable: pixels of equal weight go in reading order, so a constant map is a fair, dull control.
        order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
        places = torch.arange(order.shape[1], device=x.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(1, order, places).view(len(x), 1, *x.shape[2:])
        shares = torch.linspace(0, 1, steps + 1, dtype=x.dtype, device=x.device)
        rows = []
        at_once = max(1, 16 // len(x))
        for part in progress(shares.split(at_once), desc="insertion" if insert else "deletion"):
            counts = [round(share * order.shape[1]) for share in part.tolist()]
            changed = rank < torch.tensor(counts, device=x.device).view(-1, 1, 1, 1, 1)  # (S, N, 1, H, W)
            pictures = torch.where(changed == insert, x, cover).flatten(0, 1)
            probability = compute_scores(model, pictures).softmax(1)
            rows.append(select_scores(probability, index.repeat(len(part))).view(len(part), len(x)))
        return Curve(shares, torch.cat(rows).T)


def deletion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    steps: int = 20,
    baseline: float | Tensor = 0.0,
) -> Curve:
    """Return the class probability while pixels vanish, the map's strongest first: a good map loses it early.

    Petsiuk, Das and Saenko 2018 (RISE).

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        maps: One map per image (N, H, W), as attributions return.
        target: The class to explain: one, one per image, or None for the class that the model finds.
        steps: In how many steps of equally many pixels.
        baseline: What a vanished pixel becomes, in preprocessed values: a number or a tensor that broadcasts
            to x.

    Returns:
        The `shares` (steps + 1,) of vanished pixels, the `scores` (N, steps + 1) and their `area` (N,).

    Raises:
        LearnerError: If the maps do not fit x or are not finite, `steps` is below 1, there is no such class,
            or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> x = torch.randn(2, 3, 16, 16)
        >>> explain.deletion(model, x, x.abs().amax(1), steps=4).scores.shape
        torch.Size([2, 5])
    """
    return _curve(model, x, maps, target, steps, baseline, insert=False)


def insertion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    steps: int = 20,
    baseline: float | Tensor = 0.0,
) -> Curve:
    """Return the class probability while pixels appear, the map's strongest first: a good map finds it early.

    Petsiuk, Das and Saenko 2018 (RISE).

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        maps: One map per image (N, H, W), as attributions return.
        target: The class to explain: one, one per image, or None for the class that the model finds.
        steps: In how many steps of equally many pixels.
        baseline: What stands there before, in preprocessed values: a number, or a tensor such as a blurred x.

    Returns:
        The `shares` (steps + 1,) of shown pixels, the `scores` (N, steps + 1) and their `area` (N,).

    Raises:
        LearnerError: If the maps do not fit x or are not finite, `steps` is below 1, there is no such class,
            or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> x = torch.randn(2, 3, 16, 16)
        >>> explain.insertion(model, x, x.abs().amax(1), steps=4).area.shape
        torch.Size([2])
    """
    return _curve(model, x, maps, target, steps, baseline, insert=True)


def cascading_randomization(
    model: nn.Module,
    x: Tensor,
    method: Callable[..., Tensor],
    target: Target = None,
    *,
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    """Return how similar a map stays while the stages of a copy get random weights one after the other.

    From the head to the stem each stage's weights are replaced by random ones of the same mean and spread, on
    top of those before, and the map is compared with that of the trained model by Spearman's correlation of
    the absolute values. A map that stays similar (near 1) shows the picture, not what the network learned. A
    constant map counts as 0. Adebayo et al. 2018, "Sanity checks for saliency maps".

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        method: The attribution, called as `method(copy, x, target, **options)`.
        target: The class to explain: one, one per image, or None for the class that the model finds.
        seed: Of the random weights.
        **options: Passed on to the method.

    Returns:
        {stage: rank correlation (N,)}, the head first.

    Raises:
        LearnerError: If there is no such class, or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> from tlutils.explain import saliency
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> list(explain.cascading_randomization(model, torch.randn(2, 3, 16, 16), saliency))
        ['head', 'stage2', 'stage1']
    """
    with examining(model, x) as (bare, x), torch.no_grad():
        index = resolve_target(target, compute_scores(bare, x))
        forgetful = copy.deepcopy(bare)
    before = method(forgetful, x, index, **options).abs().flatten(1).cpu()
    result = {}
    with seeded(seed), expecting_empty():
        for stage in progress(list(reversed(stages(forgetful, x))), desc="cascade"):
            own = set(stage.parameters)
            fresh = [p for name, p in forgetful.named_parameters() if name in own]
            if not fresh:
                continue
            with torch.no_grad():
                for parameter in fresh:
                    spread = parameter.std() if parameter.numel() > 1 else parameter.abs().sum()
                    parameter.copy_(parameter.mean() + spread * torch.randn(parameter.shape).to(parameter))
            after = method(forgetful, x, index, **options).abs().flatten(1).cpu()
            result[stage.name] = torch.tensor(
                [_rank_correlation(a, b) for a, b in zip(before, after, strict=True)]
            )
    return result


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    from scipy.stats import spearmanr

    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(np.nan_to_num(spearmanr(a.double().numpy(), b.double().numpy()).statistic))


@dataclass(frozen=True)
class HitRate:
    """How often the peak of a map is in its box.

    Attributes:
        hits: Whether each map's peak is in its box (N,).
        rate: The share of hits.
        low: The lower end of its 95 % Wilson interval.
        high: The upper end.
    """

    hits: Tensor
    rate: float
    low: float
    high: float


def pointing_game(maps: Tensor, boxes: Tensor | list[Any]) -> HitRate:
    """Return how often the strongest pixel of a map lies in its box, with a 95 % interval. Zhang et al. 2016.

    Args:
        maps: One map per image (N, H, W).
        boxes: One box per map (N, 4), as (left, top, right, bottom) in pixels; right and bottom are excluded.

    Returns:
        The `hits` (N,), their `rate`, and the ends `low` and `high` of its Wilson interval.

    Raises:
        LearnerError: If there is not one box per map.

    Example:
        >>> import torch
        >>> from tlutils import explain
        >>> maps = torch.stack([torch.eye(4), -torch.eye(4)])
        >>> explain.pointing_game(maps, [(0, 0, 1, 1)] * 2).hits
        tensor([ True, False])
    """
    boxes = torch.as_tensor(boxes)
    if maps.ndim != 3 or boxes.shape != (len(maps), 4) or not len(maps):
        raise LearnerError(
            f"maps {tuple(maps.shape)}, boxes {tuple(boxes.shape)}. Expected (N, H, W) and (N, 4): one box "
            "per map."
        )
    peak = maps.flatten(1).argmax(1).cpu()
    row, column = peak // maps.shape[2], peak % maps.shape[2]
    left, top, right, bottom = boxes.cpu().unbind(1)
    hits = (top <= row) & (row < bottom) & (left <= column) & (column < right)
    return HitRate(hits, *wilson_interval(hits.numpy()))
