"""Pictures of what a network sees: rows of images and maps, maps over a photograph, values by stage."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import COLOURS, DIVERGING, NAMES, SEQUENTIAL, Picture, figure, show_image

OTHERS = (
    "probe",
    "finetune",
    "partial",
    "random",
    "scratch",
    "pixels",
)  # for lines that are no strategy


def as_array(image: Any) -> np.ndarray:
    """Return an image or map as (H, W, 3) or (H, W); tensors (C, H, W) of 1 or 3 channels are turned."""
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def contrast(values: Any, *, signed: bool = False) -> np.ndarray:
    """Return a map (H, W) scaled to [0, 1], outliers cut; `signed` puts zero at one half."""
    array = as_array(values).astype(float)
    if signed:
        high = np.percentile(np.abs(array), 99.5) or 1.0
        return np.clip(0.5 + array / (2 * high), 0, 1)
    low, high = np.percentile(array, [1, 99.5])
    return np.clip((array - low) / ((high - low) or 1.0), 0, 1)


def image_rows(
    rows: Mapping[str, Sequence[Any]],
    *,
    title: str,
    alt: str,
    captions: Sequence[Sequence[str]] | None = None,
    colours: str = SEQUENTIAL,
    width: float = 7.5,
) -> Picture:
    """Return rows of images, each row with its name on the left; maps (H, W) are brought to contrast.

    `rows` maps a name to images (PIL, tensors (3, H, W) or arrays in [0, 1]), grey ones as PIL, or maps;
    `captions` stand above them, for the first row or row by row. `colours` is the colour map of the maps.
    """
    count = max(len(images) for images in rows.values())
    label = 0.9 if any(rows) else 0.0
    side = (width - label) / count
    title = textwrap.fill(title, int(10.8 * width)) if "\n" not in title else title
    lines = sum(max(text.count("\n") + 1 for text in row) for row in captions or [])
    height = 0.2 + 0.18 * len(title.splitlines()) + len(rows) * (side + 0.04) + 0.17 * lines
    picture, axes = figure(width, height, alt=alt, rows=len(rows), cols=count)
    for r, (name, images) in enumerate(rows.items()):
        for ax in axes[r, len(images) :]:
            ax.axis("off")
        for c, image in enumerate(images):
            array, ax = as_array(image), axes[r, c]
            grey_photo = getattr(image, "mode", "") == "L"
            if array.ndim == 2:
                array = array / 255 if grey_photo else contrast(array)
            show_image(ax, array, captions[r][c] if captions and r < len(captions) else "")
            picture.photo |= min(array.shape[:2]) >= 60
            if array.ndim == 2:
                ax.images[0].set(cmap="gray" if grey_photo else colours, clim=(0, 1))
            ax.images[0].set_interpolation("nearest" if array.shape[0] < 16 else "bicubic")
        axes[r, 0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def overlays(
    photo: Any, maps: Mapping[str, Any], *, title: str, alt: str, signed: bool = False, width: float = 7.5
) -> Picture:
    """Return the photograph, and each map (H, W) in colour over a pale grey copy of it, names above."""
    colour = as_array(photo).astype(float)
    colour = colour / 255 if colour.max() > 1 else colour
    grey = colour.mean(2) if colour.ndim == 3 else colour
    columns = 1 + len(maps)
    picture, axes = figure(width, width / columns * len(grey) / grey.shape[1] + 0.6, alt=alt, cols=columns)
    picture.photo = True
    show_image(axes[0, 0], colour, "the photograph")
    for ax, (name, values) in zip(axes[0, 1:], maps.items(), strict=True):
        weight = contrast(values, signed=signed)
        ax.imshow(0.35 + 0.65 * grey, cmap="gray", vmin=0, vmax=1)
        strength = np.abs(2 * weight - 1) if signed else weight
        show_image(ax, weight, name)
        ax.images[-1].set(cmap=DIVERGING if signed else "inferno", alpha=0.75 * strength**0.7, clim=(0, 1))
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def by_stage(
    values: Mapping[str, Sequence[tuple[float, float, float]]],
    stages: Sequence[str],
    *,
    title: str,
    ylabel: str,
    alt: str,
    height: float = 3.0,
) -> Picture:
    """Return one line a strategy through its values at each stage, with intervals, named at its end.

    `values` maps a strategy ("probe", "random", …) to (value, low, high) for each of `stages`.
    """
    picture, axes = figure(7.5, height, alt=alt)
    ax, places = axes[0, 0], np.arange(len(stages))
    everything = np.array(list(values.values()))  # (lines, stages, 3)
    ends = _apart(everything[:, -1, 0].tolist(), 0.2 / height * np.ptp(everything))
    for (name, triples), end, spare in zip(values.items(), ends, OTHERS, strict=False):
        middle, low, high = np.array(triples).T
        colour = COLOURS.get(name, COLOURS[spare])
        ax.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(places, middle, "o-", color=colour, markersize=5)
        ax.text(places[-1] + 0.15, end, NAMES.get(name, name), color=colour, va="center", fontsize=9)
    ax.set_xticks(places, stages, rotation=30 if len(stages) > 8 else 0)
    ax.set_ylabel(ylabel)
    ax.set_xlim(-0.2, len(stages) - 1 + 0.28 * len(stages))
    ax.grid(axis="y", color="#EEEEEE")
    ax.set_axisbelow(True)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return the heights of labels in their order, moved up where one would lie on another."""
    moved, lowest = list(heights), -np.inf
    for i in np.argsort(heights):
        lowest = moved[i] = max(moved[i], lowest + gap)
    return moved


def share_curves(
    shares: Any, curves: Mapping[str, Any], *, title: str, xlabel: str, ylabel: str, alt: str
) -> Picture:
    """Return named curves over a share of pixels from 0 to 1; `curves` maps a name to values."""
    picture, axes = figure(7.5, 2.8, alt=alt)
    ax = axes[0, 0]
    curves = {name: np.asarray(values) for name, values in curves.items()}
    given = list(curves)  # colours follow this order, so that two pictures of the same names agree
    ends = sorted(curves, key=lambda name: float(curves[name].mean()))
    for rank, name in enumerate(ends):
        other = COLOURS[OTHERS[given.index(name) % len(OTHERS)]]
        colour = COLOURS["majority"] if name == "random order" else other
        ax.plot(shares, curves[name], color=colour, linewidth=2)
        # Named at evenly spaced heights, in the order of the areas: the ends themselves coincide.
        height = (rank + 0.5) / len(ends)
        ax.text(1.03, height, name, color=colour, va="center", fontsize=9, transform=ax.transAxes)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, None))
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture
