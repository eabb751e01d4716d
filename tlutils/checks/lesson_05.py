"""Checks of the exercises in lesson 05, the decision matrix."""

from collections.abc import Callable, Mapping

import numpy as np

from ..intervals import two_way_mean
from .common import attempt, judge_number

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
    if choose is None:
        print("Not written yet. Take the best mean, then walk from the cheapest to the first that ties.")
        return
    said = {}
    for name, case in _cases().items():
        try:
            said[name] = choose({strategy: table.copy() for strategy, table in case.items()})
        except Exception as error:  # the learner's own code: whatever it raises is said in words
            print(f"Your function stopped with {type(error).__name__}: {error}")
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
    if is_fair is None:
        print(f"Not written yet. {todo}")
        return
    below, level, above, bar = _hits(0.4, 0.66, 0.9, 0.7, noise=0.3)
    said = [attempt(is_fair, table, bar, todo=todo) for table in (below, level, above)]
    if any(answer is None for answer in said):
        return
    sure, noise, ahead = map(bool, said)  # type: ignore[arg-type]
    if not ahead:
        print("You stop a network that is ahead of the pixels: only one that is surely below is unfair.")
    elif sure:
        print("You let a network through that is far below the pixels for every seed.")
    elif not noise:
        print("You stop a network that is below by less than the noise. Is the whole interval below 0?")
    else:
        print("Right: stopped only where the whole interval is below 0.")


def check_endless_seeds(answer: float | None, hits: np.ndarray) -> None:
    """Print whether `answer` is half the 95 % interval that endlessly many seeds on these judges would leave.

    Args:
        answer: The learner's number; None where nothing was answered.
        hits: The hits so far (seeds, judges).

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_05
        >>> lesson_05.check_endless_seeds(0.0, np.array([[1, 1, 0, 0, 1, 0], [1, 1, 0, 1, 1, 0.0]]))
        That is the seeds' share alone. The judges stay the same, and so does their luck.
    """
    seeds, judges = hits.shape
    by_judge = hits.mean(0)
    of_judges = seeds * by_judge.var(ddof=1)
    rest = ((hits - hits.mean(1, keepdims=True) - by_judge + hits.mean()) ** 2).sum()
    left = rest / ((seeds - 1) * (judges - 1))

    def half(variance: float) -> float:
        return float(1.96 * np.sqrt(max(variance, 0) / (seeds * judges)))

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
        },
        todo="Which part of the variance has no seeds in it?",
        praise="more seeds can't make it narrower; more judges can.",
        hint="Of the three mean squares the seeds' own vanishes with endless seeds; two are left.",
    )
