"""Any folder of images: `folder/class/*.jpg`, or `folder/train/class/*.jpg` with val and test beside it."""

import zipfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import LearnerError
from .assemble import Item, assemble, choose_classes
from .cards import Card
from .dataset import Dataset, Problem, hash_content
from .duplicates import group_copies
from .scan import scan_files, walk

SIDES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names (in any case) that are read as splits, where "train" is one of them."""


def load_folder(
    root: Path,
    *,
    seed: int = 0,
    empty: str = "error",
    too_few: str = "error",
    groups: Callable[[Path], Hashable] | None = None,
    card: Card | None = None,
    sides: Mapping[str, str] = SIDES,
) -> Dataset:
    """Return the data set of a folder; see `load`. `sides` says which folder names are which split."""
    _check_folder(root)
    files, folders, problems = walk(root)
    tops = [folder.name for folder in folders if len(folder.parts) == 1]
    roles = _find_splits(root, tops, folders, sides)
    depth = 1 if roles else 0
    level = [folder for folder in folders if len(folder.parts) == depth + 1]
    classes = sorted({folder.name for folder in level if not roles or folder.parts[0] in roles})
    _check_classes(root, classes, folders, files, depth)

    places: list[tuple[Path, str, str]] = []
    for file in files:
        if roles and file.parts[0] not in roles:
            message = f"Beside {', '.join(roles)}, so in no split."
        elif len(file.parts) <= depth + 1:
            message = "Not inside a class folder, so without a label."
        else:
            places.append((file, file.parts[depth], roles[file.parts[0]] if roles else ""))
            continue
        problems.append(Problem(root / file, "outside-class", message))

    items, set_aside = read_items(root, places)
    problems += set_aside
    classes = choose_classes(items, classes, problems, root=root, empty=empty)
    items = [item for item in items if item.label in classes]
    if len({item.label for item in items}) < 2:
        raise _too_few_classes(root, classes)
    return assemble(
        card.name if card else root.resolve().name,
        items,
        classes=classes,
        card=card or _make_card(root, items, classes, bool(roles)),
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


def _find_splits(
    root: Path, tops: list[str], folders: list[Path], sides: Mapping[str, str]
) -> dict[str, str]:
    """Return {folder name: split} of a folder laid out by splits, or nothing for one laid out by classes."""
    roles = {name: sides[name.lower()] for name in tops if name.lower() in sides}
    filled = {folder.parts[0] for folder in folders if len(folder.parts) == 2}
    if "train" not in roles.values():
        return {}
    if len(roles) < len(tops) and (len(roles) == 1 or not filled & set(roles)):
        return {}  # "train" is a class too, beside "car" and "bus"
    if len(roles) == 2 == len(tops) and not filled:
        return {}
    for side in ("train", "val", "test"):
        same = [name for name, role in roles.items() if role == side]
        if len(same) > 1:
            raise LearnerError(f"{root} has {' and '.join(same)}, and both mean {side}. Keep one of them.")
    # A split without class folders (test images without labels) cannot be measured on: it counts as missing.
    return {name: role for name, role in roles.items() if name in filled or role == "train"}


def _check_classes(
    root: Path, classes: list[str], folders: list[Path], files: list[Path], depth: int
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
    deeper = Path(classes[0])
    while depth == 0:
        below = [folder.name for folder in folders if folder.parent == deeper]
        if len(below) > 1:
            names = ", ".join(below[:5]) + (", …" if len(below) > 5 else "")
            raise LearnerError(
                f"{root} holds one folder, {classes[0]!r}, which would be the only class; two are needed. "
                f"If the classes are the folders further in ({names}), load {root / deeper} instead."
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
    return Card(
        name=root.resolve().name,
        title=f"The folder {root.resolve().name}",
        what="Images in a folder of your own.",
        images=len(items),
        classes=tuple(classes),
        licence="not stated",
        citation="",
        source=str(root),
        offline=True,
        split_rule=carved
        if own_splits
        else "60/20/20 of each class by seed, copies of one picture on one side",
        similarity="unknown",
        similarity_why="nobody has said how close these images are to ImageNet's.",
        hash=hash_content((item.label, item.hash) for item in items),
    )
