"""Pictures that explorers change: one channel, one occluder, two maps, one cut, one learning rate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

from .looking import as_array, contrast
from .style import COLOURS, SEQUENTIAL, Picture, figure, show_image

TILE = 96  # pixels of a patch's side in a montage


def channel(
    photo: Any, values: Any, patches: Sequence[Any], *, box: Sequence[int], title: str, alt: str
) -> Picture:
    """Return a photograph, a channel's map of it (h, w), and the patches that excite the channel most.

    `box` (top, left, bottom, right) on the photograph is what the strongest place of the map sees.
    """
    shares = {"width_ratios": [1, 1, 1.5]}
    picture, axes = figure(7.5, 2.55, alt=alt, cols=3, gridspec_kw=shares)
    show_image(axes[0, 0], as_array(photo), "the photograph")
    outline(axes[0, 0], box)
    show_image(axes[0, 1], contrast(values), "the channel's map of it")
    axes[0, 1].images[0].set(cmap=SEQUENTIAL, clim=(0, 1), interpolation="nearest")
    show_image(axes[0, 2], montage(patches), "what excites it most, in all pictures")
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def outline(ax: Any, box: Sequence[int]) -> None:
    """Draw the border of pixels (top, left, bottom, right), the last two excluded; changes `ax`."""
    top, left, bottom, right = box
    corner = (left - 0.5, top - 0.5)
    ax.add_patch(
        Rectangle(corner, right - left, bottom - top, fill=False, lw=2, edgecolor=COLOURS["scratch"])
    )


def montage(patches: Sequence[Any], columns: int = 3) -> np.ndarray:
    """Return images of any sizes as one (H, W, 3) in [0, 1], in rows of `columns`, white between them."""
    rows, step = -(-len(patches) // columns), TILE + 6
    sheet = np.ones((rows * step - 6, columns * step - 6, 3))
    for i, patch in enumerate(patches):
        array = as_array(patch)
        array = np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array
        image = Image.fromarray((255 * np.clip(array, 0, 1)).astype(np.uint8))
        image = image.resize((TILE, TILE), Image.Resampling.NEAREST)
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
    """Return a photograph, covered in `box`, beside the probabilities of classes, `before` and `after`.

    `box` is (top, left, bottom, right) in pixels. `before` and `after` map the same names of classes to
    probabilities; the first is the class that is asked about.
    """
    picture, axes = figure(7.5, 2.9, alt=alt, cols=2, gridspec_kw={"width_ratios": [1, 1.5]})
    show_image(axes[0, 0], as_array(photo))
    outline(axes[0, 0], box)
    ax, rows = axes[0, 1], np.arange(len(before))
    ax.barh(rows - 0.02, list(before.values()), 0.22, color=COLOURS["quiet"])
    colours = [COLOURS["finetune"], *[COLOURS["pixels"]] * (len(rows) - 1)]
    ax.barh(rows + 0.22, list(after.values()), 0.22, color=colours)
    for row, name in enumerate(before):
        ax.text(0.005, row - 0.3, name, va="center", fontsize=9, fontweight="normal" if row else "bold")
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.55, -0.5), yticks=[])
    ax.set_xlabel("probability: grey before, colour now", fontsize=9)
    ax.spines["left"].set_color(COLOURS["quiet"])
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def two_maps(photo: Any, maps: Mapping[str, Any], *, title: str, alt: str) -> Picture:
    """Return a photograph and beside it maps (H, W), each with its name; None is a map that there is not."""
    picture, axes = figure(7.5, 2.9, alt=alt, cols=1 + len(maps))
    colour = as_array(photo)
    show_image(axes[0, 0], colour, "the photograph")
    for ax, (name, values) in zip(axes[0, 1:], maps.items(), strict=True):
        show_image(ax, np.ones_like(colour) if values is None else contrast(values), name)
        ax.images[0].set(cmap="inferno", clim=(0, 1))
        if values is None:
            ax.text(0.5, 0.5, "not on this model", ha="center", va="center", transform=ax.transAxes)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
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
    """Return each stage's `shares` as bars, grey before stage number `at`, and the results by cut.

    `shares` maps a quantity to values (stages,) in [0, 1]; `results` maps a stage to (value, low, high) where
    it was cut and measured, and may be empty.
    """
    columns = len(shares) + bool(results)
    picture, axes = figure(7.5, 0.9 + 0.24 * len(stages), alt=alt, cols=columns)
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
        for name, (value, low, high) in results.items():
            row, chosen = stages.index(name), stages.index(name) == at
            colour = COLOURS["finetune" if chosen else "ink"]
            ax.plot([low, high], [row, row], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
            ax.plot(value, row, "o", color=colour, markersize=8 if chosen else 5)
        ax.axhline(at, color=COLOURS["quiet"], linewidth=0.8, zorder=0)
        ax.set(ylim=(len(rows) - 0.5, -0.7), yticks=[])
        ax.set_title(ylabel, fontweight="normal", fontsize=9)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def rates(
    curves: Mapping[float, Mapping[str, Sequence[float]]], at: float, *, ylabel: str, title: str, alt: str
) -> Picture:
    """Return the curves of the learning rate `at` by epoch, the others' pale behind it, and all last values.

    `curves` maps a rate to {"train": values, "val": values}; values that are not finite are left out.
    """
    picture, axes = figure(7.5, 2.9, alt=alt, cols=2, sharey=True, gridspec_kw={"width_ratios": [1.4, 1]})
    left, right = axes[0]
    for rate in sorted(curves, key=lambda rate: rate == at):  # the chosen one lies on top
        here = rate == at
        colour = COLOURS["finetune" if here else "quiet"]
        for name, style in (("train", "--"), ("val", "-")):
            values = np.asarray(curves[rate][name], dtype=float)
            if here or name == "val":
                epochs = np.arange(1, len(values) + 1)
                left.plot(epochs, values, style, color=colour, linewidth=2 if here else 1.2, marker=".")
            if here and np.isfinite(values[-1]):
                upper = values[-1] >= curves[rate]["val" if name == "train" else "train"][-1]
                near = {"xytext": (6, 5 if upper else -5), "textcoords": "offset points", "va": "center"}
                left.annotate(name, (len(values), values[-1]), color=colour, fontsize=9, **near)
        right.plot(rate, curves[rate]["val"][-1], "o", color=colour, markersize=9 if here else 6)
    left.set(xlabel="epoch", ylabel=ylabel)
    left.set_xmargin(0.12)
    left.xaxis.get_major_locator().set_params(integer=True)
    right.set(xscale="log", xlabel="learning rate")
    right.set_title("val, at the end", fontweight="normal", fontsize=9)
    right.set_xmargin(0.15)
    right.grid(axis="y", color="#EEEEEE")
    right.set_axisbelow(True)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture
