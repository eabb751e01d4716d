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
from .grouping import KeyOf
from .kept import find_copies_once
from .layout import find_splits, name_classes
from .scan import FileScan, scan_files, walk

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
    _check_folder(root)
    files, folders, problems = walk(root)
    bases, class_folders = find_splits(root, files, folders, splits)
    labels, doubtful = name_classes(root, class_folders)
    problems += doubtful
    classes = sorted(set(labels.values()))
    _check_classes(root, classes, folders, files, bases)

    places: list[tuple[Path, str, str]] = []
    for file in files:
        base = next((folder for folder in bases if folder in file.parents), None)
        own = next((folder for folder in file.parents if folder in labels), None)
        if base is None:
            message = f"Beside {', '.join(map(str, list(bases)[:4]))}, so in no split."
        elif own is None:
            message = "Not inside a class folder, so without a label."
        else:
            places.append((file, labels[own], bases[base]))
            continue
        problems.append(Problem(root / file, "outside-class", message))

    items, set_aside = read_items(root, places, copies=copies, grey_bits=grey_bits)
    described = card or _describe(root, own_splits=bases.keys() != {Path()})
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
    if zipfile.is_zipfile(root) or root.name.endswith((".tar", ".tgz", ".tar.gz", ".tar.xz", ".7z", ".rar")):
        raise LearnerError(f"{root} is an archive. Unpack it and load the folder that comes out.")
    raise LearnerError(f"{root} is a file. Expected a folder with one folder of images for each class.")


def _check_classes(
    root: Path, classes: list[str], folders: list[Path], files: list[Path], bases: Mapping[Path, str]
) -> None:
    """Raise LearnerError, with the next step, for a folder that cannot hold two classes."""
    if len(classes) >= 2:
        return
    if not classes:
        inside = (
            f"It holds {len(files)} file{'s' * (len(files) != 1)}, in no class" if files else "It is empty"
        )
        raise LearnerError(
            f"{root} has no class folders. {inside}. Expected one folder of images for each class: "
            f"{root.name}/cat/1.jpg, {root.name}/dog/2.jpg, or the same inside train, val and test."
        )
    deeper = folders[0]
    while Path() in bases:
        below = [folder.name for folder in folders if folder.parent == deeper]
        if len(below) > 1:
            names = ", ".join(below[:5]) + (", …" if len(below) > 5 else "")
            raise LearnerError(
                f"{root} holds one folder, {folders[0].name!r}, which would be the only class; two are "
                f"needed. If the classes are the folders further in ({names}), load {root / deeper} instead."
            )
        if not below:
            break
        deeper = deeper / below[0]
    raise LearnerError(
        f"{root} has fewer than two classes, only {classes[0]!r}. There is nothing to tell apart: add a "
        "folder with images of something else."
    )


def _describe(root: Path, *, own_splits: bool) -> Card:
    """Return the card of a folder that nobody has described; its images are counted later."""
    carved = "the folder's own splits; those that are missing are carved out of train by seed"
    name = printable(root.resolve().name)
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
