"""How a folder is laid out: which folders in it are splits and which are classes, or the question."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import LearnerError, printable, unknown
from .dataset import Problem
from .images import EXTENSIONS
from .splits import NAMES

WORDS = {
    "train": {"train", "training", "trainval", "trainset", "trn"},
    "val": {"val", "valid", "validation", "valset", "dev", "devel", "development", "eval", "evaluation"},
    "test": {"test", "testing", "testset", "tst", "holdout", "heldout", "hold", "held"},
}
"""What one of the words in a folder's name says of it: `seg_train`, `Test2017` and `valid` are splits."""


class Layout(NamedTuple):
    """(Path, label, side) of each file in a class; the classes; what was noted; whether there are splits."""

    places: list[tuple[Path, str, str]]
    classes: list[str]
    problems: list[Problem]
    own_splits: bool


def read_layout(
    root: Path, files: Sequence[Path], folders: Sequence[Path], splits: Mapping[str, str] | None
) -> Layout:
    """Return how the files and folders below `root`, all relative to it, are laid out; see `load`."""
    bases, class_folders = find_splits(root, files, folders, splits)
    labels, problems = name_classes(root, class_folders)
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
    return Layout(places, classes, problems, bases.keys() != {Path()})


def find_splits(
    root: Path, files: Sequence[Path], folders: Sequence[Path], splits: Mapping[str, str] | None
) -> tuple[dict[Path, str], list[Path]]:
    """Return {folder: its split} below `root`, {Path(): ""} where there are none, and the class folders.

    Classes lie inside the splits or, where every class holds the same ones, around them.
    """
    if splits is None and (within := _find_within(root, files, folders)):
        return within, sorted({folder.parent for folder in within})
    above = _find_above(root, files, folders, splits)
    return above, [folder for folder in folders if folder.parent in above]


def _find_within(root: Path, files: Sequence[Path], folders: Sequence[Path]) -> dict[Path, str]:
    """Return {folder: its split} for splits inside of classes, `cat/train`; {} where they are not there.

    Raises LearnerError where names inside speak of several splits, and not each class holds one of each.
    """
    held = {folder for file in files if file.suffix.lower() in EXTENSIONS for folder in file.parents}
    tops = {f: read_role(f.name) for f in folders if f.parent == Path() and f in held}
    inside = {f: read_role(f.name) for f in folders if f.parent != Path() and f in held}
    told = [f for f, role in inside.items() if role]
    if len(tops) < 2 or len({inside[f] for f in told}) < 2:
        return {}
    if "train" in tops.values() or all(tops.values()):  # which are the splits?
        return {}
    within = {f: role for f, role in inside.items() if f.parent in tops}
    roles = [sorted(role for f, role in within.items() if f.parent == top) for top in tops]
    if "train" in roles[0] and all(x == sorted({*roles[0]} - {""}) for x in roles):
        return within
    shown = ", ".join(f.as_posix() for f in told[:4]) + ", …" * (len(told) > 4)
    raise LearnerError(
        f"{root}: are {shown} splits, or are they parts of the classes? Splits inside of classes are read "
        "where each class folder holds the same ones, each once, train among them, and nothing else. Make "
        "it so, or put the splits on top (train/cat, test/cat); for classes of all that is in them pass "
        "splits={}."
    )


def _find_above(
    root: Path, files: Sequence[Path], folders: Sequence[Path], splits: Mapping[str, str] | None
) -> dict[Path, str]:
    """Return {folder that holds the classes: its split} below `root`; {Path(): ""} where that is `root`.

    `splits` are the learner's own words for it. Without, all top folders that hold the same folders are
    splits, and their names say which. Raises LearnerError where they don't.
    """
    inside: dict[Path, list[Path]] = defaultdict(list)
    for folder in folders:
        inside[folder.parent].append(folder)
    direct, below = Counter[Path](), Counter[Path]()
    for file in files:
        if file.suffix.lower() in EXTENSIONS:
            direct[file.parent] += 1
            below.update(file.parents)
    tops = [_unwrap(folder, inside, direct) for folder in inside[Path()]]
    names = {top: top.parts[0] for top in tops}
    if splits is not None:
        return as_told(root, names, splits) if splits else {Path(): ""}

    roles = {top: role for top in tops if (role := read_role(names[top]))}
    held = [top for top in tops if inside[top] and 2 * direct[top] <= below[top]]  # of folders, not of images
    kinds = {top: {unicodedata.normalize("NFC", folder.name) for folder in inside[top]} for top in held}
    twins = [top for top in held if any(len(kinds[top] & kinds[x]) > 1 for x in held if x is not top)]
    train = [top for top in held if roles.get(top) == "train"]
    if len(tops) == 1 and all(read_role(folder.name) for folder in inside[tops[0]]):
        return {Path(): ""}  # a folder around the splits, or around one class
    if "train" in roles.values() and len(tops) > 1 and len(roles) == len(tops) and not held:
        raise LearnerError(
            f"{root} has no class folders: {' and '.join(names.values())} hold their images directly, so "
            f"none has a label. Expected {names[tops[0]]}/cat/1.jpg, {names[tops[0]]}/dog/2.jpg, and so on. "
            "If they are the classes, pass splits={}."
        )
    others = [top for top in tops if top not in roles and below[top]]
    alone = train and others and all(roles.get(top) in (None, "train") for top in held)
    if any(top not in roles for top in twins) or (twins and not train) or alone:
        raise _ask(root, [names[top] for top in twins or tops], [kinds[top] for top in twins])
    if not train:
        return {Path(): ""}
    for side in NAMES:
        same = [names[top] for top in held if roles.get(top) == side]
        if len(same) > 1:
            raise LearnerError(
                f"{root} has {' and '.join(same)}, and both mean {side}. Keep one of them, or say what each "
                f"of the folders is: splits={{{same[0]!r}: {side!r}, …}}."
            )
    # A split without class folders (test images without labels) cannot be measured on: it counts as missing.
    return {top: roles[top] for top in held if top in roles}


def _unwrap(folder: Path, inside: Mapping[Path, list[Path]], direct: Mapping[Path, int]) -> Path:
    """Return the folder that holds several, below folders that hold nothing else (`train/train/cat`)."""
    place = folder
    while len(inside[place]) == 1 and not direct[place]:
        place = inside[place][0]
    return place if inside[place] else folder


def read_role(name: str) -> str:
    """Return the split that a name speaks of, or "" where it speaks of none, or of two."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    found = {side for side, known in WORDS.items() if known.intersection(words)}
    return found.pop() if len(found) == 1 else ""


def as_told(root: Path, names: Mapping[Path, str], splits: Mapping[str, str]) -> dict[Path, str]:
    """Return the folders as the learner named them; two of them may be one split."""
    for name, side in splits.items():
        if name not in names.values():
            raise unknown("folder", name, names.values(), hint=f"splits= names the folders in {root}.")
        if side not in NAMES:
            raise LearnerError(f"splits={{{name!r}: {side!r}}}: expected 'train', 'val' or 'test'.")
    if "train" not in splits.values():
        raise LearnerError("splits= names no folder to train on. Give one of them 'train'.")
    return {top: splits[name] for top, name in names.items() if name in splits}


def _ask(root: Path, names: Sequence[str], kinds: Sequence[set[str]]) -> LearnerError:
    """Return the question whether folders are splits or classes."""
    shared = sorted(kinds[0].intersection(*kinds)) if kinds else []
    held = f" ({', '.join(shared[:3])}{', …' * (len(shared) > 3)})" if shared else ""
    why = f"They hold the same folders{held}" if kinds else "One is named like a split and holds folders"
    told = ", ".join(f"{name!r}: {side!r}" for name, side in zip(names, NAMES, strict=False))
    return LearnerError(
        f"{root}: are {', '.join(names[:5])}{', …' * (len(names) > 5)} splits, or are they the classes? "
        f"{why}, and the names do not say. For splits pass splits={{{told}}}, each of them 'train', 'val' or "
        "'test'; for classes pass splits={}."
    )


def name_classes(root: Path, folders: Sequence[Path]) -> tuple[dict[Path, str], list[Problem]]:
    """Return the label of each class folder, and what is to be said about them.

    A name that is no text is written out in escapes. Names that differ only in how Unicode composes their
    letters (as macOS and Linux do) are one class.
    """
    forms: dict[str, set[str]] = defaultdict(set)
    for folder in folders:
        forms[unicodedata.normalize("NFC", printable(folder.name))].add(printable(folder.name))
    labels, problems = {}, []
    for folder in folders:
        shown = printable(folder.name)
        composed = unicodedata.normalize("NFC", shown)
        labels[folder] = composed if len(forms[composed]) > 1 else shown
        if len(forms[composed]) > 1 and shown != composed:
            message = (
                f"Written with other Unicode letters than another folder {composed!r}: they are one class."
            )
            problems.append(Problem(root / folder, "two-forms", message))
    alike: dict[str, list[str]] = defaultdict(list)
    for folder, label in labels.items():
        same = alike["".join(unicodedata.normalize("NFKC", label).casefold().split())]
        if same and label not in same:
            message = f"The classes {same[0]!r} and {label!r} look alike. If they are one, join the folders."
            problems.append(Problem(root / folder, "alike-names", message))
        same.append(label)
    return labels, problems


def _check_classes(
    root: Path,
    classes: Sequence[str],
    folders: Sequence[Path],
    files: Sequence[Path],
    bases: Mapping[Path, str],
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
