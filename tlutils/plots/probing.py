"""Pictures of probes: how a figure moves with the number of labels, the penalty or the depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import COLOURS, NAMES, Picture, figure


def bands(
    x: Sequence[Any],
    lines: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    alt: str,
    log: bool = False,
    mark: tuple[Any, str] | None = None,
    height: float = 3.0,
) -> Picture:
    """Return one line with its band for each entry of `lines`, named at its right end.

    `x` are numbers (on a logarithmic axis with `log`) or names, drawn from left to right as they come.
    `lines` maps a strategy, or any name, to an array (len(x), 3) of value, low, high, or (len(x),) without a
    band; "train" is dashed. `mark` (x, words) points at one place of the axis.
    """
    named = isinstance(x[0], str)
    places = np.arange(len(x)) if named else np.asarray(x, dtype=float)
    picture, axes = figure(7.5, height, alt=alt)
    ax = axes[0, 0]
    if log:
        ax.set_xscale("log")
    ends = {}
    for name, values in lines.items():
        values = np.asarray(values, dtype=float)
        colour = COLOURS.get(name, COLOURS["ink"])
        middle = values if values.ndim == 1 else values[:, 0]
        if values.ndim == 2:
            ax.fill_between(places, values[:, 1], values[:, 2], color=colour, alpha=0.12, linewidth=0)
        style = "--" if name == "train" else "-"
        ax.plot(places, middle, style, color=colour, marker="o", markersize=4, linewidth=1.8)
        ends[name] = middle[-1]
    for name, y in _apart(ends, 0.07 * float(np.diff(ax.get_ylim())[0])).items():
        ax.annotate(
            NAMES.get(name, name),
            (1.01, y),
            xycoords=("axes fraction", "data"),
            color=COLOURS.get(name, COLOURS["ink"]),
            va="center",
            fontsize=9,
        )
    if mark is not None:
        place = x.index(mark[0]) if named else mark[0]
        ax.axvline(place, color=COLOURS["quiet"], linewidth=1, linestyle=":", zorder=0)
        ax.annotate(
            f" {mark[1]}",
            (place, 1),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            va="top",
            color="#666666",
        )
    if places[0] > places[-1]:
        ax.invert_xaxis()
    if named:
        ax.set_xticks(places, x, fontsize=8)
    elif log and max(x) >= 1 and min(x) >= 1:
        ax.set_xticks(places, [f"{value:g}" for value in x], minor=False)
        ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(axis="y", color="#EEEEEE")
    ax.set_axisbelow(True)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def _apart(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return the heights of labels, moved up as little as keeps them `gap` apart."""
    placed: dict[str, float] = {}
    last = -np.inf
    for name in sorted(heights, key=lambda n: heights[n]):
        last = placed[name] = max(heights[name], last + gap)
    return placed
