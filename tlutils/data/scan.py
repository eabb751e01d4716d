"""Look at every file of a folder once: walk it, decode what may be an image, remember what was found."""

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from .. import runtime
from ..errors import LearnerError
from .dataset import Problem
from .duplicates import THUMB
from .files import read_bytes, stamp
from .images import UnreadableImage, decode

PLACEHOLDERS = {
    "6b4966252973c581b521f804453c6a0649ea6a2ce7e3e5c7deeb7d80623de231": "the picture that a photo site "
    "shows in place of one that was not found (imageNotFound.gif of hymenoptera_data)",
}
"""SHA-256 of files that are readable images but no photographs of their class -> what they are."""


@dataclass(frozen=True)
class FileScan:
    """What a file holds: `kind` and `message` are empty for a usable image; `thumb` is 32x32 grey.

    `size` is (width, height); `white` is the largest grey value of a picture with more than 8 bits, else 0.
    """

    kind: str
    message: str
    sha256: str
    pixels: str = ""
    size: tuple[int, int] = (0, 0)
    white: float = 0
    thumb: np.ndarray = field(default_factory=lambda: np.zeros((THUMB, THUMB), np.uint8))


_FILTERS = threading.Lock()


def walk(root: Path) -> tuple[list[Path], list[Path], list[Problem]]:
    """Return (files, folders, problems) at any depth below `root`, as sorted paths relative to it.

    Names that start with "." and `__MACOSX` are passed over with all that they hold, and noted. Links to
    folders are followed, each real folder once. Raises LearnerError when `root` itself cannot be read.
    """
    files: list[Path] = []
    folders: list[Path] = []
    problems: list[Problem] = []
    seen = {root.resolve()}

    def denied(error: OSError) -> None:
        place = Path(error.filename)
        if place == root:
            raise LearnerError(f"The folder {root} cannot be read ({error.strerror}). Check its permissions.")
        problems.append(Problem(place, "unreadable", f"This folder cannot be read ({error.strerror})."))

    for place, subfolders, names in os.walk(root, onerror=denied, followlinks=True):
        here = Path(place)
        kept = []
        for name in sorted(subfolders):
            if hidden(name):
                problems.append(
                    Problem(here / name, "ignored", "A hidden folder of a program, not of the data.")
                )
            elif (real := (here / name).resolve()) in seen:
                problems.append(Problem(here / name, "ignored", f"A link to {real}, which was already read."))
            else:
                seen.add(real)
                kept.append(name)
        subfolders[:] = kept
        folders += [(here / name).relative_to(root) for name in kept]
        for name in names:
            if hidden(name):
                problems.append(
                    Problem(here / name, "ignored", "A hidden file of a program, not of the data.")
                )
            else:
                files.append((here / name).relative_to(root))
    return sorted(files), sorted(folders), problems


def hidden(name: str) -> bool:
    """Whether a file or folder of this name belongs to a program, and not to the data."""
    return name.startswith(".") or name == "__MACOSX"


def scan_files(root: Path, files: Sequence[Path], grey_bits: int = 16) -> list[FileScan]:
    """Return what is in each of `files` (relative to `root`), in that order, every image decoded whole.

    Results are kept in the cache by path and `stamp`, so that a second scan opens changed files only.
    Processes and threads that scan one folder wait for each other.
    """
    store = runtime.cache_dir("scans") / f"{_key(root, grey_bits)}.npz"
    names = [os.fsencode(file).hex() for file in files]
    with runtime.file_lock(store):
        known = _read_cache(store)
        stamps = [stamp(root / file) for file in files]
        keys = list(zip(names, stamps, strict=True))
        fresh = [i for i, key in enumerate(keys) if key not in known]
        # Filters are global to the process, so they are set once, around all threads. Pillow warns of broken
        # EXIF entries, which are harmless, and of sizes near its limit, which `decode` finds by itself.
        with _FILTERS, warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
            warnings.simplefilter("ignore")
            scans = pool.map(partial(_scan_file, grey_bits=grey_bits), [root / files[i] for i in fresh])
            shown = runtime.progress(scans, desc=f"reading {root.name}", total=len(fresh))
            for i, scan in zip(fresh, shown, strict=True):
                known[keys[i]] = scan
        found = [known[key] for key in keys]
        if fresh:
            _write_cache(store, keys, found)
    return found


def _scan_file(path: Path, grey_bits: int = 16) -> FileScan:
    try:
        content = read_bytes(path)
    except OSError as error:
        return FileScan("unreadable", f"The file cannot be read ({error.strerror}).", "")
    digest = hashlib.sha256(content).hexdigest()
    if digest in PLACEHOLDERS:
        return FileScan("placeholder", f"Not a photograph: {PLACEHOLDERS[digest]}.", digest)
    try:
        image = decode(content, path, grey_bits)
    except UnreadableImage as error:
        return FileScan(error.kind, error.message, digest)
    pixels = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
    thumb = np.asarray(image.convert("L").resize((THUMB, THUMB), Image.Resampling.BOX))
    return FileScan("", "", digest, pixels, image.size, image.info.get("white", 0), thumb)


def _key(root: Path, grey_bits: int) -> str:
    """Return a name for a folder's scan that changes with everything that would change what is found."""
    Image.init()
    readers = sorted(Image.OPEN)
    parts = [
        str(root.resolve()),
        PIL.__version__,
        readers,
        sorted(PLACEHOLDERS),
        Image.MAX_IMAGE_PIXELS,
        THUMB,
        grey_bits,
        2,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _write_cache(store: Path, keys: Sequence[tuple[str, str]], scans: Sequence[FileScan]) -> None:
    rows = [
        [*key, x.kind, x.message, x.sha256, x.pixels, *x.size, x.white]
        for key, x in zip(keys, scans, strict=True)
    ]
    text = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    with runtime.atomic_write(store) as temporary:
        np.savez(temporary, text=text, thumbs=np.stack([x.thumb for x in scans]))


def _read_cache(store: Path) -> dict[tuple[str, str], FileScan]:
    try:
        with store.open("rb") as file, np.load(file) as kept:
            rows, thumbs = json.loads(kept["text"].tobytes()), kept["thumbs"]
        if thumbs.dtype != np.uint8 or thumbs.shape != (len(rows), THUMB, THUMB):
            return {}
        return {
            (name, stamp): FileScan(kind, message, digest, pixels, (width, height), white, thumb)
            for (name, stamp, kind, message, digest, pixels, width, height, white), thumb in zip(
                rows, thumbs, strict=True
            )
        }
    except Exception:  # never scanned, or damaged, in as many ways as a zip has; the next scan replaces it
        return {}
