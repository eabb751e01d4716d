"""Arrays on disk that a kill cannot spoil: rows are counted only after they are safely written."""

import errno
import json
import logging
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import fingerprint, runtime
from ..errors import LearnerError, unknown
from .rows import with_groups

log = logging.getLogger(__name__)

Arrays = tuple[np.ndarray, ...]


class NoRoom(LearnerError):
    """The features do not fit on the disk."""


@dataclass(frozen=True)
class FeatureStore:
    """The output of each stage in `at`, for every image: `store[stage]` has its rows, in the split's order.

    A row is a vector (D,) when pooled, and when not what the stage gives for an image: feature maps (C, H, W)
    or (H, W, C), or tokens (T, D). All are memory-mapped; a stage that several values leave gives a tuple of
    arrays. With k views, image i has the rows i * k to i * k + k - 1.
    Arrays may be written to, in memory alone: the files never change. Each look at a stage checks that its
    files are still the ones that this store was made of, and whole.

    Rows of one group are views or known copies of one picture. The arrays know it, so that `probe.fit_probe`
    never holds out a view of a picture that it learns from.

    Attributes:
        path: The folder that holds the arrays.
        at: Names of the stages.
        labels: Class of each row, (rows,).
        groups: Number of the picture that each row shows, (rows,).
        manifest: What the arrays were made from, as plain values.
    """

    path: Path
    at: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, stage: str) -> Any:
        entry = self._entry(stage)
        opened = Shelf(self.path / entry["folder"]).read()
        shelf = Shelf(self.path / entry["folder"])  # again: another process may have come in between
        if not opened or not shelf.complete or shelf.state["arrays"] != entry["arrays"]:
            raise LearnerError(
                f"The features in {shelf.folder} are no longer those of this store: they were removed or "
                "damaged, or are being made again. Call features.extract again: it computes what is missing."
            )
        arrays = tuple(with_groups(array, self.groups) for array in opened)
        return arrays[0] if len(arrays) == 1 else arrays

    def torch(self, stage: str) -> Any:
        """Return the same as `store[stage]` as memory-mapped CPU tensors.

        Args:
            stage: Name of a stage in `at`.
        """
        arrays = self[stage]
        return tuple(map(torch.from_numpy, arrays)) if isinstance(arrays, tuple) else torch.from_numpy(arrays)

    def _entry(self, stage: str) -> dict[str, Any]:
        name = getattr(stage, "name", stage)
        if name not in self.manifest["stages"]:
            raise unknown(
                "stage in this store", name, self.at, hint="Ask extract for it: extract(..., at=[…])."
            )
        return self.manifest["stages"][name]

    def __repr__(self) -> str:
        shapes = (
            f"{stage} {' + '.join(str(tuple(a['shape'])) for a in self._entry(stage)['arrays'])}"
            for stage in self.at
        )
        return f"FeatureStore({len(self)} rows: {'; '.join(shapes)})"


class Shelf:
    """The arrays of one stage in one folder: `0.npy`, `1.npy`, …; `shelf.json` counts the finished images.

    An image counts once its rows are flushed to the disk and `shelf.json` was replaced in one step: after a
    kill at any moment, images below `done` are intact and the rest are computed again. A checksum of all
    that counts tells whether the files are what was written; where they are not, nothing is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state: dict[str, Any] = {"done": 0, "arrays": []}
        try:
            kept = json.loads((folder / "shelf.json").read_text())
            if kept["key"] == fingerprint.short(kept["state"]):
                self._check(kept["state"])
                self.state = kept["state"]
        except Exception as error:  # nothing here yet, or damaged, in as many ways as there are bytes
            log.debug("%s is made again: %s", folder, error)
        self._written = self.done
        self._sums = [about["checksum"] for about in self.state["arrays"]]

    def _check(self, state: dict[str, Any]) -> None:
        """Raise an error unless the files are those that `state` tells of."""
        for i, about in enumerate(state["arrays"]):
            array = np.load(self._file(i), mmap_mode="r")
            found = {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "ordered": array.flags.c_contiguous,
            }
            counted = array.offset + state["done"] * state["rows"] * array[:1].nbytes
            found["checksum"] = _checksum(self._file(i), counted)
            if found != about | {"ordered": True}:
                raise ValueError(f"{self._file(i)} holds {found}, not {about}")

    def sweep(self, *, everything: bool) -> None:
        """Remove what a kill left half-written, or all that a shelf holds; a link is not followed."""
        if self.folder.is_symlink():
            raise LearnerError(
                f"{self.folder} is a link, and what lies behind it was left as it is. Remove the link first."
            )
        with runtime.disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for pattern in ("shelf.json", "[0-9]*.npy", ".shelf.*") if everything else (".shelf.*",):
                for file in self.folder.glob(pattern):
                    file.unlink()
        if everything:
            self.state = {"done": 0, "arrays": []}

    @property
    def begun(self) -> bool:
        """Whether the arrays are laid out."""
        return "images" in self.state

    @property
    def done(self) -> int:
        """Number of images whose rows are safe."""
        return self.state["done"]

    @property
    def complete(self) -> bool:
        """Whether every image is there."""
        return self.begun and self.done == self.state["images"]

    def lay(self, example: Arrays, images: int, rows: int, about: dict[str, Any]) -> None:
        """Make room for `rows` rows like `example`'s per image; say when the disk is full."""
        shapes = [(images * rows, *array.shape[1:]) for array in example]
        need = sum(math.prod(s) * a.dtype.itemsize for s, a in zip(shapes, example, strict=True))
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise _full(self.folder, f"{need / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free")
        self._written, self._sums = 0, []
        with _room(self.folder):
            for i, (shape, array) in enumerate(zip(shapes, example, strict=True)):
                new = np.lib.format.open_memmap(self._file(i), mode="w+", dtype=array.dtype, shape=shape)
                self._sums.append(_checksum(self._file(i), new.offset))
        arrays = [{"shape": list(s), "dtype": str(a.dtype)} for s, a in zip(shapes, example, strict=True)]
        self.state = {"done": 0, "images": images, "rows": rows, "arrays": arrays, **about}
        self._save()

    def write(self, arrays: Arrays, image: int) -> None:
        """Write the rows of images from number `image` on. They count after the next `commit`."""
        rows = self.state["rows"]
        known = max(0, self._written - image) * rows  # another stage lacks them, this one does not
        for i, array in enumerate(arrays):
            header = np.load(self._file(i), mmap_mode="r").offset
            data = np.ascontiguousarray(array[known:]).data.cast("B") if len(array) > known else b""
            # A plain write, since a full disk raises here, and kills the process when a memory map meets it.
            with _room(self.folder), self._file(i).open("rb+") as file:
                file.seek(header + (image * rows + known) * array[0].nbytes)
                file.write(data)
            self._sums[i] = zlib.crc32(data, self._sums[i])
        self._written = max(self._written, image + len(arrays[0]) // rows)

    def commit(self) -> None:
        """Count the rows that were written as safe, after they are."""
        for i in range(len(self.state["arrays"])):
            with _room(self.folder), self._file(i).open("rb+") as file:
                os.fsync(file.fileno())
        self.state["done"] = self._written
        self._save()

    def move(self, folder: Path) -> None:
        """Move the shelf to another folder of the same disk."""
        self.folder = self.folder.rename(folder / self.folder.name)

    def read(self) -> Arrays:
        """Return the arrays, memory-mapped and copied on write; nothing where files went meanwhile."""
        try:
            return tuple(np.load(self._file(i), mmap_mode="c") for i in range(len(self.state["arrays"])))
        except (OSError, ValueError, EOFError):
            return ()

    def _file(self, i: int) -> Path:
        return self.folder / f"{i}.npy"

    def _save(self) -> None:
        for about, checksum in zip(self.state["arrays"], self._sums, strict=True):
            about["checksum"] = checksum
        with runtime.atomic_write(self.folder / "shelf.json") as path:
            path.write_text(json.dumps({"state": self.state, "key": fingerprint.short(self.state)}))


def _checksum(path: Path, size: int) -> int:
    """Return the CRC-32 of the first bytes of a file; those of a file that stays as it is are read once."""
    status = path.stat()
    settled = time.time_ns() - status.st_ctime_ns > 1e8  # clocks of file systems tick in milliseconds
    read = _sum if settled else _sum.__wrapped__
    return read(path, size, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(maxsize=1024)
def _sum(path: Path, size: int, stamp: tuple[int, ...]) -> int:
    found = 0
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 2**20))):
            found, size = zlib.crc32(block, found), size - len(block)
    return found


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Say in words that the disk is full, should it be."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(folder, str(error.strerror)) from error
        with runtime.disk_errors(folder):
            raise


def _full(folder: Path, why: str) -> NoRoom:
    return NoRoom(
        f"Features do not fit on the disk of {folder}: {why}. What was finished there is kept. Free some "
        "space, use pool=True, fewer stages or images, or set TLUTILS_CACHE to a folder on another disk."
    )
