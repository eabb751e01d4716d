"""Pictures of a network seen stage by stage: where its numbers are, what moves, what a cut costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from .style import COLOURS, NAMES, SEQUENTIAL, Picture, figure


def shares(
    stages: Sequence[str], numbers: Sequence[float], work: Sequence[float], *, title: str, alt: str
) -> Picture:
    """Return one row a stage, the first at the top: its share of the parameters and of the multiply-adds.

    Shares are between 0 and 1.
    """
    picture, axes = figure(7.5, 0.9 + 0.28 * len(stages), alt=alt, cols=2, sharey=True)
    rows = np.arange(len(stages))
    panels = [
        ("share of the parameters", numbers, "partial"),
        ("share of the multiply-adds", work, "scratch"),
    ]
    for ax, (label, values, colour) in zip(axes[0], panels, strict=True):
        ax.barh(rows, values, color=COLOURS[colour], height=0.7)
        for row, value in zip(rows, values, strict=True):
            ax.text(value + 0.005, row, f"{value:.0%}", va="center", fontsize=9)
        ax.set_xlabel(label)
        ax.set_xlim(0, max(max(numbers), max(work)) * 1.2)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ax.tick_params(length=0)
    axes[0, 0].set_yticks(rows, stages)
    axes[0, 0].invert_yaxis()
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def movement(change: Any, *, cuts: Sequence[str], stages: Sequence[str], title: str, alt: str) -> Picture:
    """Return a grid: how far each stage's weights moved (columns) when the network was cut at a stage (rows).

    `change` (cuts, stages) is relative, on a logarithmic colour scale; exactly 0 stays white and says so.
    """
    change = np.asarray(change, dtype=float)
    picture, axes = figure(7.5, 1.3 + 0.34 * len(cuts), alt=alt)
    ax = axes[0, 0]
    norm = LogNorm(change[change > 0].min(), change.max())
    shown = ax.imshow(np.ma.masked_equal(change, 0), cmap=SEQUENTIAL, norm=norm, aspect="auto")
    for (row, column), value in np.ndenumerate(change):
        if value == 0:
            ax.text(column, row, "0", ha="center", va="center", color=COLOURS["ink"])
    ax.set_xticks(range(len(stages)), stages)
    ax.set_yticks(range(len(cuts)), cuts)
    ax.set(xlabel="stage", ylabel="cut at")
    ax.tick_params(length=0)
    picture.colorbar(shown, ax=ax, label="relative change", shrink=0.9)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def lines(
    series: Mapping[str, Sequence[float]], *, x: str, y: str, title: str, alt: str, names: Mapping[str, str]
) -> Picture:
    """Return one line a strategy over 1, 2, 3, …, named at its end as `names` says."""
    picture, axes = figure(7.5, 2.8, alt=alt)
    ax = axes[0, 0]
    longest = max(map(len, series.values()))
    for key, values in series.items():
        steps, colour = np.arange(1, len(values) + 1), COLOURS.get(key, COLOURS["ink"])
        ax.plot(steps, values, color=colour)
        ax.text(steps[-1], values[-1], f" {names[key]}", color=colour, va="center", fontsize=9)
    ax.set(xlabel=x, ylabel=y)
    ax.set_xticks(np.unique(np.linspace(1, longest, min(longest, 12)).astype(int)))
    ax.set_xlim(1, 1 + (longest - 1) * 1.25)  # room for the names
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def by_cut(
    panels: Mapping[str, Mapping[str, Any]],
    *,
    cuts: Sequence[str],
    title: str,
    alt: str,
    controls: Mapping[str, float] | None = None,
) -> Picture:
    """Return a panel a quantity: its mean and spread at each cut, from the cut that trains least to all.

    `panels` maps an axis label to {line name: values (cuts, repeats)}; with repeats, each is a faint dot and
    the bar is two standard errors of their mean to each side. `controls` are levels in the first panel, by
    strategy.
    """
    picture, axes = figure(7.5, 3.1, alt=alt, cols=len(panels))
    where = np.arange(len(cuts))
    small: dict[str, Any] = {"va": "top", "fontsize": 8}
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
    for ax, (label, series) in zip(axes[0], panels.items(), strict=True):
        for line, (colour, (name, values)) in enumerate(
            zip(("partial", "ink"), series.items(), strict=False)
        ):
            values = np.asarray(values, dtype=float).reshape(len(cuts), -1)
            means, repeats = values.mean(1), values.shape[1]
            style: dict[str, Any] = {"color": COLOURS[colour], "marker": "o", "markersize": 4, "capsize": 3}
            if repeats > 1:
                ax.plot(where, values, ".", color=COLOURS[colour], alpha=0.35, markersize=5)
                style["yerr"] = 2 * values.std(1, ddof=1) / np.sqrt(repeats)
            ax.errorbar(where, means, **style)
            # costs rise from left to right, so the upper left is free
            ax.text(0.03, 0.97 - 0.1 * line, name, color=COLOURS[colour], transform=ax.transAxes, **small)
        ax.set_xticks(where, cuts, rotation=45)
        ax.set_xlabel("cut at")
        ax.set_title(label, fontweight="normal", fontsize=10)
    for name, level in (controls or {}).items():
        axes[0, 0].axhline(level, color=COLOURS[name], linestyle=":")
        below = {"xytext": (0, -4), "textcoords": "offset points"}  # above it are the results
        axes[0, 0].annotate(
            NAMES[name], (where[0], level), color=COLOURS[name], bbox=behind, **below, **small
        )
    if controls:
        low, high = axes[0, 0].get_ylim()
        axes[0, 0].set_ylim(bottom=low - 0.08 * (high - low))  # room for the lowest name
    for ax in axes[0, 1:]:
        ax.set_ylim(bottom=0)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture
