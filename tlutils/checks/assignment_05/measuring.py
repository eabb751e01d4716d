"""Checks of a split by photographs, of a table of strategies, and of the experiment made with both."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..common import Mistake, answer, require

Row = Mapping[str, Any]
Predict = Callable[[Tensor], Any]


class Part(NamedTuple):
    """Images of one side of a split, their labels, and the photograph that each was made from."""

    images: Tensor
    labels: np.ndarray
    groups: np.ndarray


def check_split(split: Callable[[Any, int], Any], *, seed: int = 0) -> None:
    """Print that a function keeps all images of a photograph on one side, or raise the mistake.

    Args:
        split: The learner's `function(groups, seed)`, which returns "train", "val" or "test" for each image.
        seed: How many images each photograph has is drawn from it.

    Raises:
        Mistake: If a photograph is on two sides, or the shares or the draw are others.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import assignment_05
        >>> def by_images(groups, seed):
        ...     return np.random.default_rng(seed).choice(["train", "val", "test"], len(groups))
        >>> assignment_05.check_split(by_images)
        Traceback (most recent call last):
        tlutils.checks.Mistake: Images of one photograph are on both sides: a network that has seen one of
        them knows the others. Draw photographs, and not images.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"{k:02d}" for k in range(25)], rng.integers(2, 7, 25))
    given, todo = groups.copy(), 'Return an array with "train", "val" or "test" for each image.'
    found = [answer(split, groups, k, todo=todo) for k in (0, 0, 1, 2)]
    if any(isinstance(sides, Mapping | str) or np.ndim(sides) != 1 for sides in found):  # type: ignore[arg-type]
        raise Mistake(f"A {type(found[0]).__name__} came back. {todo}")
    drawn = [np.array(sides).astype(str) for sides in found]
    unknown = sorted(set(drawn[0]) - {"train", "val", "test"})
    if len(drawn[0]) != len(groups):
        raise Mistake(f"{len(groups)} images arrived, and {len(drawn[0])} words came back. {todo}")
    of = [[{str(side) for side in sides[given == name]} for name in np.unique(given)] for sides in drawn]
    held = [{side: sum(s == {side} for s in photographs) for side in ("val", "test")} for photographs in of]
    share = np.isin(drawn[0], ["val", "test"]).mean()
    order = [min(s) for s in of[0]]
    require(
        {
            "The groups that arrived were changed.": not np.array_equal(groups, given),
            f"{unknown[:1]} is not a side: train, val, or test.": bool(unknown),
            "Images of one photograph are on both sides: a network that has seen one of them knows the "
            "others. Draw photographs, and not images.": any(len(s) > 1 for sides in of for s in sides),
            "No image is in val: without it the test images would choose.": held[0]["val"] == 0,
            "No image is on test: nothing is left to report on.": held[0]["test"] == 0,
            f"Of 25 photographs 5 belong to val and 5 to test; here are {held[0]['val']} and "
            f"{held[0]['test']} ({share:.0%} of the images).": any(
                side != {"val": 5, "test": 5} for side in held
            ),
            "The same seed gave two different splits: make a generator from the seed, in the function.": (
                drawn[0].tolist() != drawn[1].tolist()
            ),
            "The photographs were not shuffled. They are sorted, by class or by day, and so the sides differ "
            "in that.": order in (sorted(order), sorted(order, reverse=True))
            or sum(a != b for a, b in itertools.pairwise(order)) <= 3,
            "Another seed gave the same split: hand the seed to the generator.": drawn[0].tolist()
            == drawn[2].tolist()
            == drawn[3].tolist(),
        },
        praise="no photograph is on both sides, and the same seed gives the same split.",
    )


class _Strategies:
    """Two strategies that note what they are given; what they predict is known beforehand."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.fits: list[tuple[str, Tensor, np.ndarray, int, int]] = []
        self.asked: list[Tensor] = []

    def named(self, name: str) -> Callable[..., Predict]:
        def strategy(images: Tensor, labels: Any, budget: int, seed: int) -> Predict:
            self.fits.append((name, torch.as_tensor(images).clone(), np.array(labels), budget, seed))

            def predict(new: Tensor) -> np.ndarray:
                self.asked.append(new.clone())
                return self.chances(name, seed, new)

            return predict

        return strategy

    def chances(self, name: str, seed: int, new: Tensor) -> np.ndarray:
        """Return probabilities (images, classes); an image is known by its one pixel."""
        rows = [
            np.random.default_rng([len(name), seed, int(1000 * float(image.flatten()[0]))])
            for image in torch.as_tensor(new)
        ]
        return np.array([rng.dirichlet(np.ones(self.classes)) for rng in rows])


def check_measure(measure: Callable[[Any, Any, Any, int, Any], Any], *, seed: int = 0) -> None:
    """Print that a function fits and measures strategies under one budget, or raise the mistake.

    Args:
        measure: The learner's `function(strategies, train, val, budget, seeds)`, which returns rows with
            strategy, seed and right.
        seed: The images and labels of the check are drawn from it.

    Raises:
        Mistake: If other images, budgets or seeds are used, or other numbers come back.

    Example:
        >>> from tlutils.checks import assignment_05
        >>> def on_all_images(strategies, train, val, budget, seeds):
        ...     for name, strategy in strategies.items():
        ...         strategy(val.images, val.labels, budget, 0)
        ...     return []
        >>> assignment_05.check_measure(on_all_images)
        Traceback (most recent call last):
        tlutils.checks.Mistake: A strategy was fit to validation images: what it is measured with it must
        never have seen.
    """
    rng = np.random.default_rng(seed)
    n, m, classes, budget, seeds = 9, 7 + seed % 2, 3, 4, [5, 8]
    pixels = torch.tensor(rng.permutation(n + m) + 1.0).reshape(-1, 1, 1, 1)
    labels = rng.integers(0, classes, n + m)
    train, val = Part(pixels[:n], labels[:n], np.arange(n)), Part(pixels[n:], labels[n:], np.arange(m))
    spy = _Strategies(classes)
    names = ["probe", "finetune"]
    strategies = {name: spy.named(name) for name in names}
    todo = 'Return a list of rows {"strategy": …, "seed": …, "right": …}.'
    found = answer(measure, strategies, train, val, budget, list(seeds), todo=todo)
    fits, seen = spy.fits, {float(x) for _, images, *_ in spy.fits for x in images.flatten()}
    known, new = ({float(x) for x in part.images.flatten()} for part in (train, val))
    wanted = [(name, k) for name in names for k in seeds]
    require(
        {
            "No strategy was called: strategy(images, labels, budget, seed) returns a function.": not fits,
            "A strategy was fit to validation images: what it is measured with it must never have "
            "seen.": bool(seen & new),
            f"A strategy got only {min(len(images) for _, images, *_ in fits) if fits else 0} of {n} "
            "training images: the budget is one for all.": seen != known
            or any(len(images) != n for _, images, *_ in fits),
            "The labels are not those of the training images.": any(
                not np.array_equal(given, train.labels) for _, _, given, *_ in fits
            ),
            f"The budget is {budget} for each run, and here it was "
            f"{sorted({fit[3] for fit in fits})}: with more of it, one strategy wins for that alone.": any(
                fit[3] != budget for fit in fits
            ),
            "Each strategy runs once with each seed; here were the runs "
            f"{[(name, k) for name, _, _, _, k in fits]}.": sorted((name, k) for name, _, _, _, k in fits)
            != sorted(wanted),
            "A strategy was measured on training images, which it has seen.": any(
                float(x) in known for images in spy.asked for x in images.flatten()
            ),
            f"A {type(found).__name__} came back. {todo}": not isinstance(found, list)
            or not all(isinstance(row, dict) for row in found),
        },
        praise="each strategy with each seed saw the training images alone, under one budget.",
    )
    _check_rows(found, wanted, spy, val)  # type: ignore[arg-type]


def _check_rows(found: Sequence[Row], wanted: Sequence[tuple[str, int]], spy: _Strategies, val: Part) -> None:
    """Raise what is wrong with the rows of a table."""
    lacking = {"strategy", "seed", "right"} - set().union(*map(set, found)) if found else {"strategy"}
    if lacking:
        raise Mistake(f"A row lacks {', '.join(sorted(lacking))}.")
    if sorted((row["strategy"], row["seed"]) for row in found) != sorted(wanted):
        raise Mistake(
            f"{len(wanted)} runs give {len(wanted)} rows, and here are {len(found)}: keep them all."
        )
    for row in found:
        chances = spy.chances(row["strategy"], row["seed"], val.images)
        right = chances.argmax(1) == val.labels
        if np.shape(row["right"]) != right.shape:
            raise Mistake(
                f"`right` has 1 or 0 for each of {len(right)} validation images; here it has shape "
                f"{np.shape(row['right'])}. A mean cannot be compared image by image any more."
            )
        if np.array_equal(row["right"], ~right):
            raise Mistake("1 stands for an image that is right, and 0 for a wrong one.")
        if not np.array_equal(np.array(row["right"]).astype(float), right):
            raise Mistake(
                "`right` is 1 where the class with the largest probability is the label: argmax over axis 1, "
                "with the labels of val."
            )


def check_experiment(
    sides: Any,
    groups: Any,
    table: Sequence[Row],
    val: Any,
    chosen: str,
    predict: Predict,
    test: Any,
    line: str,
) -> None:
    """Print that an experiment on a folder is whole and its report honest, or raise the mistake.

    No accuracy is asked for: the images may be the learner's own.

    Args:
        sides: For each image, "train", "val" or "test".
        groups: The photograph of each image.
        table: Rows with strategy, seed and right.
        val: The validation images, with labels and groups.
        chosen: The name of the strategy.
        predict: The function that the chosen strategy gave.
        test: The test images, with labels and groups.
        line: The report.

    Raises:
        Mistake: If runs are missing, or the report does not say what is measured again.

    Example:
        >>> from tlutils.checks import assignment_05
        >>> assignment_05.check_experiment([], [], [], None, "", None, None, "")
        Traceback (most recent call last):
        tlutils.checks.Mistake: The table has no run. Run the experiment first.
    """
    if not table:
        raise Mistake("The table has no run. Run the experiment first.")
    runs = [(row["strategy"], row["seed"]) for row in table]
    names, seeds = sorted({name for name, _ in runs}), sorted({seed for _, seed in runs})
    missing = {"majority", "pixels", "random", "probe", "partial", "finetune"} - set(names)
    on = {side: set(np.array(groups)[np.array(sides) == side]) for side in ("train", "val", "test")}
    rights = [np.array(row["right"], dtype=float) for row in table]
    whole = all(right.shape == np.shape(val.labels) and set(right) <= {0.0, 1.0} for right in rights)
    per_image = (np.array(predict(test.images)).argmax(1) == np.array(test.labels)).astype(float)
    owners = np.array(test.groups)
    measured = float(np.mean([per_image[owners == name].mean() for name in np.unique(owners)]))
    require(
        {
            "A photograph is on two sides.": bool(
                on["train"] & on["val"] or on["train"] & on["test"] or on["val"] & on["test"]
            ),
            f"A strategy is missing: {', '.join(sorted(missing))}. Without its controls a result says "
            "little.": bool(missing),
            "Each strategy needs the same seeds, two at least, once each.": sorted(runs)
            != [(name, seed) for name in names for seed in seeds]
            or len(seeds) < 2,
            "Each run has 1 or 0 for each validation image.": not whole,
            "All strategies are right on the same images: does each call its own?": whole
            and len({tuple(right) for right in rights}) == 1,
            f"There is no strategy {chosen!r} in the table.": chosen not in names,
            f"Measured again, {chosen} is right on {measured:.3f} of the test photographs, and the report "
            "says something else. A number in a report comes from a run.": f"{chosen}: {measured:.3f} ["
            not in line,
        },
        praise="no photograph is on two sides, every run is there, and the report can be measured again.",
    )
