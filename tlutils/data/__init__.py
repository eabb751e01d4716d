"""Untrusted images in, honest splits out: `load` gives train, val and test that share no image."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from .. import runtime
from ..errors import LearnerError, unknown
from . import networked, packaged
from .assemble import Item, assemble
from .cards import Card, card, catalog, names
from .dataset import (
    FEW_IMAGES,
    IMBALANCE_RATIO,
    DatasetSplits,
    LabelledImages,
    Problem,
    Split,
    TrainingData,
    Transformed,
    check_labelled,
    read_for,
)
from .files import index
from .folder import load_folder, read_items
from .grouping import GroupBy, read_key
from .images import BACKGROUND, EXTENSIONS, UnreadableImage, load_image
from .packaged import PHOTOGRAPHS, load_photograph
from .scan import hidden, walk
from .shards import find_shards, only_shards, write_shards
from .transforms import Preprocess, read_files_as, to_pil_image, transform_for

__all__ = [
    "BACKGROUND",
    "FEW_IMAGES",
    "IMBALANCE_RATIO",
    "PHOTOGRAPHS",
    "Card",
    "DatasetSplits",
    "GroupBy",
    "LabelledImages",
    "Preprocess",
    "Problem",
    "Split",
    "TrainingData",
    "Transformed",
    "UnreadableImage",
    "card",
    "catalog",
    "check_labelled",
    "list_files",
    "load",
    "load_image",
    "load_photograph",
    "read_files_as",
    "read_for",
    "to_pil_image",
    "transform_for",
    "write_shards",
]

_ITEMS: dict[str, Callable[[], list[Item]]] = {
    "cifar-10": networked.load_cifar_10,
    "digits": packaged.load_digits,
    "elpv-defects": partial(packaged.load_elpv, "defect"),
    "elpv-wafers": partial(packaged.load_elpv, "wafer"),
    "mnist-5k": packaged.load_mnist_5k,
    "scenes": packaged.load_scenes,
}


def load(
    name_or_path: str | Path,
    *,
    seed: int = 0,
    empty: str = "error",
    too_few: str = "error",
    group_by: GroupBy | None = None,
    splits: Mapping[str, str] | None = None,
    copies: str = "near",
    grey_bits: int = 16,
) -> DatasetSplits:
    """Return a data set by its name, or that of a folder of your own, which is only read.

    A folder is laid out as `folder/class/…`, as `folder/{train,val,test}/class/…` or, alike for all classes,
    as `folder/class/{train,val,test}/…`, images at any depth. Folders that hold the same folders are splits;
    a word in their names says which, as in `seg_train`, `training_set`, `dev` or `holdout`. Every image is
    decoded once, and what was found is kept in the cache; what cannot be used, or is doubtful, is listed in
    the result's `problems`. Copies of one picture never lie in two splits. Where splits are
    drawn, seed and file names decide; adding files later moves no image that was loaded before on this
    machine. Tar files are read as folders are, without being unpacked, and WebDataset's samples by their .cls
    or .json files.

    Args:
        name_or_path: a name of `catalog`, or the path of a folder, of a tar file or of several
            ("shards/train-{000..146}.tar"). A text that is no known name is taken for a path.
        seed: decides the splits, unless the data set has its own.
        empty: what happens to a class folder without images: "error", "drop" the class, or "keep" its name
            and number.
        too_few: what happens to a class with fewer pictures than splits: "error", or keep them in "train".
        group_by: a function from a path to a key; images of one key stay in one split, such as crops of one
            photograph or images of one patient. Or a regular expression, such as "patient[0-9]+": images for
            whose paths it finds the same text stay in one split.
        splits: what the folders in a folder of your own are, such as {"2019": "train", "2020": "test"}, where
            their names do not say it; {} if they are the classes whatever their names.
        copies: which images of a folder of your own are copies of one picture: "near" looks for pictures that
            were compressed again or resized, too; with "equal" only equal pixels count.
        grey_bits: how many bits of 16-bit grey pictures in a folder of your own are used; see `load_image`.

    Raises:
        LearnerError: the name is unknown, the folder cannot be split, it is unclear whether its folders are
            splits or classes, or a download failed.

    Example:
        >>> from tlutils import data
        >>> data.load("digits")
        Dataset digits: 10 classes (0, 1, 2, 3, 4, …)
          train 1079, val 359, test 359
    """
    _check_choice("empty", empty, ("error", "drop", "keep"))
    _check_choice("too_few", too_few, ("error", "train"))
    _check_choice("copies", copies, ("near", "equal"))
    key_of = read_key(group_by)
    if not 8 <= grey_bits <= 16:
        raise LearnerError(f"grey_bits={grey_bits!r}. Expected the used bits of 16-bit pictures: 8 to 16.")
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name not in names():
        path = runtime.user_path(name_or_path)
        unknown_name = not path.exists() and path.name == name and path.suffix != ".tar"
        if not isinstance(name_or_path, Path) and unknown_name:
            raise unknown(
                "data set", name, names(), hint=f"Nor is there a folder of that name in {Path.cwd()}."
            )
        return load_folder(
            path,
            seed=seed,
            empty=empty,
            too_few=too_few,
            key_of=key_of,
            splits=splits,
            copies=copies,
            grey_bits=grey_bits,
        )
    own = card(name)
    if name == "hymenoptera":
        sides = {"train": "train", "val": "test"}
        return load_folder(networked.load_hymenoptera(), seed=seed, key_of=key_of, card=own, splits=sides)
    if name in _ITEMS:
        restore = _ITEMS[name]
        items, problems = restore(), list[Problem]()
    else:
        restore = None
        items, problems = read_items(*networked.load_official(name, own.classes))
    return assemble(
        name,
        items,
        classes=own.classes,
        card=own,
        problems=problems,
        seed=seed,
        key_of=key_of,
        restore=restore,
    )


def list_files(path: Path) -> list[Path]:
    """Return the files below a folder, as `load` would find them, or the one file that a path is.

    Of shards, it is the images within them: a path leads into its tar file, as those of a split do.

    Args:
        path: a folder, a file, or shards: a folder of them, one, or a pattern as `load` takes it.

    Raises:
        LearnerError: a tar file is missing.

    Example:
        >>> from pathlib import Path
        >>> from tlutils import data
        >>> [path.name for path in data.list_files(Path('cat.jpg'))]
        ['cat.jpg']
    """
    root, shards = find_shards(path)
    files = [] if shards else [path]
    with suppress(OSError):  # of a name that no disk takes
        if path.is_dir():
            found = walk(path)[0]
            shards, files = only_shards(found), [path / file for file in found]
    if not shards:
        return files
    members = [(root / shard, Path(name)) for shard in shards for name in index(root / shard).members]
    return [
        shard / name
        for shard, name in members
        if name.suffix.lower() in EXTENSIONS and not any(map(hidden, name.parts))
    ]


def _check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise LearnerError(f"{option}={value!r} is not known. Expected {' or '.join(map(repr, known))}.")
