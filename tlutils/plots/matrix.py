"""The decision matrix as a plane, how far × how many images, and what was measured in it."""

from collections.abc import Mapping, Sequence

import numpy as np

from .claims import SHORT, VERDICTS
from .style import COLOURS, Picture, figure

Interval = tuple[float, float, float]


def matrix_place(
    sets: Mapping[str, tuple[float, Sequence[int]]],
    place: tuple[float, int],
    nearest: tuple[str, int],
    strategies: Mapping[str, Interval],
    advice: Sequence[tuple[str, str]],
    *,
    border: float,
    title: str,
    alt: str,
) -> Picture:
    """Return a place among measured data sets, what each strategy reached at the nearest, and advice.

    `sets` maps a data set to its distance and the numbers of images of each class that it was measured with;
    `place` and `nearest` are a distance or a data set, and such a number. `border` parts similar from
    different. `strategies` maps a strategy to (value, low, high). `advice` has (what it says, its verdict).
    """
    shares = {"width_ratios": [1.25, 1]}
    room = 0.26 * max(len(advice), 4)  # inches; one height for all cells, so that nothing jumps
    picture, axes = figure(7.5, 3.1 + room, alt=alt, cols=2, gridspec_kw=shares)
    plane, scores = axes[0]
    for name, (distance, numbers) in sets.items():
        for number in numbers:
            chosen = (name, number) == nearest
            colour = COLOURS["ink" if chosen else "quiet"]
            plane.plot(distance, number, "o", color=colour, markersize=9 if chosen else 6)
            if chosen:
                plane.plot([place[0], distance], [place[1], number], color=colour, linewidth=1, zorder=0)
        left = distance == max(other for other, _ in sets.values())
        side = {"xytext": (7 if left else -7, 0), "textcoords": "offset points", "va": "center"}
        align = "left" if left else "right"
        plane.annotate(name, (distance, max(numbers)), ha=align, fontsize=8, **side)
    plane.plot(*place, "X", color=COLOURS["ink"], markeredgecolor="white", markersize=13)
    above = place[1] > 60
    near = {"xytext": (0, 10 if above else -10), "textcoords": "offset points", "ha": "center"}
    plane.annotate(
        "your images", place, va="bottom" if above else "top", fontsize=8, fontweight="bold", **near
    )
    plane.axvline(border, color=COLOURS["quiet"], linestyle=":")
    plane.set(xlim=(0, 0.5), ylim=(0.5, 700), yscale="log", xlabel="distance from ImageNet")
    plane.set_yticks([1, 10, 100], ["1", "10", "100"])
    plane.minorticks_off()
    plane.set_ylabel("images of each class")
    plane.set_title("similar", loc="left", fontweight="normal", fontsize=8, color="#777777")
    plane.set_title("different", loc="right", fontweight="normal", fontsize=8, color="#777777")
    rows = np.arange(len(strategies))
    for row, (name, (middle, low, high)) in zip(rows, strategies.items(), strict=True):
        colour = COLOURS.get(name, COLOURS["ink"])
        scores.plot([low, high], [row, row], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
        scores.plot(middle, row, "o", color=colour, markersize=6)
    scores.set_yticks(rows, [SHORT.get(name, name) for name in strategies], fontsize=8)
    scores.set(xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel="balanced accuracy")
    scores.grid(axis="x", color="#EEEEEE")
    scores.set_axisbelow(True)
    scores.set_title(f"{nearest[0]}, {nearest[1]} a class", loc="left", fontweight="normal", fontsize=8)
    foot = room / picture.get_figheight()
    picture.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))  # type: ignore[union-attr, call-arg]
    for line, (words, verdict) in enumerate(advice):
        height = (room - 0.26 * (line + 0.5)) / picture.get_figheight()
        picture.text(0.01, height, "●", color=COLOURS[VERDICTS[verdict]], fontsize=9, va="center")
        picture.text(0.035, height, words, fontsize=8, va="center")
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture
