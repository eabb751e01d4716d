"""Any folder of images: `folder/class/*.jpg`, with train, val and test around the classes or inside them."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import LearnerError, printable
from .assemble import Item, assemble
from .cards import Card
from .dataset import DatasetSplits, Problem
from .duplicates import MOST
from .folder_cache import find_copies_once
from .grouping import KeyOf
from .layout import read_layout
from .scan import FileScan, scan_files, walk
from .shards import find_shards, only_shards, read_shards

ELONGATED = 5
"""From this ratio of its sides on, a picture is noted as elongated: a square crop shows little of it."""


def load_folder(
    root: Path,
    *,
    seed: int = 0,
    empty: str = "error",
    too_few: str = "error",
    key_of: KeyOf | None = None,
    card: Card | None = None,
    splits: Mapping[str, str] | None = None,
    copies: str = "near",
    grey_bits: int = 16,
) -> DatasetSplits:
    """Return the data set of a folder; see `load`."""
    told, (root, shards) = root, find_shards(root)
    _check_folder(root)
    files, folders, problems = (shards, [], []) if shards else walk(root)
    if shards or (shards := only_shards(files)):
        places, classes, noted, own_splits = read_shards(root, shards, splits)
    else:
        places, classes, noted, own_splits = read_layout(root, files, folders, splits)
    problems += noted
    items, set_aside = read_items(root, places, copies=copies, grey_bits=grey_bits)
    described = card or _describe(told, own_splits=own_splits)
    dataset = assemble(
        described.name,
        items,
        classes=classes,
        card=described,
        problems=problems + set_aside,
        seed=seed,
        too_few=too_few,
        key_of=key_of,
        folder=root,
        empty=empty,
        grey_bits=grey_bits,
    )
    if card is None:
        images = sum(map(len, (dataset.train, dataset.val, dataset.test)))
        dataset.card = replace(
            described, images=images, classes=tuple(dataset.classes), hash=dataset.content_hash
        )
    return dataset


def read_items(
    root: Path, places: Sequence[tuple[Path, str, str]], *, copies: str = "near", grey_bits: int = 16
) -> tuple[list[Item], list[Problem]]:
    """Return the usable images among (path below `root`, label, side), and the problems of the others."""
    items: list[Item] = []
    problems: list[Problem] = []
    usable: list[FileScan] = []
    for (file, label, side), scan in zip(
        places, scan_files(root, [file for file, _, _ in places], grey_bits), strict=True
    ):
        if scan.kind:
            problems.append(Problem(root / file, scan.kind, scan.message))
        else:
            items.append(Item(root / file, label, scan.sha256, side=side))
            usable.append(scan)
    if copies == "equal" or len(usable) < 2:
        items = [replace(item, group=scan.pixels) for item, scan in zip(items, usable, strict=True)]
    else:
        labels = [item.label for item in items]
        found = find_copies_once([x.pixels for x in usable], np.stack([x.thumb for x in usable]), labels)
        items = [replace(item, group=group) for item, group in zip(items, found.groups, strict=True)]
        if found.doubtful:
            first, second, *_ = (items[i].path for i in found.doubtful[0])
            message = (
                f"{sum(map(len, found.doubtful))} images differ by no more than noise, such as this and "
                f"{second}: frames of a camera that stands still, or copies. They are taken for different "
                "pictures. If they belong together, say so by group_by=."
            )
            problems.append(Problem(first, "alike", message))
        if len(usable) > MOST:
            message = f"Among more than {MOST:,} images only equal pixels are taken for copies."
            problems.append(Problem(root, "copies-unsought", message))
    return items, problems + _note_doubtful(root, items, usable, grey_bits)


def _note_doubtful(
    root: Path, items: Sequence[Item], scans: Sequence[FileScan], grey_bits: int
) -> list[Problem]:
    """Return notes on pictures that can be read, but of which a network would see little."""
    problems = []
    for item, scan in zip(items, scans, strict=True):
        short, long = sorted(scan.size)
        if long >= ELONGATED * short:
            message = (
                f"{scan.size[0]} x {scan.size[1]} pixels: a square crop shows {short / long:.2%} of it. "
                "Cut it into several pictures."
            )
            problems.append(Problem(item.path, "elongated", message))
    white = max((scan.white for scan in scans), default=0)
    used = math.ceil(math.log2(white + 1))
    if white > 1 and used <= min(grey_bits - 2, 14):
        message = (
            f"The 16-bit grey values of these pictures end at {white:g}, which is nearly black: pictures of "
            f"{max(used, 8)} bits, perhaps. Then pass grey_bits={max(used, 8)}, to load and to load_image."
        )
        problems.append(Problem(root, "dark", message))
    return problems


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise LearnerError(
            f"There is no folder {root} (looked in {Path.cwd()}). Check the spelling and the place."
        )
    if root.is_dir():
        return
    if zipfile.is_zipfile(root) or root.name.endswith((".tgz", ".tar.gz", ".tar.xz", ".7z", ".rar")):
        raise LearnerError(
            f"{root} is an archive. Unpack it and load the folder that comes out, or a .tar file made of "
            "that, not compressed."
        )
    raise LearnerError(f"{root} is a file. Expected a folder with one folder of images for each class.")


def _describe(root: Path, *, own_splits: bool) -> Card:
    """Return the card of a folder that nobody has described; its images are counted later."""
    carved = "the folder's own splits; those that are missing are carved out of train by seed"
    name = printable(root.resolve().name.removesuffix(".tar").partition("{")[0].rstrip("-_.*"))
    return Card(
        name=name,
        title=f"The folder {name}",
        what="Images in a folder of your own.",
        images=0,
        classes=(),
        licence="not stated",
        citation="",
        source=printable(str(root)),
        offline=True,
        split_rule=carved
        if own_splits
        else "60/20/20 of each class by seed, copies of one picture on one side, known files where they were",
        similarity="unknown",
        similarity_why="nobody has said how close these images are to ImageNet's.",
    )
