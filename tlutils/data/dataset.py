"""What every data set is here: three splits of paths and labels, read one image at a time."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import index as as_index
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from ..errors import LearnerError, printable
from .cards import Card
from .files import stamp
from .grouping import GroupBy, read_key, tie
from .images import UnreadableImage, decode, read_file

FEW_IMAGES = 20
"""A class with fewer images than these is said to have few."""

IMBALANCE_RATIO = 3
"""Classes are called imbalanced when one has at least this many times as many images as another."""

SHOWN = 5  # problems of one kind that are shown


@dataclass(frozen=True)
class Problem:
    """An image or folder that was set aside or is doubtful.

    Attributes:
        path: where it is.
        kind: one word, such as "broken", "copy" or "two-labels".
        message: what is wrong with it, and what to do; names that are not valid UTF-8 are shown escaped.
    """

    path: Path
    kind: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))


class LabelledImages(Protocol):
    """What training, features and evaluation need of a split: a sequence of (PIL image, class index).

    `Split` is one; any other object with these members will do, wherever a function asks for images with
    labels.
    """

    @property
    def labels(self) -> Sequence[int]:
        """The class index of each image, from 0; reading them opens no file."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that changes when an image, a label or the order does: caches go by it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> tuple[Image.Image, int]: ...


def check_labelled(images: object) -> None:
    """Raise LearnerError unless `images` have what training, features and evaluation need of them.

    Args:
        images: What somebody passed as a split.

    Example:
        >>> from tlutils import data
        >>> data.check_labelled(data.load("digits").val)
    """
    if missing := [name for name in ("labels", "fingerprint") if not hasattr(images, name)]:
        raise LearnerError(
            f"A {type(images).__name__} arrived, which has no {' and no '.join(missing)}. Expected a split, "
            "like data.load(...).train. A folder with a folder for each class becomes splits with "
            "data.load('path/of/the/folder'); of torchvision's ImageFolder that path is the `root`."
        )


class TrainingData(Protocol):
    """What training needs of a data set: images to train on, images to judge by, and the class names.

    `DatasetSplits` is one. There is no test split here: training never sees it.
    """

    @property
    def train(self) -> LabelledImages:
        """The images to train on."""
        ...

    @property
    def val(self) -> LabelledImages:
        """The images to judge by; may be empty."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""
        ...


@dataclass
class _Reads:
    """How often a split was read, and which files had changed then; shared by its views in this process."""

    count: int = 0
    changed: dict[Path, None] = field(default_factory=dict)


@dataclass(eq=False)
class Split(TorchDataset[tuple[Image.Image, int]]):
    """Images of one split: `len(split)`, and `split[i]` gives (upright RGB PIL image, class index).

    Read images through the split, not by their paths: it counts how many were read, so that a lesson can show
    that its test split was left alone.

    Attributes:
        name: "train", "val" or "test".
        classes: names of the classes.
        paths: file of each image.
        labels: class index of each image.
        hashes: SHA-256 of the content of each image.
        groups: number of the picture that each image shows, equal for known copies and for images that the
            source or the caller keeps together.
        files: what is known of each file since it was loaded: (SHA-256, stamp).
        restore: writes the files again, where they are this package's own.
        grey_bits: how many bits of 16-bit grey pictures are used; see `load_image`.
    """

    name: str
    classes: tuple[str, ...]
    paths: list[Path]
    labels: list[int]
    hashes: list[str]
    groups: list[int]
    files: list[tuple[str, str]] = field(repr=False)
    restore: Callable[[], object] | None = field(default=None, repr=False)
    grey_bits: int = 16
    _reads: _Reads = field(default_factory=_Reads, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return self.read(i), self.labels[as_index(i)]

    def read(self, i: int, *, min_side: int | None = None) -> Image.Image:
        """Return image i; a large JPEG may come back smaller.

        Args:
            i: position in this split.
            min_side: the shorter side, in pixels, that is enough; see `load_image`.
        """
        i = as_index(i)
        self._reads.count += 1
        return decode(self.content(i), self.paths[i], self.grey_bits, min_side)

    def content(self, i: int) -> bytes:
        """Return the bytes of the file of image i, after a check that they are the ones that were loaded.

        Args:
            i: position in this split.
        """
        path, expected = self.paths[i], self.files[i][0]
        try:
            content = read_file(path)
            same = _sha256(content) == expected
        except UnreadableImage:
            if self.restore is None:
                raise
            same = False
        if not same and self.restore is not None:
            self.restore()
            content = read_file(path)
            same = _sha256(content) == expected
        if same:
            self._reads.changed.pop(path, None)
        else:
            self._reads.changed[path] = None
        return content

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Split({self.name}: {len(self)} images, {len(self.classes)} classes)"

    @property
    def images_read(self) -> int:
        """Number of images read so far through this split and every view of it."""
        return self._reads.count

    @property
    def changed(self) -> list[Path]:
        """Files that are there and hold something else than when the data set was loaded.

        Those that were read since are known by their bytes, the others by a look at the disk.
        """
        for i, path in enumerate(self.paths):
            now = stamp(path)
            if now not in (self.files[i][1], "gone"):
                self.content(i)
                if path not in self._reads.changed:
                    self.files[i] = self.files[i][0], now
        return [path for path in self.paths if path in self._reads.changed]

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each class, in the order of the classes."""
        counted = Counter(self.labels)
        return {name: counted[k] for k, name in enumerate(self.classes)}

    @property
    def few(self) -> dict[str, int]:
        """The classes with fewer than `FEW_IMAGES` images, and how many they have, the fewest first."""
        few = {name: count for name, count in self.counts.items() if count < FEW_IMAGES}
        return dict(sorted(few.items(), key=lambda item: item[1]))

    @property
    def largest_and_smallest(self) -> tuple[str, str] | None:
        """(Largest, smallest class) where one has `IMBALANCE_RATIO` times as many images; else None."""
        counts = self.counts
        most, least = max(counts, key=lambda k: counts[k]), min(counts, key=lambda k: counts[k])
        return (most, least) if counts[most] >= IMBALANCE_RATIO * counts[least] else None

    @property
    def fingerprint(self) -> str:
        """16 hex digits that depend on the images' content, order and labels and on the class names alone."""
        digest = hashlib.sha256(repr(self.classes).encode())
        if self.grey_bits != 16:
            digest.update(f"{self.grey_bits} bits".encode())
        for label, content in zip(self.labels, self.hashes, strict=True):
            digest.update(f"{label}:{content};".encode())
        return digest.hexdigest()[:16]

    def select(self, indices: Sequence[int]) -> "Split":
        """Return a view of some images, in the order given; reads still count for the whole split.

        Args:
            indices: positions in this split.
        """
        pick = [as_index(i) for i in indices]
        return Split(
            self.name,
            self.classes,
            [self.paths[i] for i in pick],
            [self.labels[i] for i in pick],
            [self.hashes[i] for i in pick],
            [self.groups[i] for i in pick],
            [self.files[i] for i in pick],
            self.restore,
            self.grey_bits,
            self._reads,
        )

    def subsample(self, per_class: int, *, seed: int = 0) -> "Split":
        """Return a view with so many images of every class; this split stays as it is.

        Smaller samples of one seed are contained in larger ones, so that a learning curve only adds images.

        Args:
            per_class: number of images of each class.
            seed: what they are drawn by.

        Raises:
            LearnerError: a class has fewer.
        """
        if per_class < 1:
            raise LearnerError(f"per_class is {per_class}. Expected at least 1 image of each class.")
        few = {name: n for name, n in self.counts.items() if n < per_class}
        if few:
            listed = ", ".join(f"{name!r} has {n}" for name, n in few.items())
            raise LearnerError(
                f"{per_class} images of each class were asked for, but in {self.name} {listed}. "
                f"Take at most {min(few.values())}, or add images."
            )
        labels, picked = np.asarray(self.labels), list[int]()
        for k in range(len(self.classes)):
            order = np.random.default_rng([seed % 2**32, k]).permutation(np.flatnonzero(labels == k))
            picked.extend(int(i) for i in order[:per_class])
        return self.select(sorted(picked))

    def join(self, other: "Split") -> "Split":
        """Return the images of this split and then those of another one of the same data set.

        Args:
            other: a split with the same classes, such as `val` beside `train` once all is chosen.

        Raises:
            LearnerError: the classes differ.
        """
        if self.classes != other.classes:
            raise LearnerError(
                f"The classes {self.classes} and {other.classes} arrived. Expected splits of one data set."
            )
        lists = ("paths", "labels", "hashes", "groups", "files")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in lists})

    def grouped(self, group_by: GroupBy | None) -> "Split":
        """Return a view in which images of one key are one group, beside the groups that are known.

        Args:
            group_by: as in `load`; with None nothing changes.

        Raises:
            LearnerError: the text is not a regular expression.
        """
        if group_by is None:
            return self
        return replace(self, groups=tie(self.groups, self.paths, read_key(group_by)))

    def transformed(self, transform: Callable[[Image.Image], torch.Tensor]) -> "Transformed":
        """Return a torch Dataset of (transform(image), label).

        Args:
            transform: a function from a PIL image to a tensor. Calls stand alone: no transform is shared.
        """
        return Transformed(self, transform)


@dataclass(eq=False)
class Transformed(TorchDataset[tuple[torch.Tensor, int]]):
    """A split seen through a transform: (tensor, class index) each. It pickles when the transform does.

    Attributes:
        split: the images.
        transform: a function from a PIL image to a tensor.
    """

    split: Split
    transform: Callable[[Image.Image], torch.Tensor]

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(read_for(self.transform, self.split, i)), self.split.labels[i]


def read_for(transform: object, images: Sequence[Any] | LabelledImages, i: int) -> Any:
    """Return image i of a split, or of a sequence, as large as a transform can make use of.

    Training, features and predictions read their images by it, so that all see the same.

    Args:
        transform: what will be called with the image. Where it says how many pixels are enough (`min_side`,
            as `Preprocess` does), a split's large JPEGs are decoded at a reduced size; otherwise whole.
        images: a split, or a sequence of images or paths.
        i: which one.

    Example:
        >>> from tlutils import data
        >>> data.read_for(None, data.load("digits").val, 0).size
        (8, 8)
    """
    min_side = getattr(transform, "min_side", None)
    # A subclass that makes something else of its images is asked for those.
    if min_side is not None and isinstance(images, Split) and type(images).__getitem__ is Split.__getitem__:
        return images.read(i, min_side=min_side)
    image = images[i]
    return image[0] if isinstance(image, tuple) else image


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hash_content(images: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 (64 hex digits) over (class name, content hash) of images in any order."""
    lines = sorted(f"{label} {content}\n" for label, content in images)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


@dataclass(eq=False)
class DatasetSplits:
    """Train, validation and test splits that share no image.

    Attributes:
        name: name of the data set, or of its folder.
        classes: names of the classes, in the order of the labels.
        train: images to learn from.
        val: images to choose by.
        test: images to judge by, once, at the end.
        card: what is known about it.
        problems: what was set aside, and what is doubtful.
    """

    name: str
    classes: list[str]
    train: Split
    val: Split
    test: Split
    card: Card
    problems: list[Problem] = field(default_factory=list)

    @property
    def content_hash(self) -> str:
        """64 hex digits that depend on the images and their labels, however they are split."""
        splits = (self.train, self.val, self.test)
        return hash_content(
            (self.classes[k], h) for s in splits for k, h in zip(s.labels, s.hashes, strict=True)
        )

    @cached_property
    def root(self) -> Path:
        """The folder that all images lie in."""
        splits = (self.train, self.val, self.test)
        return Path(os.path.commonpath([path.parent for split in splits for path in split.paths]))

    def name_of(self, path: Path) -> str:
        """Return a file's name below the folder of the data set, as one line of text.

        Args:
            path: one of the files.
        """
        return printable(
            (path.relative_to(self.root) if path.is_relative_to(self.root) else Path(path.name)).as_posix()
        )

    @property
    def noted(self) -> list[tuple[str, str]]:
        """(File, what was noted of it): the first problems of each kind, and how many more there are."""
        kinds: dict[str, list[Problem]] = {}
        for problem in self.problems:
            kinds.setdefault(problem.kind, []).append(problem)
        rows = []
        for kind, found in kinds.items():
            rows += [(self.name_of(p.path), f"{kind}: {p.message}") for p in found[:SHOWN]]
            if len(found) > SHOWN:
                rows.append((f"{len(found) - SHOWN} more", kind))
        return rows

    def summary(self) -> str:
        """Return what was inferred from the images, as text: classes, splits, counts, and what was noted."""
        splits = (self.train, self.val, self.test)
        rows = [["class", *(split.name for split in splits)]]
        rows += [[printable(name), *(str(s.counts[name]) for s in splits)] for name in self.classes]
        rows += [["in all", *(str(len(split)) for split in splits)]]
        width = min(max(len(row[0]) for row in rows), 40)
        images = sum(map(len, splits))
        lines = [f"{self.name}: {images} images of {len(self.classes)} classes; {self.card.split_rule}"]
        lines += [f"  {row[0]:{width}} " + "".join(f"{count:>7}" for count in row[1:]) for row in rows]
        lines += [f"Noted: {name}: {message}" for name, message in self.noted]
        return "\n".join(lines)

    def __repr__(self) -> str:
        shown = ", ".join(self.classes[:5]) + (", …" if len(self.classes) > 5 else "")
        sizes = f"train {len(self.train)}, val {len(self.val)}, test {len(self.test)}"
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(p.kind for p in self.problems).items())
        noted = f"\n  noted: {kinds} (see .problems)" if kinds else ""
        return f"Dataset {self.name}: {len(self.classes)} classes ({shown})\n  {sizes}{noted}"
