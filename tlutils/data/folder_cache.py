"""What is kept of a folder between two loads: which pictures are copies, and on which side each one was."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import fingerprint, runtime
from . import duplicates
from .duplicates import Copies, find_copies
from .grouping import KeyOf
from .splits import NAMES


@dataclass(frozen=True)
class KeptSplit:
    """Where the pictures of a folder were at its last load with a seed, so that new files move none of them.

    A picture is known by its content or its place, or by its group, where the caller has such.
    """

    root: Path
    seed: int
    key_of: KeyOf | None

    def recall(self, paths: Sequence[Path], hashes: Sequence[str]) -> list[str]:
        """Return the side of each picture, "" for a new one."""
        known = read_json(self._store)
        known = {key: side for key, side in known.items() if side in NAMES} if isinstance(known, dict) else {}
        found = []
        for names in self._name(paths, hashes):
            sides = [known[name] for name in names if name in known]
            found.append(min(sides, key=NAMES.index, default=""))
        return found

    def remember(self, paths: Sequence[Path], hashes: Sequence[str], sides: Sequence[str]) -> None:
        """Keep where the pictures are now."""
        named = zip(self._name(paths, hashes), sides, strict=True)
        now = {name: side for names, side in named for name in names}
        if now != read_json(self._store):
            write_json(self._store, now)

    def _name(self, paths: Sequence[Path], hashes: Sequence[str]) -> list[tuple[str, ...]]:
        if self.key_of is not None:
            return [(repr(self.key_of(path)),) for path in paths]
        places = [path.relative_to(self.root).as_posix() for path in paths]
        return list(zip(places, hashes, strict=True))

    @property
    def _store(self) -> Path:
        key = hashlib.sha256(repr((self.root.resolve(), self.seed, self.key_of is None)).encode()).hexdigest()
        return runtime.cache_dir("splits") / f"{key[:24]}.json"


def find_copies_once(pixels: Sequence[str], thumbs: np.ndarray, labels: Sequence[str]) -> Copies:
    """Return what `find_copies` does, which takes longest of all in a large folder, kept in the cache."""
    rules = (duplicates.NEAR, duplicates.FARTHEST, duplicates.CLOSEST, duplicates.FLAT, duplicates.MOST, 1)
    digest = hashlib.sha256(json.dumps([*rules, *pixels, *labels]).encode())
    digest.update(thumbs.tobytes())
    store = runtime.cache_dir("scans") / f"copies-{digest.hexdigest()[:24]}.json"
    kept = read_json(store)
    try:
        copies = Copies(
            [int(group) for group in kept["groups"]], [list(map(int, x)) for x in kept["doubtful"]]
        )
        if len(copies.groups) == len(pixels):
            return copies
    except (TypeError, KeyError, ValueError):
        pass
    copies = find_copies(pixels, thumbs, labels)
    write_json(store, copies._asdict())
    return copies


def read_json(store: Path) -> Any:
    """Return what a file in the cache holds, or nothing where it is missing, damaged or changed."""
    try:
        content, checksum = json.loads(store.read_text(encoding="utf-8"))
        return content if fingerprint.short(content) == checksum else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def write_json(store: Path, content: object) -> None:
    """Keep in a file in the cache what JSON can hold."""
    with runtime.atomic_write(store) as temporary:
        temporary.write_text(json.dumps([content, fingerprint.short(content)]), encoding="utf-8")
