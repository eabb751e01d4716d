"""Arrays on disk that a kill cannot spoil: rows are counted only after they are safely written."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import runtime
from ..errors import LearnerError, unknown
from .rows import with_groups

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class FeatureStore:
    """What left each stage in `at`, for every image: `store[stage]` has its rows, in the split's order.

    A row is a vector (D,) when pooled and a feature map (C, H, W) when not, all memory-mapped; a stage that
    several values leave gives a tuple of arrays. With k views, image i has the rows i * k to i * k + k - 1.
    Arrays may be written to, in memory alone: the files never change.

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
        found = Shelf(self.path / self._entry(stage)["folder"]).read()
        arrays = tuple(with_groups(array, self.groups) for array in found)
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

    An image counts once its rows are flushed to the disk and `shelf.json` was replaced in one step: whatever
    is killed whenever, the images below `done` are right and the others are written again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state: dict[str, Any] = {}
        self.clear()
        try:
            state = json.loads((folder / "shelf.json").read_text())
            for i in range(len(state["arrays"])):
                np.load(self._file(i), mmap_mode="r")
        except (OSError, ValueError):  # nothing here yet, or files that somebody removed or cut short
            return
        self.state = state

    def clear(self) -> None:
        """Forget what is there; the next `lay` replaces it."""
        self.state = {"done": 0, "arrays": []}

    def sweep(self, *, everything: bool) -> None:
        """Remove what a kill left half-written, or everything."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in self.folder.glob("*" if everything else ".*"):
            file.unlink()
        if everything:
            self.clear()

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
        with _room(self.folder):
            for i, (shape, array) in enumerate(zip(shapes, example, strict=True)):
                np.lib.format.open_memmap(self._file(i), mode="w+", dtype=array.dtype, shape=shape)
        arrays = [{"shape": list(s), "dtype": str(a.dtype)} for s, a in zip(shapes, example, strict=True)]
        self.state = {"done": 0, "images": images, "rows": rows, "arrays": arrays, **about}
        self._save()

    def write(self, arrays: Arrays, image: int) -> None:
        """Write the rows of images from number `image` on. They count after the next `commit`."""
        for i, array in enumerate(arrays):
            header = np.load(self._file(i), mmap_mode="r").offset
            # A plain write, since a full disk raises here, and kills the process when a memory map meets it.
            with _room(self.folder), self._file(i).open("rb+") as file:
                file.seek(header + image * self.state["rows"] * array[0].nbytes)
                file.write(np.ascontiguousarray(array).data)

    def commit(self, done: int) -> None:
        """Count the rows of the first `done` images as safe, after they are."""
        for i in range(len(self.state["arrays"])):
            with _room(self.folder), self._file(i).open("rb+") as file:
                os.fsync(file.fileno())
        self.state["done"] = done
        self._save()

    def read(self) -> Arrays:
        """Return the arrays, memory-mapped and copied on write."""
        return tuple(np.load(self._file(i), mmap_mode="c") for i in range(len(self.state["arrays"])))

    def _file(self, i: int) -> Path:
        return self.folder / f"{i}.npy"

    def _save(self) -> None:
        with runtime.atomic_write(self.folder / "shelf.json") as path:
            path.write_text(json.dumps(self.state))


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Say in words that the disk is full, should it be."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(folder, str(error.strerror)) from error
        raise


def _full(folder: Path, why: str) -> LearnerError:
    return LearnerError(
        f"Features do not fit on the disk of {folder}: {why}. What was finished there is kept. Free some "
        "space, use pool=True, fewer stages or images, or set TLUTILS_CACHE to a folder on another disk."
    )
