"""Untrusted images in, honest splits out: `load(name_or_folder)` gives train, val and test that share no image."""

from pathlib import Path

from ..errors import LearnerError, unknown
from . import packaged
from .cards import Card, card, catalog, names
from .dataset import Dataset, Problem, Split, Transformed
from .images import BACKGROUND, UnreadableImage, read_image
from .packaged import Item
from .splits import NAMES, partition
from .transforms import Preprocess, as_picture, transform_for

__all__ = [
    "BACKGROUND",
    "Card",
    "Dataset",
    "Preprocess",
    "Problem",
    "Split",
    "Transformed",
    "UnreadableImage",
    "as_picture",
    "card",
    "catalog",
    "load",
    "read_image",
    "transform_for",
]

_PACKAGED = {
    "elpv-defects": lambda: packaged.elpv("defect"),
    "elpv-wafers": lambda: packaged.elpv("wafer"),
    "digits": packaged.digits,
    "mnist-5k": packaged.mnist_5k,
    "scenes": packaged.scenes,
}


def load(name_or_path: str | Path, *, seed: int = 0) -> Dataset:
    name = str(name_or_path)
    if name not in _PACKAGED:
        raise unknown("data set", name, names())
    own = card(name)
    items = _PACKAGED[name]()
    sides = (
        [i.side for i in items]
        if items[0].side
        else partition([i.stratum or i.label for i in items], [i.hash for i in items], seed=seed)
    )
    classes = own.classes
    number = {c: k for k, c in enumerate(classes)}
    made = {}
    for side in NAMES:
        pick = [i for i, s in zip(items, sides, strict=True) if s == side]
        made[side] = Split(
            side, classes, [i.path for i in pick], [number[i.label] for i in pick], [i.hash for i in pick]
        )
    return Dataset(name, list(classes), card=own, **made)
