"""Data sets in tar files, "shards", as in WebDataset: found, laid out as classes and splits, and written."""

import io
import itertools
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .. import runtime
from ..errors import LearnerError, printable
from .dataset import DatasetSplits, Problem, Split
from .files import index, key_of_sample
from .images import EXTENSIONS
from .layout import Layout, as_told, read_layout, read_role
from .scan import hidden


def find_shards(path: Path) -> tuple[Path, list[Path]]:
    """Return (folder, tar files in it) for a tar file, or the pattern of some: "x/train-{000..146}.tar".

    Returns (path, []) for anything else. Raises LearnerError for a pattern of which files are missing.
    """
    if path.suffix != ".tar" or path.is_dir():
        return path, []
    parts = re.split(r"\{(\d+)\.\.(\d+)\}", str(path))
    ranges = [
        [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
        for first, last in zip(parts[1::3], parts[2::3], strict=True)
    ]
    texts = [[text] for text in parts[::3]]
    order = [x for pair in itertools.zip_longest(texts, ranges, fillvalue=[""]) for x in pair]
    paths = [Path("".join(words)) for words in itertools.product(*order)]
    if "*" in path.name or "?" in path.name:
        paths = sorted(path.parent.glob(path.name))
    missing = [p for p in paths if not p.is_file()]
    if missing or not paths:
        raise LearnerError(
            f"{path} names {len(paths)} tar files, and {len(missing) or 'all'} of them are missing, first "
            f"{missing[0] if missing else path}. Check the spelling, and that all were downloaded."
        )
    root = path.parent
    while "{" in str(root):
        root = root.parent
    return root, [p.relative_to(root) for p in paths]


def only_shards(files: Sequence[Path]) -> list[Path]:
    """Return the tar files among the files of a folder; none where images lie beside them."""
    shards = [file for file in files if file.suffix == ".tar"]
    return shards if not any(file.suffix.lower() in EXTENSIONS for file in files) else []


def read_shards(root: Path, shards: Sequence[Path], splits: Mapping[str, str] | None) -> Layout:
    """Return how the images in shards below `root` are laid out; a path leads into its shard.

    The names of the shards say their splits, or `splits`. Labels are those that a .cls or .json file of the
    sample says; where no sample has one, the folders within the shards are read as a folder of images is.
    """
    sides = _sides(root, shards, splits)
    told: list[tuple[Path, str, str]] = []
    loose: dict[Path, tuple[Path, str]] = {}
    problems: list[Problem] = []
    for number, shard in enumerate(shards):
        found, taken = index(root / shard), set[str]()
        problems += [Problem(root / shard / name, kind, message) for name, kind, message in found.problems]
        for name in found.members:
            key, extension = key_of_sample(name)
            place, image = shard / name, f".{extension.rpartition('.')[2]}" in EXTENSIONS
            if any(map(hidden, Path(name).parts)):
                problems.append(Problem(root / place, "ignored", "A hidden file of a program, not an image."))
            elif shard not in sides:
                problems.append(Problem(root / place, "outside-class", "Its shard is in no split."))
            elif key not in found.labels:
                # Shards may have the same names in them.
                loose[Path(name).parent / f"{number:06d} {Path(name).name}"] = place, sides[shard]
            elif image and key in taken:
                problems.append(Problem(root / place, "ignored", "The sample has another image."))
            elif image:
                taken.add(key)
                told.append((place, printable(found.labels[key]), sides[shard]))
    own_splits = any(sides.values())
    if told:
        message = "No .cls or .json file of its sample says its class."
        problems += [
            Problem(root / place, "outside-class", message)
            for place, _ in loose.values()
            if place.suffix.lower() in EXTENSIONS
        ]
        classes = sorted({label for _, label, _ in told})
        if all(label.isdecimal() for label in classes):
            classes.sort(key=int)
        if len(classes) < 2:
            raise LearnerError(
                f"The samples in {root} are all of class {classes[0]!r}: nothing to tell apart."
            )
        return Layout(told, classes, problems, own_splits)
    loose = _unwrapped(loose)
    folders = sorted({folder for file in loose for folder in file.parents} - {Path()})
    if not folders:
        why = f" {problems[0].path}: {problems[0].message}" if problems else ""
        raise LearnerError(
            f"{len(loose)} files lie in the shards of {root}, without labels. Expected beside each image a "
            f"file of the same name that ends in .cls or .json, or a folder for each class.{why}"
        )
    inner = read_layout(root, sorted(loose), folders, {} if own_splits else splits)
    real = {root / file: root / place for file, (place, _) in loose.items()}
    problems += [replace(problem, path=real.get(problem.path, problem.path)) for problem in inner.problems]
    places = [(loose[file][0], label, loose[file][1] or side) for file, label, side in inner.places]
    return Layout(places, inner.classes, problems, own_splits or inner.own_splits)


def _sides(root: Path, shards: Sequence[Path], splits: Mapping[str, str] | None) -> dict[Path, str]:
    """Return the split of each shard, "" where they have none; those of no split are left out."""
    names = {
        shard: shard.parts[0] if len(shard.parts) > 1 else re.sub(r"[\W\d_]+$", "", shard.stem)
        for shard in shards
    }
    if splits and set(splits) <= set(names.values()):
        return as_told(root, names, splits)
    roles = {shard: read_role(str(shard.with_suffix(""))) for shard in shards}
    if splits is not None or "train" not in roles.values():
        return dict.fromkeys(shards, "")
    if not all(roles.values()):
        other = next(shard for shard, role in roles.items() if not role)
        told = ", ".join(f"{name!r}: …" for name in sorted(set(names.values()))[:4])
        raise LearnerError(
            f"{root}: some shards are named train, and {other} like no split. Say what each is: "
            f"splits={{{told}}}, each 'train', 'val' or 'test'; for one set, split by seed, pass splits={{}}."
        )
    return roles


def _unwrapped(files: dict[Path, tuple[Path, str]]) -> dict[Path, tuple[Path, str]]:
    """Return the files without the one folder that all lie in, above those of the classes."""
    while len({file.parts[0] for file in files}) == 1 and all(len(file.parts) > 2 for file in files):
        files = {Path(*file.parts[1:]): place for file, place in files.items()}
    return files


def write_shards(dataset: DatasetSplits, folder: str | Path, *, images: int = 10_000) -> list[Path]:
    """Return the tar files that a data set was written to, in WebDataset's format: `load(folder)` reads them.

    Each split has its shards, "train-000000.tar" and so on. A sample is the image's file as it is, the number
    of its class (.cls), and the name of its class and of its file (.json).

    Args:
        dataset: the images.
        folder: where the shards go; it has none so far.
        images: how many images are in a shard.

    Raises:
        LearnerError: the folder has tar files, or cannot be written.

    Example:
        >>> from tlutils import data
        >>> paths = data.write_shards(data.load("digits"), "digits-shards", images=1000)
        >>> [path.name for path in paths][:2]
        ['train-000000.tar', 'train-000001.tar']
        >>> data.load("digits-shards").train
        Split(train: 1079 images, 10 classes)
    """
    folder, written = runtime.user_path(folder), []
    if any(folder.glob("*.tar")):
        raise LearnerError(f"{folder} has tar files already. Choose another folder, or remove them first.")
    for split in (dataset.train, dataset.val, dataset.test):
        for number, start in enumerate(range(0, len(split), images)):
            written.append(folder / f"{split.name}-{number:06d}.tar")
            with runtime.atomic_write(written[-1]) as temporary, tarfile.open(temporary, "w") as archive:
                for i in range(start, min(start + images, len(split))):
                    _add(archive, dataset, split, i)
    return written


def _add(archive: tarfile.TarFile, dataset: DatasetSplits, split: Split, i: int) -> None:
    path, label = split.paths[i], split.labels[i]
    inside = path.relative_to(dataset.root)
    key = (inside.parent / f"{i:08d}-{path.stem.replace('.', '_')}").as_posix()
    image = path.suffix.lower() if path.suffix.lower() in EXTENSIONS else ".jpg"  # the content decides
    about = {"class": split.classes[label], "file": dataset.name_of(path)}
    for ending, content in (
        (image, split.content(i)),
        (".cls", str(label).encode()),
        (".json", json.dumps(about).encode()),
    ):
        member = tarfile.TarInfo(key + ending)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
