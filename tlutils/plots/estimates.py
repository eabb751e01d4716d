"""Estimates with their intervals: one row each, one panel for each corner, or effects with verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import COLOURS, NAMES, Picture, draw_interval, figure

Interval = tuple[float, float, float]
SHORT = {
    "random": "random, frozen",
    "probe": "probe",
    "partial": "partly frozen",
    "finetune": "finetuned",
} | {
    "few": "last two stages",
    "more": "from the middle",
    "lp-ft": "probe, then all",
}
VERDICTS = {
    "holds": "partial",
    "reversed": "finetune",
    "no difference": "probe",
    "mixed": "random",
    "control failed": "ink",
    "undecided": "majority",
}


def intervals(results: Mapping[str, Interval], *, title: str, alt: str, xlabel: str) -> Picture:
    """Return one row for each result: its value as a dot and its interval as a bar, the largest at the top.

    Args:
        results: {name: (value, low, high)}; a strategy ("majority", "random", "probe", "finetune", …) has its
            colour and its name in `NAMES`.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.
        xlabel: What the values are, with their unit.

    Example:
        >>> from tlutils import plots
        >>> found = {"probe": (0.74, 0.70, 0.78), "random": (0.66, 0.62, 0.70)}
        >>> plots.intervals(found, title="Transfer helps", alt="The probe is ahead.", xlabel="accuracy")
        [picture] The probe is ahead.
    """
    rows = sorted(results, key=lambda name: results[name][0])
    picture, axes = figure(7.5, 0.6 + 0.42 * len(rows), title=title, alt=alt)
    ax = axes[0, 0]
    for row, name in enumerate(rows):
        colour = COLOURS.get(name, COLOURS["ink"])
        draw_interval(ax, row, results[name], colour, size=8)
        value, _, high = results[name]
        beside = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(f"{value:.2f}", (high, row), **beside, color=colour, fontweight="bold")
    ax.set_yticks(range(len(rows)), [NAMES.get(name, name) for name in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(xlabel)
    ax.set_xmargin(0.12)
    ax.grid(axis="x", color="#EEEEEE")
    ax.set_axisbelow(True)
    return picture


def panels(
    panels: Mapping[tuple[str, str], Mapping[str, Interval]], *, ylabel: str, title: str, alt: str
) -> Picture:
    """Return a grid of panels, each with the estimates of some strategies side by side.

    All panels share one range of values; strategies are named below the last row.

    Args:
        panels: {(row, column): {strategy: (value, low, high)}}, drawn in the order in which they come.
        ylabel: What the values are, with their unit.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> little, lots = {"probe": (0.7, 0.6, 0.8)}, {"probe": (0.8, 0.7, 0.9)}
        >>> found = {("little", "near"): little, ("lots", "near"): lots}
        >>> plots.panels(found, ylabel="accuracy", title="More data helps", alt="Two panels.")
        [picture] Two panels.
    """
    rows, columns = (list(dict.fromkeys(key[k] for key in panels)) for k in range(2))
    size = (7.5, 1.1 + 1.8 * len(rows))
    picture, axes = figure(
        *size, title=title, alt=alt, rows=len(rows), cols=len(columns), sharex=True, sharey=True
    )
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    for (row, column), panel in panels.items():
        ax = axes[rows.index(row), columns.index(column)]
        for place, name in enumerate(names):
            if name in panel:
                draw_interval(ax, place, panel[name], COLOURS.get(name, COLOURS["ink"]), upright=True)
        ax.grid(axis="y", color="#EEEEEE")
        ax.set_axisbelow(True)
        ax.set_xticks(range(len(names)), [SHORT.get(n, n) for n in names], fontsize=8)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.tick_params(axis="x", length=0)
        ax.set_title(f"{column}, {row}", fontweight="normal", fontsize=9)
    for k in range(len(rows)):
        axes[k, 0].set_ylabel(ylabel, fontsize=9)
    return picture


def effects(rows: Sequence[Mapping[str, Any]], *, xlabel: str, title: str, alt: str) -> Picture:
    """Return one row for each claim: effect and interval, coloured by verdict, on the band of its margin.

    Args:
        rows: One mapping per claim, with `id`, `effect`, `low`, `high`, `margin` and `verdict` ("holds",
            "reversed", "no difference", "mixed", "control failed" or "undecided").
        xlabel: What the effects are, with their unit.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> row = {"id": "depth", "effect": 0.1, "low": 0.05, "high": 0.15}
        >>> row |= {"margin": 0.01, "verdict": "holds"}
        >>> plots.effects([row], xlabel="effect in accuracy", title="One claim", alt="It holds.")
        [picture] It holds.
    """
    picture, axes = figure(7.5, 0.9 + 0.24 * len(rows), title=title, alt=alt)
    ax = axes[0, 0]
    ends = np.abs([row[end] for row in rows for end in ("effect", "low", "high")])
    reach = max(ends[np.isfinite(ends)], default=1.0) * 1.05  # an infinite interval is cut by the frame
    for place, row in enumerate(rows):
        colour = COLOURS[VERDICTS[row["verdict"]]]
        low, high = np.clip([row["low"], row["high"]], -reach, reach)
        draw_interval(ax, place, (row["effect"], low, high), colour, size=5)
        ax.fill_betweenx([place - 0.4, place + 0.4], -row["margin"], row["margin"], color="#EEEEEE", zorder=0)
    for verdict, shade in VERDICTS.items():
        ax.plot([], [], "o", color=COLOURS[shade], label=verdict)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=6, fontsize=8, frameon=False)
    ax.set_yticks(range(len(rows)), [row["id"] for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(-reach, reach)
    ax.axvline(0, color=COLOURS["quiet"], linewidth=0.8, zorder=0)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(xlabel)
    return picture
