"""Pictures of claims: strategies in each corner of the matrix, features by depth, and all effects at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import COLOURS, NAMES, Picture, figure

Interval = tuple[float, float, float]
SHORT = {"random": "random, frozen", "probe": "probe", "partial": "last stages", "finetune": "finetuned"}
VERDICTS = {"holds": "partial", "does not hold here": "finetune", "undecided at this sample size": "majority"}


def corners(
    panels: Mapping[tuple[str, str], Mapping[str, Interval]], *, ylabel: str, title: str, alt: str
) -> Picture:
    """Return a panel for each (row, column), with one dot and interval a strategy, in the order they come.

    Panels of one column share their range of values; strategies are named below the last row.
    """
    rows, columns = (list(dict.fromkeys(key[k] for key in panels)) for k in range(2))
    size = (7.5, 1.1 + 1.8 * len(rows))
    picture, axes = figure(*size, alt=alt, rows=len(rows), cols=len(columns), sharex=True, sharey="col")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    for (row, column), panel in panels.items():
        ax = axes[rows.index(row), columns.index(column)]
        for place, name in enumerate(names):
            if name in panel:
                value, low, high = panel[name]
                colour = COLOURS.get(name, COLOURS["ink"])
                ax.plot([place] * 2, [low, high], color=colour, linewidth=3, alpha=0.4, solid_capstyle="butt")
                ax.plot(place, value, "o", color=colour, markersize=6)
        ax.grid(axis="y", color="#EEEEEE")
        ax.set_axisbelow(True)
        ax.set_xticks(range(len(names)), [SHORT.get(n, n) for n in names], rotation=90, fontsize=8)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.tick_params(axis="x", length=0)
        ax.set_title(f"{column}, {row}", fontweight="normal", fontsize=9)
    for k in range(len(rows)):
        axes[k, 0].set_ylabel(ylabel, fontsize=9)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def profiles(
    stages: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    ylabel: str,
    title: str,
    alt: str,
    xlabel: str = "codes of stage",
    names: Mapping[str, str] = NAMES,
) -> Picture:
    """Return a panel for each name: lines over the stages, with bands, named as `names` says.

    A strategy has its colour in the whole course; other lines take three in turn.
    """
    picture, axes = figure(7.5, 2.9, alt=alt, cols=len(panels))
    where = np.arange(len(stages))
    for ax, (name, series) in zip(axes[0], panels.items(), strict=True):
        for shade, (label, intervals) in zip(("probe", "scratch", "partial"), series.items(), strict=False):
            colour = COLOURS.get(label, COLOURS[shade])
            value, low, high = np.array(intervals, dtype=float).T
            ax.fill_between(where, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.plot(where, value, color=colour, marker="o", markersize=3, label=names.get(label, label))
        ax.set_xticks(where, [stage.removeprefix("stage") for stage in stages], fontsize=8)
        ax.set_title(name, fontweight="normal", fontsize=10)
        ax.set_xlabel(xlabel)
        ax.legend(loc="best", fontsize=8, frameon=False)
    axes[0, 0].set_ylabel(ylabel)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def effects(rows: Sequence[Mapping[str, Any]], *, xlabel: str, title: str, alt: str) -> Picture:
    """Return a row a claim: its effect and interval, coloured by verdict, and a tick where it begins to hold.

    A row has `id`, `effect`, `low`, `high`, `threshold` and `verdict`.
    """
    picture, axes = figure(7.5, 0.9 + 0.24 * len(rows), alt=alt)
    ax = axes[0, 0]
    reach = max((abs(r["effect"]) for r in rows), default=1.0) * 1.25
    for place, row in enumerate(rows):
        colour = COLOURS[VERDICTS[row["verdict"]]]
        ends = np.clip([row["low"], row["high"]], -reach, reach)
        ax.plot(ends, [place] * 2, color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
        ax.plot(row["effect"], place, "o", color=colour, markersize=5)
        ax.plot([row["threshold"]] * 2, [place - 0.32, place + 0.32], color=COLOURS["ink"], linewidth=1)
    for verdict, shade in VERDICTS.items():
        ax.plot([], [], "o", color=COLOURS[shade], label=verdict)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=3, fontsize=8, frameon=False)
    ax.set_yticks(range(len(rows)), [row["id"] for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(-reach, reach)
    ax.axvline(0, color=COLOURS["quiet"], linewidth=0.8, zorder=0)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(xlabel)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture
