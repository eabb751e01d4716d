"""Images of another kind than those that were learned from: corruptions, and a real change of source."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from .materials import Change, Shrunk, judge_by, load_judges

SEVERITY = 4
OTHER_SOURCE = {"mnist-5k": "digits", "elpv-mono": "elpv-poly"}
"""Data sets with images of the same classes from another source.

scikit-learn's digits are 8 pixels wide; cells of many crystals show their grain, which a defect can hide in.
"""


def judge_shifted(dataset: str, guess: Callable[[Shrunk, Change | None], np.ndarray]) -> dict[str, str]:
    """Return `shifted`, the hits on the judges of a data set under corruptions.

    Each judge meets one of the corruptions, always the same. `real` are the hits on images from another
    source, where there is one.

    Args:
        dataset: a key of `MATERIALS`.
        guess: returns the class of each image of a split that is changed first.
    """
    judges = load_judges(dataset)
    found = {"shifted": judge_by(judges.labels, guess(judges, corrupt))["hits"]}
    if dataset in OTHER_SOURCE:
        other = load_judges(OTHER_SOURCE[dataset])
        found["real"] = judge_by(other.labels, guess(other, None))["hits"]
    return found


def _noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=float)
    return Image.fromarray(
        (pixels + rng.normal(0, 15 * severity, pixels.shape)).clip(0, 255).astype(np.uint8)
    )


def _blur(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(severity * min(image.size) / 128))


def _contrast(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(0.75**severity)


def _brightness(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + 0.25 * severity)


def _pixelate(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    small = [max(4, round(side / (1 + severity / 2))) for side in image.size]
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _jpeg(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=round(40 / severity))
    return Image.open(file).convert("RGB")


CORRUPTIONS: dict[str, Callable[[Image.Image, int, np.random.Generator], Image.Image]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
"""Six of the fifteen corruptions of Hendrycks and Dietterich 2019 (arXiv:1903.12261), of every group."""


def corrupt(
    image: Image.Image, number: int, *, severity: int = SEVERITY, kind: str | None = None
) -> Image.Image:
    """Return an image under one corruption, the same for the same number.

    Args:
        image: an RGB image; noise and blur go by its own pixels.
        number: that of the image: it decides about the corruption unless `kind` does, and seeds the noise.
        severity: 1, hardly visible, to 5.
        kind: a key of `CORRUPTIONS`.
    """
    names = list(CORRUPTIONS)
    change = CORRUPTIONS[kind or names[number % len(names)]]
    return change(image, severity, np.random.default_rng([number, severity]))
