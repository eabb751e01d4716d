"""Tables as pictures: shares and changes by stage, and a confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from .style import COLOURS, SEQUENTIAL, Picture, figure


def stage_costs(
    stages: Sequence[str],
    parameters: Sequence[float],
    multiply_adds: Sequence[float],
    *,
    title: str,
    alt: str,
) -> Picture:
    """Return one row for each stage, the first at the top: its share of parameters and of multiply-adds.

    Args:
        stages: Names of the stages.
        parameters: The share of the parameters in each stage, between 0 and 1.
        multiply_adds: The share of the multiply-adds in each stage, between 0 and 1.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> plots.stage_costs(["stem", "head"], [0.2, 0.8], [0.9, 0.1], title="Work", alt="In the stem.")
        [picture] In the stem.
    """
    picture, axes = figure(7.5, 0.9 + 0.28 * len(stages), title=title, alt=alt, cols=2, sharey=True)
    rows = np.arange(len(stages))
    panels = [
        ("share of the parameters", parameters, "partial"),
        ("share of the multiply-adds", multiply_adds, "scratch"),
    ]
    for ax, (label, values, colour) in zip(axes[0], panels, strict=True):
        ax.barh(rows, values, color=COLOURS[colour], height=0.7)
        for row, value in zip(rows, values, strict=True):
            ax.text(value + 0.005, row, f"{value:.0%}", va="center", fontsize=9)
        ax.set_xlabel(label)
        ax.set_xlim(0, max(*parameters, *multiply_adds) * 1.2)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ax.tick_params(length=0)
    axes[0, 0].set_yticks(rows, stages)
    axes[0, 0].invert_yaxis()
    return picture


def weight_change(
    change: Any, *, cuts: Sequence[str], stages: Sequence[str], title: str, alt: str
) -> Picture:
    """Return a grid: how far each stage's weights moved (columns) when training began at a stage (rows).

    Args:
        change: The relative change (cuts, stages), on a logarithmic colour scale; exactly 0 stays white and
            says so.
        cuts: The stages at which training began.
        stages: Names of the stages.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> plots.weight_change([[0, 0.1], [0.2, 0.3]], cuts=["head", "stem"], stages=["stem", "head"],
        ...               title="Frozen means frozen", alt="The stem moves only where it trains.")
        [picture] The stem moves only where it trains.
    """
    change = np.asarray(change, dtype=float)
    picture, axes = figure(7.5, 1.3 + 0.34 * len(cuts), title=title, alt=alt)
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
    return picture


def confusion(matrix: Any, classes: Sequence[str], *, title: str, alt: str) -> Picture:
    """Return a confusion matrix as a grid of counts, shaded by their share of the row.

    With more than 25 classes the counts would not fit, and the shades stand alone.

    Args:
        matrix: Counts (C, C), a row for each true class and a column for each predicted one.
        classes: Names of the C classes.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> plots.confusion([[40, 10], [13, 37]], ["cat", "dog"], title="Where it errs", alt="Two classes.")
        [picture] Two classes.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = 1.6 + 0.62 * len(classes) + 0.075 * max(0, *(len(name) - 10 for name in classes))
    picture, axes = figure(min(size + 1.4, 7.5), min(size, 6.5), title=title, alt=alt)
    ax = axes[0, 0]
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix) if len(classes) <= 25 else ():
        dark = share[row, column] > 0.5
        ax.text(column, row, f"{count}", ha="center", va="center", color="white" if dark else COLOURS["ink"])
    ax.set_xticks(range(len(classes)), classes)
    ax.set_yticks(range(len(classes)), classes)
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(length=0)
    return picture
