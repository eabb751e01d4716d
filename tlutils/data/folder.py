"""Any folder of images: `folder/class/*.jpg`, or `folder/train/class/*.jpg` with val and test beside it."""

import zipfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import LearnerError, printable
from .assemble import Item, assemble, choose_classes
from .cards import Card
from .dataset import Dataset, Problem, hash_content
from .duplicates import group_copies
from .layout import find_splits, name_classes
from .scan import scan_files, walk


def load_folder(
    root: Path,
    *,
    seed: int = 0,
    empty: str = "error",
    too_few: str = "error",
    groups: Callable[[Path], Hashable] | None = None,
    card: Card | None = None,
    splits: Mapping[str, str] | None = None,
) -> Dataset:
    """Return the data set of a folder; see `load`."""
    _check_folder(root)
    files, folders, problems = walk(root)
    bases = find_splits(root, files, folders, splits)
    labels, doubtful = name_classes(root, [folder for folder in folders if folder.parent in bases])
    problems += doubtful
    classes = sorted(set(labels.values()))
    _check_classes(root, classes, folders, files, bases)

    places: list[tuple[Path, str, str]] = []
    for file in files:
        base = next((folder for folder in bases if folder in file.parents), None)
        own = next((folder for folder in file.parents if folder in labels), None)
        if base is None:
            message = f"Beside {', '.join(folder.parts[0] for folder in bases)}, so in no split."
        elif own is None:
            message = "Not inside a class folder, so without a label."
        else:
            places.append((file, labels[own], bases[base]))
            continue
        problems.append(Problem(root / file, "outside-class", message))

    items, set_aside = read_items(root, places)
    problems += set_aside
    classes = choose_classes(items, classes, problems, root=root, empty=empty)
    items = [item for item in items if item.label in classes]
    if len({item.label for item in items}) < 2:
        raise _too_few_classes(root, classes)
    return assemble(
        card.name if card else printable(root.resolve().name),
        items,
        classes=classes,
        card=card or _make_card(root, items, classes, bases.keys() != {Path()}),
        problems=problems,
        seed=seed,
        too_few=too_few,
        groups=groups,
    )


def read_items(root: Path, places: Sequence[tuple[Path, str, str]]) -> tuple[list[Item], list[Problem]]:
    """Return the usable images among (path below `root`, label, side), and the problems of the others."""
    items, problems, thumbs, contents = [], [], [], []
    scans = scan_files(root, [file for file, _, _ in places])
    for (file, label, side), scan in zip(places, scans, strict=True):
        if scan.kind:
            problems.append(Problem(root / file, scan.kind, scan.message))
        else:
            items.append(Item(root / file, label, scan.sha256, side=side))
            thumbs.append(scan.thumb)
            contents.append(scan.pixels)
    groups = group_copies(contents, np.array(thumbs))
    return [replace(item, group=group) for item, group in zip(items, groups, strict=True)], problems


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
    raise _too_few_classes(root, classes)


def _too_few_classes(root: Path, classes: list[str]) -> LearnerError:
    named = ", ".join(map(repr, classes)) or "none"
    return LearnerError(
        f"{root} has fewer than two classes with images ({named}). There is nothing to tell apart: add a "
        "folder with images of something else."
    )


def _make_card(root: Path, items: list[Item], classes: list[str], own_splits: bool) -> Card:
    """Return the card of a folder that nobody has described."""
    carved = "the folder's own splits; those that are missing are carved out of train by seed"
    name = printable(root.resolve().name)
    return Card(
        name=name,
        title=f"The folder {name}",
        what="Images in a folder of your own.",
        images=len(items),
        classes=tuple(classes),
        licence="not stated",
        citation="",
        source=printable(str(root)),
        offline=True,
        split_rule=carved
        if own_splits
        else "60/20/20 of each class by seed, copies of one picture on one side",
        similarity="unknown",
        similarity_why="nobody has said how close these images are to ImageNet's.",
        hash=hash_content((item.label, item.hash) for item in items),
    )
