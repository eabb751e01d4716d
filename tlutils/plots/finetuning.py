"""Pictures of finetuning: what moved at each stage."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import NullFormatter

from .style import COLOURS, Picture, figure


def stage_panels(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    stages: Sequence[str],
    names: Mapping[str, str],
    title: str,
    alt: str,
    log: str = "",
) -> Picture:
    """Return a panel a quantity, with one line a strategy over the stages, stem at the left.

    `panels` maps a quantity to {strategy: values (stages,)}; `names` says what a strategy is called. The
    quantity `log` has a logarithmic axis.
    """
    picture, axes = figure(7.5, 3.1, alt=alt, cols=len(panels))
    places = np.arange(len(stages))
    for ax, (quantity, lines) in zip(axes[0], panels.items(), strict=True):
        for name, values in lines.items():
            ax.plot(places, values, "o-", color=COLOURS[name], markersize=4)
        if quantity == log:
            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks(places, stages, rotation=45)
        ax.set_title(quantity, fontweight="normal", fontsize=10)
        ax.grid(axis="y", color="#EEEEEE")
        ax.set_axisbelow(True)
    for row, name in enumerate(names):
        where = (0.98, 0.05 + 0.09 * (len(names) - 1 - row))
        axes[0, 0].text(
            *where, names[name], color=COLOURS[name], fontsize=9, ha="right", transform=axes[0, 0].transAxes
        )
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture
