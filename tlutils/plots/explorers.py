"""Pictures that the widgets change: a channel, an occluder, two maps, a cut, a learning rate, the matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

from .curves import draw_line, name_ends
from .estimates import SHORT, VERDICTS, Interval
from .pixels import as_picture, contrast
from .style import COLOURS, SEQUENTIAL, Picture, draw_interval, figure, show_image

TILE = 96  # pixels of a patch's side in a montage


def channel(
    photo: Any, values: Any, patches: Sequence[Any], *, box: Sequence[int], title: str, alt: str
) -> Picture:
    """Return a photograph, a channel's activation map of it, and the patches that activate the channel most.

    Args:
        photo: A PIL image, or a tensor (3, H, W) or an array (H, W, 3): uint8, or fractions in [0, 1].
        values: The activation map (h, w).
        patches: Images of any size, as `photo`.
        box: (left, top, right, bottom) on the photograph: what the strongest place of the map sees.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> import numpy as np
        >>> from tlutils import plots
        >>> photo = np.random.rand(8, 8, 3)
        >>> plots.explorers.channel(photo, photo[..., 0], [photo], box=(0, 0, 3, 3), title="t", alt="A map.")
        [picture] A map.
    """
    shares = {"width_ratios": [1, 1, 1.5]}
    picture, axes = figure(7.5, 2.55, title=title, alt=alt, cols=3, gridspec_kw=shares)
    show_image(axes[0, 0], photo, "the photograph")
    _outline(axes[0, 0], box)
    show_image(axes[0, 1], contrast(values), "the channel's activation map")
    axes[0, 1].images[0].set(cmap=SEQUENTIAL, interpolation="nearest")
    show_image(axes[0, 2], _montage(patches), "what activates it most, in all pictures")
    return picture


def _outline(ax: Any, box: Sequence[int]) -> None:
    """Draw the border of pixels (left, top, right, bottom), the last two excluded; changes `ax`."""
    left, top, right, bottom = box
    corner = (left - 0.5, top - 0.5)
    ax.add_patch(
        Rectangle(corner, right - left, bottom - top, fill=False, lw=2, edgecolor=COLOURS["scratch"])
    )


def _montage(patches: Sequence[Any], columns: int = 3) -> np.ndarray:
    """Return images of any sizes as one (H, W, 3) in [0, 1], in rows of `columns`, white between them."""
    rows, step = -(-len(patches) // columns), TILE + 6
    sheet = np.ones((rows * step - 6, columns * step - 6, 3))
    for i, patch in enumerate(patches):
        eight_bits = (255 * np.clip(as_picture(patch), 0, 1)).round().astype(np.uint8)
        image = Image.fromarray(eight_bits).convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST)
        top, left = i // columns * step, i % columns * step
        sheet[top : top + TILE, left : left + TILE] = np.asarray(image) / 255
    return sheet


def covered(
    photo: Any,
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    box: Sequence[int],
    title: str,
    alt: str,
) -> Picture:
    """Return a photograph with a covered square, beside the probabilities of classes before and now.

    Args:
        photo: The photograph, covered already: a PIL image, or a tensor (3, H, W) or an array (H, W, 3) of
            uint8 or of fractions in [0, 1].
        before: {class: probability} of the whole photograph; the first is the class that is asked about.
        after: The same classes with their probabilities now.
        box: The square, (left, top, right, bottom) in pixels.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> import numpy as np
        >>> from tlutils import plots
        >>> chances = {"cat": 0.9, "dog": 0.1}, {"cat": 0.4, "dog": 0.6}
        >>> photo, box = np.zeros((8, 8, 3)), (0, 0, 3, 3)
        >>> plots.explorers.covered(photo, *chances, box=box, title="t", alt="It falls.")
        [picture] It falls.
    """
    picture, axes = figure(7.5, 2.9, title=title, alt=alt, cols=2, gridspec_kw={"width_ratios": [1, 1.5]})
    show_image(axes[0, 0], photo)
    _outline(axes[0, 0], box)
    ax, rows = axes[0, 1], np.arange(len(before))
    ax.barh(rows - 0.02, list(before.values()), 0.22, color=COLOURS["quiet"])
    colours = [COLOURS["finetune"], *[COLOURS["pixels"]] * (len(rows) - 1)]
    ax.barh(rows + 0.22, list(after.values()), 0.22, color=colours)
    for row, name in enumerate(before):
        ax.text(0.005, row - 0.3, name, va="center", fontsize=9, fontweight="normal" if row else "bold")
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.55, -0.5), yticks=[])
    ax.set_xlabel("probability: grey before, colour now", fontsize=9)
    ax.spines["left"].set_color(COLOURS["quiet"])
    return picture


def two_maps(photo: Any, maps: Mapping[str, Any], *, title: str, alt: str) -> Picture:
    """Return a photograph, and beside it maps with their names.

    Args:
        photo: A PIL image, or a tensor (3, H, W) or an array (H, W, 3): uint8, or fractions in [0, 1].
        maps: {name: map (H, W)}; None is a map that this model does not have.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> import numpy as np
        >>> from tlutils import plots
        >>> photo = np.random.rand(8, 8, 3)
        >>> plots.explorers.two_maps(photo, {"saliency": photo[..., 0], "CAM": None}, title="t", alt="A map.")
        [picture] A map.
    """
    picture, axes = figure(7.5, 2.9, title=title, alt=alt, cols=1 + len(maps))
    show_image(axes[0, 0], photo, "the photograph")
    for ax, (name, values) in zip(axes[0, 1:], maps.items(), strict=True):
        show_image(ax, np.ones(as_picture(photo).shape) if values is None else contrast(values), name)
        ax.images[0].set(cmap="inferno")
        if values is None:
            ax.text(0.5, 0.5, "not on this model", ha="center", va="center", transform=ax.transAxes)
    return picture


def cut(
    stages: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    at: int,
    *,
    results: Mapping[str, tuple[float, float, float]],
    ylabel: str,
    title: str,
    alt: str,
) -> Picture:
    """Return each stage's shares as bars, grey where it is frozen, and what was measured at each cut.

    Args:
        stages: Names of the stages.
        shares: {quantity: values (stages,) in [0, 1]}.
        at: The number of the first stage that trains.
        results: {stage: (value, low, high)} where training began there; may be empty.
        ylabel: What the results are.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> measured = {"head": (0.7, 0.6, 0.8)}
        >>> stages, bars = ["stem", "head"], {"parameters": [0.2, 0.8]}
        >>> words = {"ylabel": "accuracy", "title": "t", "alt": "A cut."}
        >>> plots.explorers.cut(stages, bars, 1, results=measured, **words)
        [picture] A cut.
    """
    columns = len(shares) + bool(results)
    picture, axes = figure(7.5, 0.9 + 0.24 * len(stages), title=title, alt=alt, cols=columns)
    rows = np.arange(len(stages))
    colours = [COLOURS["quiet"] if row < at else COLOURS["partial"] for row in rows]
    for ax, (name, values) in zip(axes[0], shares.items(), strict=False):
        ax.barh(rows, values, color=colours)
        ax.axhline(at - 0.5, color=COLOURS["ink"], linewidth=1)
        ax.set_yticks(rows, stages if ax is axes[0, 0] else [])
        ax.set(xlim=(0, 1.05 * max(values)), ylim=(len(rows) - 0.5, -0.7))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.set_title(name, fontweight="normal", fontsize=9)
    ax, (_, right) = axes[0, 0], axes[0, 0].get_xlim()
    ax.text(right, at - 0.45, "trains", va="top", ha="right", color=COLOURS["partial"], fontsize=9)
    if at:
        ax.text(right, at - 0.55, "frozen", va="bottom", ha="right", color="#777777", fontsize=9)
    if results:
        ax = axes[0, -1]
        for name, interval in results.items():
            row, chosen = stages.index(name), stages.index(name) == at
            colour = COLOURS["finetune" if chosen else "ink"]
            draw_interval(ax, row, interval, colour, size=8 if chosen else 5)
        ax.axhline(at, color=COLOURS["quiet"], linewidth=0.8, zorder=0)
        ax.set(ylim=(len(rows) - 0.5, -0.7), yticks=[])
        ax.set_title(ylabel, fontweight="normal", fontsize=9)
    return picture


def rates(
    curves: Mapping[float, Mapping[str, Sequence[float]]],
    at: float,
    *,
    first: int = 1,
    ylabel: str,
    title: str,
    alt: str,
) -> Picture:
    """Return the curves of a learning rate by epoch, those of others pale behind it, and all last values.

    Args:
        curves: {rate: {"train": values, "val": values}}; values that are not finite are left out.
        at: The rate that is looked at.
        first: The epoch of the first values: 0 where they are from before any step.
        ylabel: What the values are.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> slow, fast = {"train": [0.5, 0.6], "val": [0.5, 0.5]}, {"train": [0.2, 0.1], "val": [0.1, 0.1]}
        >>> curves = {1e-3: slow, 0.1: fast}
        >>> plots.explorers.rates(curves, 1e-3, ylabel="accuracy", title="t", alt="Two rates.")
        [picture] Two rates.
    """
    picture, axes = figure(
        7.5, 2.9, title=title, alt=alt, cols=2, sharey=True, gridspec_kw={"width_ratios": [1.4, 1]}
    )
    left, right = axes[0]
    names = ("train", "val")
    for rate in sorted(curves, key=lambda rate: rate == at):  # the chosen one lies on top
        here = rate == at
        colour = COLOURS["finetune" if here else "quiet"]
        epochs = range(first, first + len(curves[rate]["val"]))
        drawn = {
            name: draw_line(left, epochs, name, curves[rate][name], colour) for name in names[not here :]
        }
        right.plot(rate, curves[rate]["val"][-1], "o", color=colour, markersize=9 if here else 6)
    left.set(xlabel="epoch", ylabel=ylabel)
    name_ends(left, {name: (v[-1], v.mean(), COLOURS["finetune"]) for name, v in drawn.items() if v.size})
    left.xaxis.get_major_locator().set_params(integer=True)
    right.set(xscale="log", xlabel="learning rate")
    right.set_title("val, at the end", fontweight="normal", fontsize=9)
    right.set_xmargin(0.15)
    right.grid(axis="y", color="#EEEEEE")
    right.set_axisbelow(True)
    return picture


def matrix_place(
    sets: Mapping[str, tuple[float, Sequence[int]]],
    place: tuple[float, int],
    nearest: tuple[str, int],
    strategies: Mapping[str, Interval],
    advice: Sequence[tuple[str, str]],
    *,
    borders: tuple[float, int],
    title: str,
    alt: str,
) -> Picture:
    """Return a place among measured data sets, what strategies reached at the nearest, and advice.

    Args:
        sets: {data set: (distance, numbers of images that it was measured with)}.
        place: A distance and a number of images.
        nearest: The nearest data set and its number of images.
        strategies: {strategy: (value, low, high)} there.
        advice: (What it says, its verdict) of each piece of advice.
        borders: The distance from which images are different, and the number from which they are many.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.

    Example:
        >>> from tlutils import plots
        >>> sets = {"scenes": (0.1, [50, 500]), "digits": (0.3, [50, 500])}
        >>> found, advice = {"probe": (0.7, 0.6, 0.8)}, [("Train the head.", "holds")]
        >>> place, borders = ((0.12, 80), ("scenes", 50)), (0.2, 200)
        >>> plots.explorers.matrix_place(
        ...     sets, *place, found, advice, borders=borders, title="t", alt="A plane."
        ... )
        [picture] A plane.
    """
    shares = {"width_ratios": [1.25, 1]}
    room = 0.26 * max(len(advice), 4)  # inches; one height for all cells, so that nothing jumps
    picture, axes = figure(7.5, 3.1 + room, title=title, alt=alt, cols=2, gridspec_kw=shares)
    plane, scores = axes[0]
    for k, (name, (distance, numbers)) in enumerate(sorted(sets.items(), key=lambda own: own[1][0])):
        for number in numbers:
            chosen = (name, number) == nearest
            colour = COLOURS["ink" if chosen else "quiet"]
            plane.plot(distance, number, "o", color=colour, markersize=9 if chosen else 6)
            if chosen:
                plane.plot([place[0], distance], [place[1], number], color=colour, linewidth=1, zorder=0)
        above = {"xytext": (0, 6 + 11 * (k % 2)), "textcoords": "offset points", "ha": "center"}
        plane.annotate(name, (distance, max(numbers)), fontsize=8, **above)  # neighbours on two lines
    plane.plot(*place, "X", color=COLOURS["ink"], markeredgecolor="white", markersize=13)
    below = {"xytext": (0, -10), "textcoords": "offset points", "ha": "center", "va": "top"}
    plane.annotate("your images", place, fontsize=8, fontweight="bold", **below)
    plane.axvline(borders[0], color=COLOURS["quiet"], linestyle=":")
    plane.axhline(borders[1], color=COLOURS["quiet"], linestyle=":")
    plane.set(xlim=(0, 0.5), ylim=(1, 4000), yscale="log", xlabel="distance from ImageNet", ylabel="images")
    plane.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    plane.minorticks_off()
    plane.set_title("similar", loc="left", fontweight="normal", fontsize=8, color="#777777")
    plane.set_title("different", loc="right", fontweight="normal", fontsize=8, color="#777777")
    rows = np.arange(len(strategies))
    for row, (name, interval) in enumerate(strategies.items()):
        draw_interval(scores, row, interval, COLOURS.get(name, COLOURS["ink"]))
    scores.set_yticks(rows, [SHORT.get(name, name) for name in strategies], fontsize=8)
    scores.set(xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel="balanced accuracy")
    scores.grid(axis="x", color="#EEEEEE")
    scores.set_axisbelow(True)
    scores.set_title(f"{nearest[0]}, {nearest[1]} images", loc="left", fontweight="normal", fontsize=8)
    foot = room / picture.get_figheight()
    picture.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))  # type: ignore[union-attr, call-arg]
    for line, (words, verdict) in enumerate(advice):
        height = (room - 0.26 * (line + 0.5)) / picture.get_figheight()
        picture.text(0.01, height, "●", color=COLOURS[VERDICTS[verdict]], fontsize=9, va="center")
        picture.text(0.035, height, words, fontsize=8, va="center")
    return picture
