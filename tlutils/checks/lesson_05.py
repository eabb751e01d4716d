"""Checks of the exercises in lesson 05, the decision matrix."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from .. import runtime
from ..intervals import two_way_mean
from .common import attempt, is_close, judge, judge_number

Hits = Mapping[str, np.ndarray]


def _hits(*skills: float, noise: float = 0.0, seeds: int = 4, judges: int = 80) -> list[np.ndarray]:
    """Return tables of hits on the same judges, some of whom are harder than others, under the same seeds."""
    rng = np.random.default_rng(5)
    hard = rng.permutation(judges) / judges
    return [
        (hard + noise * rng.normal(size=(seeds, judges)) < skill + 0.05 * rng.normal(size=(seeds, 1))).astype(
            float
        )
        if noise
        else np.tile(hard < skill, (seeds, 1)).astype(float)
        for skill in skills
    ]


def _cases() -> dict[str, dict[str, np.ndarray]]:
    """Return hits of strategies, the cheapest first; each mistake chooses another than it should in one."""
    names = ("probe", "partial", "finetune")
    return {
        "tie": dict(zip(names, _hits(0.70, 0.71, 0.72, noise=0.4), strict=True)),
        "pairs": dict(zip(names, _hits(0.60, 0.61, 0.72), strict=True)),
        "clear": dict(zip(names, _hits(0.30, 0.60, 0.90), strict=True)),
    }


def check_cheapest(choose: Callable[[Hits], str] | None) -> None:
    """Print whether a function names the cheapest strategy that is not surely worse than the best.

    Surely worse: the whole 95 % interval of the differences from the strategy with the best mean, image by
    image, lies below 0.

    Args:
        choose: The learner's `choose(hits)`, where `hits` maps a strategy to its table of hits (seeds,
            judges), the cheapest first: the name of one.

    Example:
        >>> from tlutils.checks import lesson_05
        >>> lesson_05.check_cheapest(lambda hits: max(hits, key=lambda name: hits[name].mean()))
        You chose by the mean alone. There it leads by less than the noise: the cheaper one ties.
    """
    todo = "Take the best mean, then walk from the cheapest to the first that ties."
    said: dict[str, Any] = {}
    for name, case in _cases().items():
        given = {strategy: table.copy() for strategy, table in case.items()}
        said[name] = attempt(choose, given, todo=todo)
        if said[name] is None:
            return
        if said[name] not in case:
            print(f"Your function gave {said[name]!r}. Expected one of {', '.join(case)}.")
            return
    if said["clear"] != "finetune":
        print("You keep a cheaper one even where it is far behind for every seed.")
    elif said["tie"] != "probe":
        print("You chose by the mean alone. There it leads by less than the noise: the cheaper one ties.")
    elif said["pairs"] != "finetune":
        print(
            "Some judges are harder than others, and that swamps the difference. Subtract image by image "
            "first, then make the interval."
        )
    else:
        print("Right: image by image first, then the interval, and among ties the cheapest.")


def check_gate(is_fair: Callable[[np.ndarray, np.ndarray], bool] | None) -> None:
    """Print whether a function lets a network from scratch through unless it is surely below the pixels.

    Args:
        is_fair: The learner's `is_fair(scratch, pixels)` of two tables of hits (seeds, judges).

    Example:
        >>> from tlutils.checks import lesson_05
        >>> lesson_05.check_gate(lambda scratch, pixels: scratch.mean() >= pixels.mean())
        You stop a network that is below by less than the noise. Is the whole interval below 0?
    """
    todo = "Make the interval of the differences, image by image; where does its upper end lie?"
    below, level, above, bar = _hits(0.4, 0.66, 0.9, 0.7, noise=0.3)
    said = []
    for table in (below, level, above):
        said.append(attempt(is_fair, table, bar, todo=todo))
        if said[-1] is None:
            return
    sure, noise, ahead = map(bool, said)
    if not ahead:
        print("You stop a network that is ahead of the pixels: only one that is surely below is unfair.")
    elif sure:
        print("You let a network through that is far below the pixels for every seed.")
    elif not noise:
        print("You stop a network that is below by less than the noise. Is the whole interval below 0?")
    else:
        print("Right: stopped only where the whole interval is below 0.")


def check_endless_seeds(half_width: Callable[[np.ndarray], Any]) -> None:
    """Print whether a function gives half the interval that endlessly many seeds on these judges leave.

    Args:
        half_width: The learner's function of a table of hits (seeds, judges): one number.

    Example:
        >>> from tlutils.checks import lesson_05
        >>> lesson_05.check_endless_seeds(lambda hits: 0.0)
        That is the seeds' share alone. The judges stay the same, and so does their luck.
    """
    (hits,) = _hits(0.6, noise=0.3)
    (seeds, judges), by_judge = hits.shape, hits.mean(0)
    of_judges = seeds * by_judge.var(ddof=1)
    rest = ((hits - hits.mean(1, keepdims=True) - by_judge + hits.mean()) ** 2).sum()
    left = rest / ((seeds - 1) * (judges - 1))

    def half(variance: float) -> float:
        return float(1.96 * np.sqrt(variance / (seeds * judges)))

    todo = "Which part of the variance has no seeds in it?"
    answer: Any = attempt(half_width, hits.copy(), todo=todo)
    if answer is None:
        return
    now = two_way_mean(hits).interval()
    judge_number(
        answer,
        half(of_judges - left),
        {
            0.0: "That is the seeds' share alone. The judges stay the same, and so does their luck.",
            half(
                of_judges
            ): "What is left over, seed by seed and judge by judge, averages out with more seeds, too.",
            (now.high - now.low) / 2: "That is half the interval of the seeds that you have.",
            2 * half(of_judges - left): "That is the whole interval. How wide is half of it?",
            half(of_judges - left) / 1.96: "That is the standard error. Half the interval is 1.96 of them.",
            half(seeds * by_judge.var() - left): "Nearly: a mean square divides by the number of judges - 1.",
        },
        todo=todo,
        praise="more seeds can't make it narrower; more judges can.",
        hint="Of the three mean squares the seeds' own vanishes with endless seeds; two are left.",
    )


def check_layer_gap(layer_gap: Callable[..., Any]) -> None:
    """Print whether a function measures how far images are from a BatchNorm layer's, or which mistake it is.

    Args:
        layer_gap: The learner's `layer_gap(z, mean, var)` for what enters the layer (images, channels,
            height, width) and its kept mean and variance (channels,): the median over channels of the squared
            Fréchet distance in units of the kept variance.

    Example:
        >>> from tlutils.checks import lesson_05
        >>> lesson_05.check_layer_gap(lambda z, mean, var: 0.0)
        Not yet: the shape is right and the numbers are not. Try it on a small example, by hand.
    """
    with runtime.seeded(0):
        wide = torch.tensor([0.4, 1.0, 2.0, 3.0, 0.7])[:, None, None]
        z = torch.randn(6, 5, 4, 4) * wide + torch.arange(5.0)[:, None, None] + 2 * torch.randn(6, 1, 1, 1)
        mean, var = torch.rand(5), 0.5 + 4 * torch.rand(5)
    flat, std = z.transpose(0, 1).flatten(1), var.sqrt()
    images = z.mean((2, 3))

    def gap(own_mean: Any, own_std: Any, unit: Any = var, kept: Any = std) -> Any:
        return ((own_mean - mean) ** 2 + (own_std - kept) ** 2) / unit

    told = gap(flat.mean(1), flat.std(1))
    biased = gap(flat.mean(1), flat.std(1, correction=0))
    found = attempt(layer_gap, z.clone(), mean.clone(), var.clone(), todo="Return one number.")
    if found is not None and is_close(found, biased.median()):
        found = told.median()
    judge(
        found,
        told.median(),
        {
            "That is the mean over channels: a few wild ones decide it. Take the median.": told.mean(),
            "One number for each channel: now take their median.": (told, biased),
            "The kept variance stands where its root, the standard deviation, belongs.": tuple(
                gap(flat.mean(1), own, kept=var).median() for own in (flat.std(1), flat.var(1))
            ),
            "Divided by the standard deviation: the unit is the variance, its square.": gap(
                flat.mean(1), flat.std(1), unit=std
            ).median(),
            "Not divided by the kept variance.": gap(flat.mean(1), flat.std(1), unit=1.0).median(),
            "The gap of the standard deviations is missing.": gap(flat.mean(1), std).median(),
            "The gap of the means is missing.": gap(mean, flat.std(1)).median(),
            "Mean and standard deviation are over images *and* places: you averaged over places first.": gap(
                images.mean(0), images.std(0)
            ).median(),
            "One mean for all channels: each has its own.": gap(z.mean(), z.std()).median(),
        },
        praise="in units of what the layer was used to.",
    )
