"""From a list of images to a data set: one picture stays on one side, and what is doubtful is said."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import LearnerError
from .cards import Card
from .dataset import DatasetSplits, Problem, Split
from .duplicates import list_copies
from .files import stamp
from .folder_cache import KeptSplit
from .grouping import KeyOf, tie
from .splits import NAMES, partition


@dataclass(frozen=True)
class Item:
    """One image on its way into a data set.

    `hash` names its content; `file` is the SHA-256 of its file where that is something else. Images with
    the same `group` are one picture (by default, those of equal content). `side` is "train", "val" or
    "test" where the source says so. `stratum` is what the splits are balanced over, where the source
    knows more than the label.
    """

    path: Path
    label: str
    hash: str
    side: str = ""
    stratum: str = ""
    group: Hashable = None
    file: str = ""


def assemble(
    name: str,
    items: Sequence[Item],
    *,
    classes: Sequence[str],
    card: Card,
    problems: Sequence[Problem] = (),
    seed: int = 0,
    too_few: str = "error",
    key_of: KeyOf | None = None,
    folder: Path | None = None,
    empty: str = "keep",
    grey_bits: int = 16,
    restore: Callable[[], object] | None = None,
) -> DatasetSplits:
    """Return the data set of `items`, split by their own sides or else by seed.

    Copies are noted in the data set's problems, and so is a picture that stands under two labels. Where the
    source has sides of its own, a picture on several of them stays on the last of train, val, test, and
    leaves the others. Sides that are missing are carved out of train. In a `folder`, whose files may change,
    the name of each file (or its group) decides, and pictures stay where they were at the last load. What is
    left in train decides about the classes (`empty`).
    `restore` writes the files again.
    """
    keys = _number_groups(items, key_of)
    notes = [*problems, *_note_copies(items)]
    if any(item.side for item in items):
        items, keys, leaks = _keep_apart(items, keys)
        notes += leaks
    if folder is not None:
        classes = choose_classes(items, classes, notes, root=folder, empty=empty)
        chosen = [i for i, item in enumerate(items) if item.label in classes]
        items, keys = [items[i] for i in chosen], [keys[i] for i in chosen]
    number = {label: k for k, label in enumerate(classes)}
    sides = [item.side for item in items]
    train = [i for i, side in enumerate(sides) if side in ("", "train")]
    wanted = [side for side in ("val", "test") if side not in sides]
    if wanted:
        strata = [items[i].label if key_of else items[i].stratum or items[i].label for i in train]
        deal = partial(partition, strata, [keys[i] for i in train], seed=seed, wanted=wanted, too_few=too_few)
        if folder is None:
            dealt = deal()
        else:
            paths = [items[i].path for i in train]
            names = [repr(key_of(p)) if key_of else p.relative_to(folder).as_posix() for p in paths]
            deal = partial(deal, names=names)
            dealt, moved = _deal_again([items[i] for i in train], deal, KeptSplit(folder, seed, key_of))
            notes += moved
        for i, side in zip(train, dealt, strict=True):
            sides[i] = side
    notes += _note_missing(items, sides, classes)

    def split(side: str) -> Split:
        own = [i for i, where in enumerate(sides) if where == side]
        return Split(
            side,
            tuple(classes),
            [items[i].path for i in own],
            [number[items[i].label] for i in own],
            [items[i].hash for i in own],
            [keys[i] for i in own],
            [(items[i].file or items[i].hash, stamp(items[i].path)) for i in own],
            restore,
            grey_bits,
        )

    return DatasetSplits(name, list(classes), split("train"), split("val"), split("test"), card, notes)


def _deal_again(
    items: Sequence[Item], deal: Callable[..., list[str]], kept: KeptSplit
) -> tuple[list[str], list[Problem]]:
    """Return the side of each image, known ones where they were, and what is to be said about the others."""
    paths, hashes = [item.path for item in items], [item.hash for item in items]
    known = kept.recall(paths, hashes)
    try:
        dealt = deal(known=known)
    except LearnerError:  # with other files, the old sides may leave no way
        dealt = deal()
    kept.remember(paths, hashes, dealt)
    message = (
        "It was in {} at the last load of this folder, and is in {} now: files came, went or became copies."
    )
    return dealt, [
        Problem(item.path, "moved", message.format(was, now))
        for item, was, now in zip(items, known, dealt, strict=True)
        if was and was != now
    ]


def _note_missing(items: Sequence[Item], sides: Sequence[str], classes: Sequence[str]) -> list[Problem]:
    """Return a note for each class that a split lacks, while another has it."""
    places = {item.label: item.path.parent for item in items}
    present = {(item.label, side) for item, side in zip(items, sides, strict=True)}
    message = "{} has no image of class {!r}, so that nothing is learned or measured of it there."
    return [
        Problem(places[label], "missing-class", message.format(side, label))
        for side in NAMES
        if side in sides
        for label in classes
        if label in places and (label, side) not in present
    ]


def _number_groups(items: Sequence[Item], key_of: KeyOf | None) -> list[int]:
    """Return a number for each image, equal for those that must stay together."""
    pictures = [item.hash if item.group is None else item.group for item in items]
    return tie(pictures, [item.path for item in items], key_of)


def _note_copies(items: Sequence[Item]) -> list[Problem]:
    """Return what is to be said about images that show one picture."""
    notes = []
    for group in list_copies(_number_groups(items, None)):
        labels = sorted({items[i].label for i in group})
        first = items[group[0]]
        for i in group:
            item = items[i]
            if len(labels) > 1:
                others = ", ".join([str(items[j].path) for j in group if j != i][:3])
                message = f"One picture is under {' and '.join(labels)}; see {others}. Keep one."
                notes.append(Problem(item.path, "two-labels", message))
            elif item is not first:
                message = f"The same picture as {first.path}. Both are kept, on one side of the split."
                notes.append(Problem(item.path, "copy", message))
    return notes


def _keep_apart(items: Sequence[Item], keys: Sequence[int]) -> tuple[list[Item], list[int], list[Problem]]:
    """Return the items, their keys and the notes after pictures on several sides were left on one of them."""
    last: dict[int, str] = {}
    for item, key in zip(items, keys, strict=True):
        last[key] = max(last.get(key, "train"), item.side, key=NAMES.index)
    kept, kept_keys, notes = [], [], []
    for item, key in zip(items, keys, strict=True):
        if item.side == last[key]:
            kept.append(item)
            kept_keys.append(key)
        else:
            message = (
                f"Left out of {item.side}: the same picture, or group, is also in {last[key]}. If they are "
                'different pictures, pass copies="equal".'
            )
            notes.append(Problem(item.path, "in-two-splits", message))
    return kept, kept_keys, notes


def choose_classes(
    items: Sequence[Item], classes: Sequence[str], problems: Sequence[Problem], *, root: Path, empty: str
) -> list[str]:
    """Return the class names after the policy for classes without training images; see `load`."""
    counts = Counter(item.label for item in items if item.side in ("", "train"))
    bare = [label for label in classes if not counts[label]]
    if bare and empty == "error":
        raise LearnerError(
            f"{root} has no usable image to train on in the class folder {', '.join(map(repr, bare))}."
            f"{_why(problems)} Add images or remove the folder. Or pass empty='drop' to leave the class out, "
            "or empty='keep' to keep its name and number."
        )
    if len(classes) - len(bare) < 2:
        named = ", ".join(repr(label) for label in classes if counts[label]) or "none"
        raise LearnerError(
            f"{root} has fewer than two classes with images ({named}). There is nothing to tell apart: add a "
            "folder with images of something else."
        )
    return [label for label in classes if counts[label] or empty == "keep"]


def _why(problems: Sequence[Problem]) -> str:
    """Return a sentence on what was set aside, or nothing."""
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    if not kinds:
        return ""
    parts = [
        f"{len(found)} {kind} (such as {found[0].path.name}: {found[0].message})"
        for kind, found in kinds.items()
    ]
    return f" Set aside: {'; '.join(parts)}"
