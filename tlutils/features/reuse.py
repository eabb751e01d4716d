"""Rows that another store holds already: new images touch only their own rows, new labels none."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import fingerprint, runtime
from .store import Arrays, Shelf

log = logging.getLogger(__name__)

IMAGES = "images.txt"

Confirm = Callable[[int, dict[str, Arrays], dict[str, str]], bool]


@dataclass
class Known:
    """Where the rows of some images stand: those of image i at `places[i]` in `stores[sources[i]]`."""

    sources: np.ndarray  # (images,), -1 for an image whose rows are in no store
    places: np.ndarray
    rows: int  # of each image
    stores: list[dict[str, Arrays]] = field(default_factory=list)
    arithmetic: dict[str, str] = field(default_factory=dict)

    @classmethod
    def nothing(cls, images: int, rows: int) -> "Known":
        """Return that no image is known."""
        return cls(np.full(images, -1), np.zeros(images, int), rows)

    def blocks(self, start: int, size: int) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (first, end, those to compute, at most `size`) of the images from `start` on, in order."""
        while start < len(self.sources):
            lacking = start + np.flatnonzero(self.sources[start : start + 64 * size] < 0)
            end = int(lacking[size]) if len(lacking) > size else min(start + 64 * size, len(self.sources))
            yield start, end, lacking[:size].tolist()
            start = end

    def merge(
        self, stage: str, computed: Arrays | None, first: int, end: int, size: int
    ) -> Iterator[tuple[int, Arrays]]:
        """Yield (first image, rows) of the images from `first` to `end`, `size` at a time.

        `computed` has the rows of those among them that are not known.
        """
        if computed is not None and (self.sources[first:end] < 0).all():
            yield first, computed
            return
        used = 0
        for begin in range(first, end, size):
            sources, places = (a[begin : min(begin + size, end)] for a in (self.sources, self.places))
            new, merged = sources < 0, []
            for k, like in enumerate(computed or self.stores[sources[0]][stage]):
                shape = like.shape[1:]
                whole = np.empty((len(sources), self.rows, *shape), like.dtype)
                if new.any():
                    whole[new] = like.reshape(-1, self.rows, *shape)[used : used + new.sum()]
                for source in set(sources.tolist()) - {-1}:
                    array, own = self.stores[source][stage][k], sources == source
                    whole[own] = array.reshape(-1, self.rows, *shape)[places[own]]
                merged.append(whole.reshape(-1, *shape))
            used += int(new.sum())
            yield begin, tuple(merged)


def note(path: Path, images: Sequence[str]) -> None:
    """Keep beside the rows which images they are of."""
    if not (path / IMAGES).exists():
        with runtime.disk_errors(path), runtime.atomic_write(path / IMAGES) as file:
            file.write_text("\n".join(images))


def find(
    path: Path, shelves: Mapping[str, Shelf], images: Sequence[str], rows: int, confirm: Confirm
) -> Known:
    """Return which of the images have rows for all `shelves` in the stores beside `path`.

    A store is believed if `confirm(image, its rows by stage, their arithmetic)` finds for one of its images
    that they are what the model gives.
    """
    known = Known.nothing(len(images), rows)
    for folder in sorted(path.parent.iterdir()):
        if (known.sources >= 0).all():
            break
        held = _images(folder) if folder != path else []
        places = {name: place for place, name in enumerate(held)}
        fresh = [i for i in np.flatnonzero(known.sources < 0).tolist() if images[i] in places]
        if len(fresh) < 2:  # to confirm takes as long as one image does
            continue
        found = {stage: Shelf(folder / own.folder.name) for stage, own in shelves.items()}
        if not all(shelf.complete for shelf in found.values()):
            continue
        arrays = {stage: shelf.read() for stage, shelf in found.items()}
        arithmetic = {stage: shelf.state["arithmetic"] for stage, shelf in found.items()}
        begun = {s: own.state["arithmetic"] for s, own in shelves.items() if own.begun} | known.arithmetic
        if begun.items() - arithmetic.items() or not all(arrays.values()):
            continue
        at = places[images[fresh[0]]] * rows
        first = {s: tuple(array[at : at + 1] for array in own) for s, own in arrays.items()}
        if not confirm(fresh[0], first, arithmetic):
            continue
        log.info("%d images are in %s already.", len(fresh), folder)
        known.sources[fresh] = len(known.stores)
        known.places[fresh] = [places[images[i]] for i in fresh]
        known.stores.append(arrays)
        known.arithmetic = arithmetic
    return known


def _images(folder: Path) -> list[str]:
    """Return the images of a store; none where it does not say, or says those of another."""
    try:
        images = (folder / IMAGES).read_text().split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    return images if fingerprint.short(images) == folder.name else []
