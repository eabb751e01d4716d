"""Explorers of training: where to cut, and how large a learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from .. import plots, surgery
from ..errors import LearnerError
from .base import Explorer, dropdown, option_slider


def explore_freezing(
    model: nn.Module,
    *,
    results: Mapping[str, Sequence[float]] | None = None,
    measure: str = "balanced accuracy on val",
    input_size: tuple[int, int, int] | None = None,
) -> Explorer:
    """Return an explorer of freezing: what trains from a stage on, what a step costs, what was measured.

    The cost counts one image, the frozen prefix having run before: forward, and a backward pass of twice
    that.

    Args:
        model: An image classifier.
        results: {stage from which training began: (value, low, high)}; stages that were not measured may be
            missing.
        measure: What the values of `results` are.
        input_size: (C, H, W) of the images, the model's own unless given.

    Raises:
        LearnerError: If `results` has an unknown stage, one without parameters, or no interval.

    Example:
        >>> from torch import nn
        >>> from tlutils import widgets
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> measured = {"head": (0.7, 0.65, 0.75)}
        >>> explorer = widgets.explore_freezing(model, results=measured, input_size=(3, 32, 32))
        >>> explorer.screen.message[:42]
        'Trained from head on, 3 stages are frozen:'
    """
    stages = surgery.stages(model, input_size=input_size)
    table = {name: _interval(name, values, stages, measure) for name, values in (results or {}).items()}
    weighty = [k for k, stage in enumerate(stages) if stage.parameters]
    shares = {
        "parameters": [stage.param_share for stage in stages],
        "multiply-adds": [stage.macs_share for stage in stages],
    }
    params, macs = sum(s.num_params for s in stages), sum(s.macs for s in stages)

    def draw(cut: int) -> plots.Picture:
        name, after = stages[cut].name, stages[cut:]
        own, work = sum(s.num_params for s in after), sum(s.macs for s in after)
        alt = (
            f"Trained from {name} on, {'nothing is' if cut == 0 else f'{cut} stages are'} frozen: {own:,} of "
            f"{params:,} parameters train ({own / params:.1%}). A step costs {_count(3 * work)} "
            f"multiply-adds per image, {_share(work / macs)} of training everything. "
        )
        if name in table:
            value, low, high = table[name]
            alt += f"Measured there: {measure} {value:.3f}, from {low:.3f} to {high:.3f}."
        elif table:
            alt += f"Not measured there; measured: {', '.join(table)}."
        learn, effort = _share(own / params), _share(work / macs)
        title = f"Cut at {name}: {learn} of the parameters learn, for {effort} of the work"
        words = {"ylabel": measure, "title": title, "alt": alt.strip()}
        return plots.explorers.cut(stages.names, shares, cut, results=table, **words)

    measured = [stages.names.index(name) for name in table]
    start = max(measured) if measured else weighty[len(weighty) // 2]
    slider = option_slider("train from", [(stages[k].name, k) for k in weighty], start)
    note = "what trains and what it costs when the network is cut at a stage, and the accuracy measured there"
    return Explorer("Cuts", draw, note=note, cut=slider)


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f} million" if number >= 1e6 else f"{number:,}"


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def _interval(name: str, values: Any, stages: surgery.Stages, measure: str) -> tuple[float, float, float]:
    """Return (value, low, high) of a row of `results`, or raise what is wrong with it."""
    stage = stages[name]  # an unknown name says which there are
    if not stage.parameters:
        raise LearnerError(f"{name} has no parameters, so nothing begins to train there. Use the next stage.")
    try:
        value, low, high = (float(v) for v in values)
    except (TypeError, ValueError):
        raise LearnerError(
            f"results[{name!r}] is {values!r}. Expected three numbers: {measure}, and "
            "the two ends of its interval."
        ) from None
    if not low <= value <= high:
        raise LearnerError(
            f"results[{name!r}] is {values!r}. Expected low ≤ value ≤ high, as (value, low, high)."
        )
    return value, low, high


def explore_learning_rates(
    histories: Mapping[float, Any], *, start: Mapping[str, float] | None = None
) -> Explorer:
    """Return an explorer of learning rates: curves by epoch at one rate, and the last value at each.

    It opens at the rate with the smallest last loss on val.

    Args:
        histories: {rate: what `train.fit` returned for it}, or a table with the columns train_accuracy,
            val_accuracy, train_loss and val_loss, a row for each epoch.
        start: {column: value} before any step, the same for all rates; drawn as epoch 0.

    Raises:
        LearnerError: If there is no history, a key is not a positive number, or a history or `start` lacks a
            column.

    Example:
        >>> import pandas as pd
        >>> from tlutils import widgets
        >>> columns = ["train_accuracy", "val_accuracy", "train_loss", "val_loss"]
        >>> slow, fast = (pd.DataFrame([[a, a, 1 - a, 1 - a]], columns=columns) for a in (0.5, 0.8))
        >>> widgets.explore_learning_rates({1e-3: slow, 1e-2: fast}).controls["rate"].value
        0.01
    """
    if not histories:
        raise LearnerError("histories is empty. Expected {rate: what train.fit returned}, at least one.")
    first = 0 if start else 1  # epoch
    curves: dict[str, dict[float, dict[str, list[float]]]] = {"accuracy": {}, "loss": {}}
    for rate, history in histories.items():
        if not isinstance(rate, int | float) or not 0 < rate < math.inf:
            raise LearnerError(
                f"{rate!r} is not a learning rate. Expected positive numbers as keys: {{1e-3: …}}."
            )
        table = getattr(history, "table", history)
        for quantity, found in curves.items():
            wanted = {split: f"{split}_{quantity}" for split in ("train", "val")}
            missing = [name for name in wanted.values() if name not in getattr(table, "columns", ())]
            if missing or not len(table):
                what = f"has no {' and no '.join(missing)}" if missing else "has no epochs"
                raise LearnerError(
                    f"The history of rate {rate:g} {what}. Expected what `train.fit` returns, after at least "
                    "one epoch with validation images."
                )
            if start and (missing := [name for name in wanted.values() if name not in start]):
                raise LearnerError(
                    f"start has no {' and no '.join(missing)}. Expected a value for each column."
                )
            found[float(rate)] = {
                split: [float(v) for v in [*([start[name]] if start else []), *table[name]]]
                for split, name in wanted.items()
            }
    order = sorted(curves["accuracy"])
    # By the loss: accuracy jumps by whole images. A training that broke down has none, and comes last.
    last = {rate: np.nan_to_num(curves["loss"][rate]["val"][-1], nan=np.inf) for rate in order}

    def draw(rate: float, quantity: str) -> plots.Picture:
        here = curves[quantity][rate]
        rank = 1 + sum(value < last[rate] for value in last.values())
        alt = (
            f"Rate {rate:g}, {len(here['val']) - 1 + first} epochs: {quantity} in training from "
            f"{here['train'][0]:.3f} to {here['train'][-1]:.3f}, on val from {here['val'][0]:.3f} to "
            f"{here['val'][-1]:.3f}. By its last loss on val it is number {rank} of {len(order)} rates."
        )
        if not np.isfinite([*here["train"], *here["val"]]).all():
            alt += " Values that are missing were not finite: training broke down."
        title = f"Learning rate {rate:g}: number {rank} of {len(order)} by its loss on val"
        return plots.explorers.rates(
            curves[quantity], rate, first=first, ylabel=quantity, title=title, alt=alt
        )

    best = min(order, key=last.__getitem__)
    rates = option_slider("rate", [(f"{rate:g}", rate) for rate in order], best)
    show = dropdown("show", list(curves), "accuracy")
    note = "accuracy or loss by epoch at one learning rate, before those of the others"
    return Explorer("Learning rates", draw, note=note, rate=rates, quantity=show)
