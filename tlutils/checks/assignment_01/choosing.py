"""Checks of a choice between strategies, and of the experiment that it was made from."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..common import Mistake, answer

Row = dict[str, Any]
ORDER = ("head", "all", "scratch")
BAND = 0.75  # accuracy of a finetuned network on val; benchmarks/assignments.py measures it over seeds


def _table(seed: int, *, tie: bool) -> list[Row]:
    """Return invented runs of three strategies in which each usual mistake chooses another one."""
    rng = np.random.default_rng([seed, tie])
    # parameters, val of each run, test. Tie: "wide" has the best mean, and "slim" is within its error.
    base = 0.7 + 0.05 * float(rng.random())
    runs = {
        "slim": (1_000, [0.00, 0.02, 0.04, 0.02], 0.05),
        "wide": (9_000, [0.00, 0.01, 0.06, 0.05] if tie else [0.09, 0.10, 0.10, 0.09], 0.01),
        "lucky": (5_000, [-0.2, -0.2, 0.16, -0.2], 0.02),
        "tested": (3_000, [-0.04] * 4, 0.12),
        "long": (7_000, [-0.02] * 9, 0.03),
        "small": (10, [-0.04, 0.05, -0.04, 0.05], 0.0),
    }
    rows = [
        {"strategy": name, "parameters": n, "seed": k, "val": base + v, "test": base + test}
        for name, (n, values, test) in runs.items()
        for k, v in enumerate(values)
    ]
    return [rows[i] for i in rng.permutation(len(rows))]


def check_choose(choose: Callable[[Any], Any], *, seed: int = 0) -> None:
    """Print that a function chooses as the exercise says, or raise the mistake.

    Args:
        choose: The learner's `function(table)`, which returns the name of a strategy. A row of the table has
            strategy, parameters (how many train), seed, val and test.
        seed: The tables of the check are drawn from it.

    Raises:
        Mistake: If another strategy is chosen.

    Example:
        >>> from tlutils.checks import assignment_01
        >>> assignment_01.check_choose(lambda table: max(table, key=lambda row: row["test"])["strategy"])
        Traceback (most recent call last):
        tlutils.checks.Mistake: Chosen on the test images: what is chosen with them is no longer measured by
        them. Choose by val.
    """
    for tie in (False, True):
        table = _table(seed, tie=tie)
        found = answer(choose, [dict(row) for row in table], todo="Return the name of a strategy.")
        names = {row["strategy"] for row in table}
        if not isinstance(found, str):
            raise Mistake(f"A {type(found).__name__} came back. Return the name of a strategy.")
        if found == ("slim" if tie else "wide"):
            continue
        said = {
            "tested": "Chosen on the test images: what is chosen with them is no longer measured by them. "
            "Choose by val.",
            "lucky": "Chosen by its best run. One lucky seed is not a strategy: take the mean over seeds.",
            "long": "Chosen by a sum, which grows with the number of runs: take the mean.",
            "small": "The cheapest is not within one standard error of the best: that is the standard "
            "deviation of its "
            "runs, divided by the root of their number.",
            "wide": "The best mean leads by less than its standard error, which is a tie: take the strategy "
            "with the "
            "fewest trained parameters.",
            "slim": "The best mean leads by more than its standard error: that is not a tie.",
        }
        if found not in names:
            raise Mistake(f"There is no strategy {found!r} in the table: {', '.join(sorted(names))}.")
        raise Mistake(said[found])
    print("Right: by the mean on the validation images, and among ties the cheapest.")


def check_experiment(table: Sequence[Row], model: nn.Module, loader: Any) -> None:
    """Print that an experiment is complete and its last network as good as it says, or raise the mistake.

    Args:
        table: A row for each run, with strategy, seed, parameters and val.
        model: The network of the last row.
        loader: The batches of validation images.

    Raises:
        Mistake: If runs are missing, or the network does not reach what was written down.

    Example:
        >>> import torch
        >>> from tlutils.checks import assignment_01
        >>> assignment_01.check_experiment([], torch.nn.Identity(), [])
        Traceback (most recent call last):
        tlutils.checks.Mistake: The table has no run. Run the experiment first.
    """
    if not isinstance(table, list) or not table:
        raise Mistake("The table has no run. Run the experiment first.")
    runs = {(row["strategy"], row["seed"]) for row in table}
    values = {name: [row["val"] for row in table if row["strategy"] == name] for name in ORDER}
    seeds = {len(found) for found in values.values()}
    if len(runs) < len(table) or seeds != {max(seeds)} or max(seeds) < 2:
        raise Mistake(
            "Each strategy needs the same seeds, two at least, once each: else luck is compared with skill."
        )
    if not all(0 <= value <= 1 for found in values.values() for value in found):
        raise Mistake("An accuracy lies between 0 and 1.")
    by_name = {row["strategy"]: row["parameters"] for row in table}
    if not by_name["head"] < by_name["all"] <= by_name["scratch"]:
        raise Mistake(
            "Training the head alone moves fewer parameters than training everything: count p.numel() of "
            "what trains."
        )
    mode = model.training
    with torch.no_grad():
        right = torch.cat([model.eval()(images).argmax(1) == labels for images, labels in loader])
    model.train(mode)
    measured = float(right.float().mean())
    if abs(measured - table[-1]["val"]) > 1e-6:
        raise Mistake(
            f"The table says that the last network is right on {table[-1]['val']:.2f} of the images; "
            "measured again, "
            f"it is {measured:.2f}. A number in a table comes from a run."
        )
    means = {name: float(np.mean(found)) for name, found in values.items()}
    if max(means["head"], means["all"]) < BAND:
        raise Mistake(
            f"A pretrained network reaches {BAND} here with every seed that we tried, and yours "
            f"{max(means['head'], means['all']):.2f}. Does each run begin with a new pretrained network?"
        )
    print("Right: every run is there, and measured again the last network gives the same number.")
