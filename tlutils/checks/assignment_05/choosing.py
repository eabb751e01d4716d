"""Checks of an interval over photographs, and of the choice that is made with it.

Each of the usual mistakes is made here, too, and an answer is compared with what it gives.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit  # Student's t, without the second that scipy.stats takes to import

from ..common import Mistake, answer

Row = dict[str, Any]
Interval = Callable[[np.ndarray, np.ndarray], tuple[float, float, float]]


def over_photographs(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over photographs of the mean over their images, with the ends of its 95% interval."""
    return _t_interval(_means(values, groups))


def over_images(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over images and the ends of an interval that takes each for evidence of its own."""
    return _t_interval(np.asarray(values, dtype=float))


def _means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    _, place = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(place, weights=values) / np.bincount(place))


def _t_interval(values: np.ndarray, t: float | None = None, ddof: int = 1) -> tuple[float, float, float]:
    n = len(values)
    t = float(stdtrit(n - 1, 0.975)) if t is None else t
    mean, reach = float(values.mean()), t * float(values.std(ddof=ddof)) / n**0.5
    return mean, mean - reach, mean + reach


def _photographs(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return the photograph of each image: n photographs with one to five images."""
    groups = np.repeat([f"p{k:02d}" for k in range(n)], rng.integers(1, 6, n))
    return rng.permutation(groups)


def check_interval(interval: Callable[[Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function gives a mean over photographs with its interval, or raise the mistake.

    Args:
        interval: The learner's `function(values, groups)`, which returns mean, low, high.
        seed: The values and groups of the check are drawn from it.

    Raises:
        Mistake: If images of one photograph are taken for independent, or the interval is another.

    Example:
        >>> from scipy import stats
        >>> from tlutils.checks import assignment_05
        >>> def over_all_images(values, groups):
        ...     reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        ...     return values.mean(), values.mean() - reach, values.mean() + reach
        >>> assignment_05.check_interval(over_all_images)
        Traceback (most recent call last):
        tlutils.checks.Mistake: Each image counts as evidence of its own, so that the interval is too narrow:
        images of one photograph are right or wrong together. Take the mean of each photograph first.
    """
    rng = np.random.default_rng(seed)
    groups = _photographs(rng, 9 + seed % 3)
    hard = {name: rng.uniform(0.2, 1) for name in np.unique(groups)}
    values = np.array([float(rng.random() < hard[name]) for name in groups])
    found = answer(interval, values.copy(), groups.copy(), todo="Return three numbers: mean, low, high.")
    if not isinstance(found, tuple | list | np.ndarray) or len(found) != 3:
        raise Mistake("Return three numbers: mean, low, high.")
    means = _means(values, groups)
    n, right = len(means), _t_interval(means)
    std = float(means.std(ddof=1))
    sums = np.array([values[groups == name].sum() for name in np.unique(groups)])

    def around(reach: float, mean: float = right[0]) -> tuple[float, float, float]:
        return mean, mean - reach, mean + reach

    t = float(stdtrit(n - 1, 0.975))
    whole = _t_interval(values)
    mistakes: dict[str, Sequence[Any]] = {
        "Each image counts as evidence of its own, so that the interval is too narrow: images of one "
        "photograph are right or wrong together. Take the mean of each photograph first.": [
            whole,
            _t_interval(values, 1.96),
            around(t * values.std(ddof=1) / len(values) ** 0.5, values.mean()),
        ],
        "The mean is that of the images, in which a photograph with many of them counts more. Take the mean "
        "of the photographs' means.": [around(right[2] - right[0], values.mean())],
        "The photographs' means were divided by the root of the number of *images*.": [
            around(t * std / len(values) ** 0.5)
        ],
        "1.96 is for many. With so few photographs Student's t is larger.": [_t_interval(means, 1.96)],
        "The standard deviation was divided by n: ddof=1.": [_t_interval(means, t, 0)],
        "t for 0.95 leaves 5% on one side alone: both sides together take 0.975.": [
            _t_interval(means, float(stdtrit(n - 1, 0.95)))
        ],
        "t has n - 1 degrees of freedom, and n is how many photographs there are.": [
            _t_interval(means, float(stdtrit(df, 0.975))) for df in (n, len(values) - 1, len(values))
        ],
        "That is the spread of single photographs: divide by the root of their number.": [around(t * std)],
        "That is one standard error, without the factor of Student's t.": [around(std / n**0.5)],
        "Photographs were added up: one with more images counts more. Take means.": [_t_interval(sums)],
        "low lies above high.": [(right[0], right[2], right[1])],
        "The numbers are in percent: leave them between 0 and 1.": [tuple(100 * x for x in right)],
        "The mean comes first, then low and high.": [(right[1], right[0], right[2])],
    }
    _recognise(found, right, mistakes, "The interval is another. Try it on three photographs, by hand.")
    print("Right: the mean of the photographs' means, by Student's t.")


def _recognise(found: Any, right: Any, mistakes: Mapping[str, Sequence[Any]], otherwise: str) -> None:
    """Raise the mistake that gives the numbers that were found, where they are not the right ones."""

    def same(wanted: Any) -> bool:
        return bool(np.allclose(np.asarray(found, dtype=float), wanted, rtol=0, atol=1e-6))

    if not same(right):
        raise Mistake(next((m for m, known in mistakes.items() if any(map(same, known))), otherwise))


def _by(
    table: Sequence[Row],
    groups: np.ndarray,
    cost: Mapping[str, int],
    *,
    seeds: Callable[[list[Any]], Any] = lambda runs: np.mean(runs, axis=0),
    mean: Interval = over_photographs,
    interval: Interval = over_photographs,
    ties: str = "paired",
    of_ties: Callable[..., str] = min,
) -> str:
    """Return the strategy that is chosen as the exercise says, or with one of its steps made another way."""
    rights = {name: seeds([row["right"] for row in table if row["strategy"] == name]) for name in cost}
    best = max(rights, key=lambda name: mean(rights[name], groups)[0])
    if ties == "none":
        return best
    low = mean(rights[best], groups)[1]
    closeness: dict[str, Callable[[str], bool]] = {
        "paired": lambda name: interval(rights[best] - rights[name], groups)[1] <= 0,
        "apart": lambda name: interval(rights[name], groups)[2] >= interval(rights[best], groups)[1],
        "inside": lambda name: mean(rights[name], groups)[0] >= low,
        "every": lambda name: True,
        "beyond": lambda name: interval(rights[best] - rights[name], groups)[1] >= 0,
    }
    close = [name for name in rights if name == best or closeness[ties](name)]
    return of_ties(close, key=lambda name: cost[name])


WRONG: dict[str, dict[str, Any]] = {
    "The largest mean was taken, ties or not: where the interval of a paired difference holds 0, the cheaper "
    "one will do.": {"ties": "none"},
    "The cheapest was taken, however much worse it is: among ties alone.": {"ties": "every"},
    "Two intervals that overlap are not yet a tie: both strategies saw the same images. Take the interval of "
    "the differences, image by image.": {"ties": "apart"},
    "A mean inside the interval of the best is not yet a tie: take the interval of the differences, image by "
    "image.": {"ties": "inside"},
    "Among ties the most expensive was taken.": {"of_ties": max},
    "The interval of the difference takes each image for evidence of its own: hand `groups` to `interval`.": {
        "interval": over_images
    },
    "The best was found by the mean over images: the mean over photographs is `interval`'s first.": {
        "mean": over_images
    },
    "Nothing was done by photographs: hand `groups` to `interval`.": {
        "mean": over_images,
        "interval": over_images,
    },
    "One run of each strategy was used: take the mean over seeds, image by image.": {
        "seeds": lambda runs: runs[0]
    },
    "The last run of each strategy was used: take the mean over seeds, image by image.": {
        "seeds": lambda runs: runs[-1]
    },
    "The best run of each strategy was used. One lucky seed is not a strategy: take the mean over seeds.": {
        "seeds": lambda runs: max(runs, key=lambda right: float(np.mean(right)))
    },
    "An image counts as right if any run was right: take the mean over seeds.": {
        "seeds": lambda runs: np.max(runs, axis=0)
    },
    "What is clearly worse was taken for a tie: a tie is where the interval of the difference holds 0.": {
        "ties": "beyond"
    },
}


Table = tuple[list[Row], np.ndarray, dict[str, int]]


@functools.cache
def _tables(seed: int) -> tuple[list[Table], dict[str, list[str]]]:
    """Return invented tables that tell all mistakes apart, and what each of these chooses; "" is right."""
    rng = np.random.default_rng(seed)
    ways: dict[str, dict[str, Any]] = {"": {}} | WRONG
    tables: list[Table] = []
    chosen: dict[str, list[str]] = {text: [] for text in ways}
    alike = set(itertools.combinations(ways, 2))
    for _ in range(400):
        table = _table(rng)
        found = {text: _by(*table, **ways[text]) for text in set(itertools.chain(*alike))}
        apart = {(one, other) for one, other in alike if found[one] != found[other]}
        if apart:
            tables.append(table)
            alike -= apart
            for text, how in ways.items():
                chosen[text].append(_by(*table, **how))
        if not alike:
            break
    return tables, chosen


def _table(rng: np.random.Generator) -> Table:
    """Return runs of four strategies on photographs with few or many images, in which one is the best."""
    groups = rng.permutation(np.repeat([f"p{k:02d}" for k in range(16)], rng.choice([1, 2, 9], 16)))
    hard = {name: rng.random() for name in np.unique(groups)}
    names = [str(name) for name in rng.permutation(["majority", "probe", "partial", "finetune"])]
    table = []
    for name in names:
        skill = rng.uniform(0.3, 0.95)
        table += [{"strategy": name, "seed": k, "right": _right(rng, skill, hard, groups)} for k in range(3)]
    cost = {name: int(place) for name, place in zip(names, rng.permutation(4) * 10, strict=True)}
    means = sorted(over_photographs(_mean_of(table, name), groups)[0] for name in names)
    if means[-1] - means[-2] < 1e-6:
        return _table(rng)
    return [table[i] for i in rng.permutation(len(table))], groups, cost


def _mean_of(table: Sequence[Row], name: str) -> np.ndarray:
    return np.mean([row["right"] for row in table if row["strategy"] == name], axis=0)


def _right(rng: np.random.Generator, skill: float, hard: Mapping[str, float], groups: Any) -> np.ndarray:
    """Return 1 or 0 for each image; those of one photograph are mostly alike."""
    known = {name: float(hard[name] + rng.normal(0, 0.25) < skill) for name in np.unique(groups)}
    return np.array([known[name] if rng.random() < 0.9 else 1 - known[name] for name in groups])


def check_choose(choose: Callable[[Any, Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function chooses a strategy as the exercise says, or raise the mistake.

    Args:
        choose: The learner's `function(table, groups, cost)`, which returns the name of a strategy.
        seed: The tables of the check are drawn from it.

    Raises:
        Mistake: If another strategy is chosen in one of the tables.

    Example:
        >>> from tlutils.checks import assignment_05
        >>> assignment_05.check_choose(lambda table, groups, cost: min(cost, key=cost.get))
        Traceback (most recent call last):
        tlutils.checks.Mistake: The cheapest was taken, however much worse it is: among ties alone.
    """
    tables, chosen = _tables(seed)
    todo = "Return the name of a strategy."
    found = [
        answer(choose, [dict(row) for row in table], groups.copy(), dict(cost), todo=todo)
        for table, groups, cost in tables
    ]
    names = sorted(tables[0][2])
    odd = next((name for name in found if not isinstance(name, str) or name not in names), None)
    if odd is not None:
        raise Mistake(f"{odd!r} came back, which is not a strategy of the table: {', '.join(names)}.")
    share = sum(a != b for a, b in zip(found, chosen[""], strict=True))
    otherwise = (
        f"In {share} of {len(tables)} invented tables another strategy was to be chosen. The largest "
        "mean over seeds and photographs; of those whose paired difference to it holds 0, the cheapest."
    )
    if share:
        raise Mistake(next((text for text, said in chosen.items() if said == found), otherwise))
    print("Right: by the mean over photographs, and among ties the cheapest.")
