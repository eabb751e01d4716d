"""Lines over stages, epochs, or numbers of images, with bands: one function for all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter

from ..errors import LearnerError
from .style import COLOURS, NAMES, Picture, figure

OTHERS = ("probe", "finetune", "partial", "random", "scratch", "pixels")  # for lines that are no strategy
PLAIN = ("", "train", "val")  # lines that have the colour of their panel, or none


def lines(
    x: Sequence[Any] | None,
    series: Mapping[str, Any],
    *,
    title: str,
    alt: str,
    xlabel: str = "",
    ylabel: str = "",
    names: Mapping[str, str] | None = None,
    logx: bool = False,
    logy: str | None = None,
    sharey: bool = False,
    mark: tuple[Any, str] | None = None,
    height: float = 3.0,
) -> Picture:
    """Return lines over `x`, with bands where intervals are given, in one panel or in several side by side.

    In one panel each line is named at its right end; in several, each name stands in the first panel that has
    the line. A strategy has its colour in the whole course and other lines take colours in turn; in a panel
    named after a strategy all lines have that strategy's colour. "train" is dashed.

    Args:
        x: Numbers or names, drawn from left to right in the order in which they come; None for 0, 1, 2, …
        series: {line: values}, or {panel: {line: values}}. Values are (len(x),), or (len(x), 3) for value,
            low and high, or one number for a dotted level. Where `x` is None a line may have any length.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.
        xlabel: What `x` is, with its unit.
        ylabel: What the values are, with their unit.
        names: What lines and panels are called, where that is neither in `NAMES` nor their key.
        logx: Whether the x axis is logarithmic.
        logy: The panel whose y axis is logarithmic ("" for the only one).
        sharey: Whether all panels have one range of values.
        mark: (x, words), a place on the x axis to point at.
        height: Of the picture, in inches; it is 7.5 wide.

    Raises:
        LearnerError: If a line does not have one value for each `x`.

    Example:
        >>> from tlutils import plots
        >>> curves = {"probe": [(0.6, 0.5, 0.7), (0.8, 0.7, 0.9)], "majority": 0.5}
        >>> plots.lines(["stem", "pool"], curves, title="Depth helps", alt="The probe's accuracy rises.")
        [picture] The probe's accuracy rises.
    """
    panels = series if all(isinstance(values, Mapping) for values in series.values()) else {"": series}
    called = {**NAMES, **(names or {})}
    unknown = dict.fromkeys(k for panel in panels.values() for k in panel if k not in (*COLOURS, *PLAIN))
    colours = {**COLOURS, **{key: COLOURS[OTHERS[n % len(OTHERS)]] for n, key in enumerate(unknown)}}
    picture, axes = figure(7.5, height, title=title, alt=alt, cols=len(panels), sharey=sharey)
    told: set[str] = set()
    for ax, (panel, curves) in zip(axes[0], panels.items(), strict=True):
        _x_axis(ax, x, logx=logx, label=xlabel)
        if panel == logy:
            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter(NullFormatter())
        ends = {}
        for key, values in curves.items():
            colour = colours.get(panel) or colours.get(key, COLOURS["ink"])
            label = called.get(key, key) if len(panels) > 1 and key not in told else ""
            drawn = draw_line(ax, x, key, values, colour, label)
            if drawn.size:
                ends[called.get(key, key)] = drawn[-1], drawn.mean(), colour
        if panel == logy and ax.get_ylim()[1] < 100 * ax.get_ylim()[0]:  # few powers of ten, or none
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
        if len(panels) == 1:
            name_ends(ax, ends)
        elif ax.get_legend_handles_labels()[1]:
            ax.legend(loc="best", fontsize=8, labelcolor="linecolor", handlelength=1.4, frameon=False)
        told |= set(curves)
        head: dict[str, Any] = {"fontweight": "normal", "fontsize": 10}
        ax.set_title(called.get(panel, panel), color=colours.get(panel, COLOURS["ink"]), **head)
        if mark is not None:
            place = mark[0] if x is None or not isinstance(mark[0], str) else list(x).index(mark[0])
            ax.axvline(place, color=COLOURS["quiet"], linewidth=1, linestyle=":", zorder=0)
            where: dict[str, Any] = {
                "xycoords": ("data", "axes fraction"),
                "fontsize": 8,
                "va": "top",
                "color": "#666666",
            }
            ax.annotate(f" {mark[1]}", (place, 1), **where)
    axes[0, 0].set_ylabel(ylabel)
    return picture


def _x_axis(ax: Any, x: Sequence[Any] | None, *, logx: bool, label: str) -> None:
    """Set scale, ticks and label of the x axis of a panel."""
    ax.set_xlabel(label)
    ax.grid(axis="y", color="#EEEEEE")
    ax.set_axisbelow(True)
    if x is None:
        ax.xaxis.get_major_locator().set_params(integer=True)
    elif isinstance(x[0], str):
        ax.set_xticks(range(len(x)), x, fontsize=8)
    else:
        if x[0] > x[-1]:
            ax.invert_xaxis()
        if logx:
            ax.set_xscale("log")
            if min(x) >= 1:
                ax.set_xticks(x, [f"{value:g}" for value in x])
                ax.minorticks_off()


def draw_line(
    ax: Any, x: Sequence[Any] | None, key: str, values: Any, colour: str, label: str = ""
) -> np.ndarray:
    """Draw a line, with its band where values are (n, 3), or a level; return its finite heights."""
    values = np.asarray(values, dtype=float)
    if values.ndim == 0:
        ax.axhline(float(values), color=colour, linestyle=":")
        below: dict[str, Any] = {"xytext": (4, -3), "textcoords": "offset points", "va": "top", "fontsize": 8}
        below["path_effects"] = [withStroke(linewidth=3, foreground="white")]  # to be read on a band
        ax.annotate(label, (0, values), xycoords=("axes fraction", "data"), color=colour, **below)
        ax.set_ymargin(0.12)  # room for the name of the lowest
        return values[None]
    if x is None:
        places = np.arange(len(values))
    else:
        places = np.arange(len(x)) if isinstance(x[0], str) else np.asarray(x, dtype=float)
    if len(values) != len(places):
        raise LearnerError(
            f"The line {key!r} has {len(values)} values, and the x axis has {len(places)} places."
        )
    middle = values if values.ndim == 1 else values[:, 0]
    if values.ndim == 2:
        ax.fill_between(places, values[:, 1], values[:, 2], color=colour, alpha=0.15, linewidth=0)
    marker = "o" if len(places) <= 12 else None
    style = "--" if key == "train" else "-"
    ax.plot(places, middle, style, color=colour, marker=marker, markersize=4, linewidth=1.8, label=label)
    return middle[np.isfinite(middle)]


def name_ends(ax: Any, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write each line's name at the right of where it ends, moved as little as keeps names apart.

    `ends` maps a name to where its line ends, the line's mean and its colour.
    """
    from scipy.optimize import isotonic_regression

    ax.autoscale_view()
    line_height = 0.24 / ax.figure.get_figheight()  # of text, as a share of the panel's height
    scale = ax.transScale + ax.transLimits  # from values to shares of the panel's height
    heights = {name: scale.transform((1, end))[1] for name, (end, _, _) in ends.items()}
    # From the bottom to the top; lines that end together in the order of their means.
    order = sorted(ends, key=lambda name: (round(heights[name], 2), ends[name][1]))
    room = np.array([line_height * (1 + name.count("\n")) for name in order])
    apart = np.cumsum(room) - room / 2
    placed = isotonic_regression([heights[name] for name in order] - apart).x
    placed = np.clip(placed, -apart[0], 1 - apart[-1]) + apart
    for name, height in zip(order, placed, strict=True):
        ax.text(1.01, height, name, color=ends[name][2], va="center", fontsize=9, transform=ax.transAxes)
