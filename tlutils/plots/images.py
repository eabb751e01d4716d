"""Images and maps: in rows, over a photograph, right and wrong predictions."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .pixels import as_array, as_picture, contrast
from .style import COLOURS, DIVERGING, SEQUENTIAL, Picture, figure, show_image


def image_rows(
    rows: Mapping[str, Sequence[Any]],
    *,
    title: str,
    alt: str,
    captions: Sequence[Sequence[str]] | None = None,
    cmap: str = SEQUENTIAL,
    width: float = 7.5,
) -> Picture:
    """Return rows of images, each row with its name at the left; the contrast of maps is stretched.

    Args:
        rows: {name: images}; an image is a PIL image, or a tensor (3, H, W) or an array (H, W, 3) of uint8 or
            of fractions in [0, 1], or a map (H, W) of any range.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.
        captions: What stands above the images, for the first row or for every row.
        cmap: The matplotlib colour map of the maps.
        width: Of the picture, in inches.

    Example:
        >>> import numpy as np
        >>> from tlutils import plots
        >>> rows = {"noise": [np.random.rand(8, 8, 3), np.random.rand(8, 8)]}
        >>> plots.image_rows(rows, title="Noise", alt="Two squares of noise.", captions=[["image", "map"]])
        [picture] Two squares of noise.
    """
    count = max(len(images) for images in rows.values())
    label = 0.9 if any(rows) else 0.0
    side = (width - label) / count
    title = textwrap.fill(title, int(10.8 * width)) if "\n" not in title else title
    lines = sum(max(text.count("\n") + 1 for text in row) for row in captions or [])
    height = 0.2 + 0.18 * len(title.splitlines()) + len(rows) * (side + 0.04) + 0.17 * lines
    picture, axes = figure(width, height, title=title, alt=alt, rows=len(rows), cols=count)
    for r, (name, images) in enumerate(rows.items()):
        for ax in axes[r, len(images) :]:
            ax.axis("off")
        for c, image in enumerate(images):
            ax, is_map = axes[r, c], not isinstance(image, Image.Image) and as_array(image).ndim == 2
            caption = captions[r][c] if captions and r < len(captions) else ""
            show_image(ax, contrast(image) if is_map else image, caption)
            small = ax.images[0].get_size()[0] < 16
            ax.images[0].set(interpolation="nearest" if small else "bicubic", cmap=cmap if is_map else "gray")
        axes[r, 0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    return picture


def overlays(
    photo: Any, maps: Mapping[str, Any], *, title: str, alt: str, signed: bool = False, width: float = 7.5
) -> Picture:
    """Return a photograph, and beside it each map in colour over a pale grey copy, with its name above.

    Args:
        photo: A PIL image, or a tensor (3, H, W) or an array (H, W, 3): uint8, or fractions in [0, 1].
        maps: {name: map (H, W)} of any range.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.
        signed: Whether zero is the middle of the colours: what lies below it has a colour of its own.
        width: Of the picture, in inches.

    Example:
        >>> import numpy as np
        >>> from tlutils import plots
        >>> photo, heat = np.random.rand(8, 8, 3), np.random.rand(8, 8)
        >>> plots.overlays(photo, {"heat": heat}, title="Heat", alt="A map.")
        [picture] A map.
    """
    colour = as_picture(photo)
    grey = colour.mean(2) if colour.ndim == 3 else colour
    columns = 1 + len(maps)
    picture, axes = figure(
        width, width / columns * len(grey) / grey.shape[1] + 0.6, title=title, alt=alt, cols=columns
    )
    show_image(axes[0, 0], colour, "the photograph")
    for ax, (name, values) in zip(axes[0, 1:], maps.items(), strict=True):
        weight = contrast(values, signed=signed)
        ax.imshow(0.35 + 0.65 * grey, cmap="gray", vmin=0, vmax=1)
        strength = np.abs(2 * weight - 1) if signed else weight
        show_image(ax, weight, name)
        ax.images[-1].set(cmap=DIVERGING if signed else "inferno", alpha=0.75 * strength**0.7)
    return picture


def right_and_wrong(
    images: Sequence[Any],
    truth: Sequence[int],
    proba: Any,
    classes: Sequence[str],
    *,
    title: str,
    alt: str,
    columns: int = 6,
) -> Picture:
    """Return a row of the most confident right predictions above a row of the most confident wrong ones.

    Where none is right, or none wrong, the other row stands alone.

    Args:
        images: n images, each a PIL image, or a tensor (3, H, W) or an array (H, W, 3) of uint8 or of
            fractions in [0, 1].
        truth: The class index of each image (n,).
        proba: The predicted probabilities (n, C).
        classes: Names of the C classes.
        title: What the picture shows, as a sentence.
        alt: What a reader who cannot see the picture should know.
        columns: How many images there are in a row.

    Example:
        >>> from PIL import Image
        >>> from tlutils import plots
        >>> photos = [Image.new("RGB", (8, 8))] * 2
        >>> proba = [[0.9, 0.1], [0.2, 0.8]]
        >>> plots.right_and_wrong(photos, [0, 0], proba, ["cat", "dog"], title="Errors", alt="One each.")
        [picture] One each.
    """
    labels, proba = np.asarray(truth), np.asarray(proba)
    guess, surest = proba.argmax(1), np.argsort(-proba.max(1), kind="stable")
    shown = {hit: [i for i in surest if (guess[i] == labels[i]) == hit][:columns] for hit in (True, False)}
    shown = {hit: chosen for hit, chosen in shown.items() if chosen}
    picture, axes = figure(7.5, 1.95 * len(shown), title=title, alt=alt, rows=len(shown), cols=columns)
    for row, (hit, chosen) in enumerate(shown.items()):
        for ax in axes[row, len(chosen) :]:
            ax.axis("off")
        for ax, i in zip(axes[row], chosen, strict=False):
            second = f"{proba[i].max():.0%} sure" if hit else f"is {classes[labels[i]]}"
            says = f"says {classes[guess[i]]}\n{second}"
            show_image(ax, images[i], says)
            ax.title.set_color(COLOURS["probe"] if hit else COLOURS["finetune"])
        axes[row, 0].set_ylabel(f"surest {'right' if hit else 'wrong'}", fontsize=9)
    return picture
