"""Checks of what a decision matrix is made of: draws of labels, paired intervals, a verdict for each cell."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..common import Mistake, answer, is_close, require

Row = dict[str, Any]

# What runs reach with each of 20 seeds, and more; benchmarks/assignments.py measures it.
BAND = 0.5  # mean accuracy on photographs of ImageNet's kind, with the most labels
DISTINCT = 6  # different accuracies in the whole table


def check_draw(draw: Callable[[Any, int, int], Any], *, seed: int = 0) -> None:
    """Print that a function draws labelled images fairly, or raise the mistake.

    Args:
        draw: The learner's `function(labels, per_class, seed)`, which returns row numbers.
        seed: The labels of the check are drawn from it.

    Raises:
        Mistake: If classes get different numbers, or a draw does not repeat or is not within larger ones.

    Example:
        >>> from tlutils.checks import assignment_04
        >>> assignment_04.check_draw(lambda labels, per_class, seed: range(2 * per_class))
        Traceback (most recent call last):
        tlutils.checks.Mistake: Each class is to have 3 images, and these have 6, 0, 0: draw within each
        class.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [9 + seed % 3, 20, 31])
    given = labels.copy()
    np.random.seed(seed)  # noqa: NPY002  (a learner may use the global generator)
    todo = "Return the row numbers that were drawn."
    calls = [(3, 0), (3, 0), (3, 1), (6, 0), (3, 2)]
    found = [answer(draw, labels, n, int(rng.integers(1) + s), todo=todo) for n, s in calls]
    drawn = [np.array(rows if isinstance(rows, np.ndarray) else list(rows)) for rows in found]  # type: ignore
    if any(rows.ndim != 1 or rows.dtype.kind not in "iu" for rows in drawn):
        raise Mistake("Return row numbers: whole numbers, in one dimension.")
    if any(len(rows) and (rows.min() < 0 or rows.max() >= len(labels)) for rows in drawn):
        raise Mistake("A row number lies outside the images.")
    counts = [np.bincount(labels[rows], minlength=3) for rows in drawn]
    sets = [set(map(int, rows)) for rows in drawn]
    first = [int(row) for c in range(3) for row in np.flatnonzero(given == c)[:3]]
    require(
        {
            "The labels that arrived were changed.": not np.array_equal(labels, given),
            "An image was drawn twice: draw without replacement.": any(
                len(s) < len(r) for s, r in zip(sets, drawn, strict=True)
            ),
            f"3 images of each of 3 classes are 9, and these are {len(drawn[0])}.": len(drawn[0]) == 3,
            f"Each class is to have 3 images, and these have {', '.join(map(str, counts[0]))}: draw within "
            "each "
            "class.": any((c != n).any() for c, (n, _) in zip(counts, calls, strict=True)),
            "It always takes the first images of each class: files are sorted by something, and seeds change "
            "nothing. Draw.": sets[0] == set(first),
            "The same seed gave two different draws: make a generator from the seed, in the function.": sets[
                0
            ]
            != sets[1],
            "Another seed gave the same draw: hand the seed to the generator.": sets[0] == sets[2] == sets[4],
            "The 3 images of each class are not among the 6 of the same seed: then more labels are also "
            "other labels. "
            "Shuffle each class once, and take the first ones.": not sets[0] <= sets[3],
        },
        praise="as many of each class, again with the same seed, and small draws within large ones.",
    )


def check_paired(paired: Callable[[Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function gives the mean difference of paired runs with its interval, or raise the mistake.

    Args:
        paired: The learner's `function(one, other)` of arrays with a value for each draw; returns
            mean, low, high.
        seed: The values of the check are drawn from it.

    Raises:
        Mistake: If runs are not compared draw by draw, or the interval is another.

    Example:
        >>> from tlutils.checks import assignment_04
        >>> def normal(one, other):
        ...     mean, error = (one - other).mean(), (one - other).std(ddof=1) / len(one) ** 0.5
        ...     return mean, mean - 1.96 * error, mean + 1.96 * error
        >>> assignment_04.check_paired(normal)
        Traceback (most recent call last):
        tlutils.checks.Mistake: 1.96 is for many runs. With five, Student's t has 2.78: an interval by 1.96
        misses far more often than it says.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(5)  # each of the usual mistakes has a spread of its own with these values
    difference = np.array([0.02, 0.11, 0.03, 0.06, 0.01])[order] * (1 + 0.001 * (seed % 9))
    other = np.array([0.55, 0.62, 0.63, 0.74, 0.75])[order]
    one = other + difference
    found = answer(paired, one.copy(), other.copy(), todo="Return three numbers: mean, low, high.")
    if not isinstance(found, tuple | list | np.ndarray) or len(found) != 3:
        raise Mistake("Return three numbers: mean, low, high.")
    mean, low, high = (float(value) for value in found)
    right, std, t = difference.mean(), difference.std(ddof=1), 2.7764451
    unpaired = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 5)
    shuffled = (np.sort(one) - np.sort(other)).std(ddof=1) / 5**0.5

    def reaches(wanted: float) -> bool:
        return bool(abs((high - low) / 2 - wanted) < 0.002 * wanted)

    error = std / 5**0.5
    require(
        {
            "The difference is one minus other; yours is the other way round.": is_close(
                mean, torch.tensor(-right), 1e-6
            )
            and not is_close(mean, torch.tensor(right), 1e-6),
            "The first number is not the mean difference.": not is_close(mean, torch.tensor(right), 1e-6),
            "low lies above high.": low > high,
            "1.96 is for many runs. With five, Student's t has 2.78: an interval by 1.96 misses far more "
            "often than "
            "it says.": reaches(1.96 * error),
            "The runs are paired by their draw: take the interval of the differences. Two separate spreads "
            "have the luck "
            "of the draws in them.": any(reaches(f * unpaired) for f in (t, 1.96, 2.306004)),
            "t for 0.95 leaves 5% on one side alone: both sides together take 0.975.": reaches(
                2.1318468 * error
            ),
            "The values were sorted, and pairs torn apart: place i of both is draw i.": any(
                reaches(f * shuffled) for f in (t, 1.96)
            ),
            "That is the spread of single runs: divide by the root of their number.": reaches(t * std),
            "That is one standard error, without the factor of Student's t.": reaches(error),
            "The standard deviation was divided by n: with a handful of runs that is too small. "
            "ddof=1.": reaches(t * difference.std() / 5**0.5),
            "t has n - 1 degrees of freedom, not n.": reaches(2.5705818 * error),
            "The interval does not lie around the mean difference.": not np.isclose(
                (low + high) / 2, mean, atol=1e-6
            ),
            "high is not the mean plus t standard errors.": not reaches(t * error),
        },
        praise="draw by draw, by Student's t.",
    )


def _table(seed: int) -> tuple[list[Row], dict[tuple[str, int], str]]:
    """Return invented runs of two strategies in four cells, in no order, and the verdicts."""
    rng = np.random.default_rng(seed)
    # (data, labels) -> how much "late" is ahead of "early" in each draw, on val and on test
    ahead = {
        ("near", 5): ([0.10, 0.11, 0.10, 0.09, 0.10], -0.1),
        ("near", 40): ([0.02, -0.02, 0.03, -0.02, 0.00], 0.1),
        ("far", 5): ([0.30, -0.05, -0.05, -0.05, -0.06], 0.1),
        ("far", 40): ([-0.05, -0.06, -0.04, -0.05, -0.05], 0.1),
    }
    luck = rng.permutation([0.0, 0.15, -0.15, 0.3, -0.1])  # of a draw, larger than what is compared
    rows: list[Row] = []
    for (data, labels), (values, test) in ahead.items():
        for k, value in enumerate(values):
            early = 0.6 + float(luck[k])
            for strategy, val, on_test in (("early", early, 0.6), ("late", early + value, 0.6 + test)):
                rows.append(
                    {
                        "data": data,
                        "labels": labels,
                        "seed": k,
                        "strategy": strategy,
                        "val": val,
                        "test": on_test,
                    }
                )
    verdicts = {("near", 5): "late", ("near", 40): "a tie", ("far", 5): "a tie", ("far", 40): "early"}
    return [rows[i] for i in rng.permutation(len(rows))], verdicts


def check_decide(decide: Callable[[Any], Any], *, seed: int = 0) -> None:
    """Print that a function fills a decision matrix, or raise the mistake.

    Args:
        decide: The learner's `function(table)`, which returns {(data, labels): "early", "late" or "a tie"}.
        seed: The table of the check is drawn from it.

    Raises:
        Mistake: If a cell is missing, or has another verdict.

    Example:
        >>> from tlutils.checks import assignment_04
        >>> assignment_04.check_decide(lambda table: {("near", 5): "late"})
        Traceback (most recent call last):
        tlutils.checks.Mistake: 3 cells of the matrix are missing: each pair of data and labels in the table
        is one.
    """
    table, right = _table(seed)
    found = answer(decide, [dict(row) for row in table], todo="Return {(data, labels): verdict}.")
    if not isinstance(found, dict):
        raise Mistake(
            f"A {type(found).__name__} came back. Return a dictionary, {{(data, labels): verdict}}."
        )
    missing = set(right) - set(found)

    def verdict(data: str, labels: int) -> object:
        return found.get((data, labels))

    words = {word for word in found.values() if word not in ("early", "late", "a tie")}
    swap = {"early": "late", "late": "early", "a tie": "a tie"}
    by_mean = {("near", 5): "late", ("near", 40): "late", ("far", 5): "late", ("far", 40): "early"}
    require(
        {
            f"{len(missing)} cells of the matrix are missing: each pair of data and labels in the table is "
            "one.": bool(missing),
            f"There are {len(found)} verdicts, and 4 cells.": len(found) > 4,
            f"{next(iter(words), '')!r} is not a verdict: early, late, or a tie.": bool(words),
            "Early and late are the wrong way round.": found
            == {cell: swap[word] for cell, word in right.items()},
            "The verdicts are those of the test column: a matrix that advises is made with val.": verdict(
                "near", 5
            )
            == "early"
            and verdict("far", 40) == "late",
            "The larger mean wins in each cell: where the interval of the difference holds 0, it is a "
            "tie.": found == by_mean,
            "All cells have one verdict: were they pooled? Each cell has rows of its own.": len(
                set(found.values())
            )
            == 1
            and verdict("near", 5) != "a tie",
            "Differences that every draw shows were called a tie. Pair the runs by their seed: the rows of "
            "the table "
            "stand in no order.": verdict("near", 5) == "a tie" or verdict("far", 40) == "a tie",
            "One large lucky draw of five is not a difference: take the interval over all draws.": verdict(
                "far", 5
            )
            != "a tie",
            "Means that differ by less than their noise are a tie.": found != right,
        },
        praise="a verdict for each cell, from paired runs, and ties are called ties.",
    )


def check_experiment(table: Sequence[Row], decisions: Mapping[tuple[str, int], str]) -> None:
    """Print that an experiment fills every cell with paired runs, or raise the mistake.

    Args:
        table: Its rows, with data, labels, seed, strategy and val.
        decisions: The verdict of each cell.

    Raises:
        Mistake: If runs are missing or impossible, or a cell has no verdict.

    Example:
        >>> from tlutils.checks import assignment_04
        >>> assignment_04.check_experiment([], {})
        Traceback (most recent call last):
        tlutils.checks.Mistake: The table has no run. Run the experiment first.
    """
    if not table:
        raise Mistake("The table has no run. Run the experiment first.")
    keys = [(row["data"], row["labels"], row["seed"], row["strategy"]) for row in table]
    cells = {key[:2] for key in keys}
    seeds = {key[2] for key in keys}
    whole = {(*cell, k, name) for cell in cells for k in seeds for name in ("early", "late")}
    values = [row["val"] for row in table]
    most = max((labels for data, labels in cells if data == "scenes"), default=0)
    near = [row["val"] for row in table if (row["data"], row["labels"]) == ("scenes", most)]
    require(
        {
            "A run is missing or doubled: both strategies, in each cell, with the same draws.": sorted(keys)
            != sorted(whole),
            "Four cells at least, and three draws: else there is no matrix and no interval.": len(cells) < 4
            or len(seeds) < 3,
            "An accuracy lies between 0 and 1.": not all(0 <= value <= 1 for value in values),
            "All runs are alike: was each fit to its own draw?": len(set(values)) < DISTINCT,
            "Photographs of ImageNet's kind, with the most labels, give more than this: are labels and "
            "features of "
            "the same rows?": not near or float(np.mean(near)) < BAND,
            "A cell has no verdict, or a verdict has no cell.": set(decisions) != cells,
        },
        praise="every cell has its paired runs and its verdict.",
    )
