"""Data sets that need a network once: files downloaded or brought by hand, checked, unpacked in the cache."""

import gzip
import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from .. import runtime
from ..download import Unreachable, download
from ..errors import LearnerError
from .assemble import Item
from .cards import catalog
from .packaged import write_pngs

Files = dict[str, tuple[str, str]]
"""Name of each file in the cache -> (its address, its MD5, or "" where something else pins it)."""

HYMENOPTERA = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
"""The address that the official transfer-learning tutorial names."""

HYMENOPTERA_TREE = "414fcca06daca3658a6aa2cd78a539eb9e8ec7c15bc9a309b308dd5ae4d6df68"
"""Hash of the unpacked files; see `hash_tree`."""


def hash_tree(folder: Path) -> str:
    """Return the SHA-256 over the sorted lines "SHA-256 of a file, space, path" of all files below a folder.

    It pins the content of an archive however it was packed. Hidden files do not count.
    """
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = sorted(path.as_posix() for path in inside if not any(part.startswith(".") for part in path.parts))
    lines = "".join(f"{runtime.sha256(folder / file)} {file}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def load_hymenoptera(url: str = HYMENOPTERA, tree: str = HYMENOPTERA_TREE) -> Path:
    """Return the folder of ants and bees, downloaded and checked the first time.

    Raises LearnerError when it is not available or is not the known content.
    """
    folder = runtime.cache_dir("data") / "hymenoptera_data"
    with runtime.file_lock(folder):
        if not folder.is_dir():
            archives = {"hymenoptera_data.zip": (url, "")}
            with runtime.atomic_folder(folder) as new:
                (archive,) = _bring("hymenoptera", archives, new.parent)
                unpack(archive, new.with_name("all"))
                inside = new.with_name("all") / "hymenoptera_data"
                actual = hash_tree(inside) if inside.is_dir() else "nothing of that name"
                if actual != tree:
                    raise _unexpected("hymenoptera", archives, archive, f"SHA-256 {actual[:16]}")
                new.rmdir()
                inside.rename(new)
        elif hash_tree(folder) != tree:
            raise _foreign("hymenoptera", folder, "other files")
    return folder


@dataclass(frozen=True)
class Official:
    """One of torchvision's data sets: its files, and how it is opened once they are unpacked."""

    files: Callable[[], Files]
    base: str  # the folder below its own in which torchvision expects what is in the files
    open: Callable[[Path], dict[str, Any]]  # a folder -> {side: torchvision data set}; "" is split by seed
    # what `open` returns for a side -> (path, class index) of each image, where it is a file
    samples: Callable[[Any], Iterable[tuple[Path, int]]]


def _read_labels(files: str) -> Callable[[Any], Iterable[tuple[Path, int]]]:
    """Return how to read paths and labels where torchvision keeps them in two private lists."""
    return lambda opened: zip(getattr(opened, files), opened._labels, strict=True)


_EUROSAT = "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd"

# torchvision knows addresses and MD5, EuroSAT's aside, which it hides.
OFFICIAL = {
    "cifar-10": Official(
        lambda: {"cifar-10-python.tar.gz": (datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5)},
        "",
        lambda root: {side: datasets.CIFAR10(root, train=side == "train") for side in ("train", "test")},
        lambda opened: [],  # its images are no files: see `load_cifar_10`
    ),
    "dtd": Official(
        lambda: {"dtd-r1.0.1.tar.gz": (datasets.DTD._URL, datasets.DTD._MD5)},
        "dtd",
        lambda root: {side: datasets.DTD(root, side) for side in ("train", "val", "test")},
        _read_labels("_image_files"),
    ),
    "eurosat": Official(
        lambda: {"EuroSAT.zip": (f"{_EUROSAT}/EuroSAT.zip", "c8fa014336c82ac7804f0398fcb19387")},
        "eurosat",
        lambda root: {"": datasets.EuroSAT(root)},
        lambda opened: ((Path(path), k) for path, k in opened.samples),
    ),
    "flowers-102": Official(
        lambda: {
            file: (f"{datasets.Flowers102._download_url_prefix}{file}", md5)
            for file, md5 in datasets.Flowers102._file_dict.values()
        },
        "flowers-102",
        lambda root: {side: datasets.Flowers102(root, side) for side in ("train", "val", "test")},
        _read_labels("_image_files"),
    ),
    "oxford-pets": Official(
        lambda: {
            f"oxford-pets-{url.split('/')[-1]}": (url, md5) for url, md5 in datasets.OxfordIIITPet._RESOURCES
        },
        "oxford-iiit-pet",
        lambda root: {
            "train": datasets.OxfordIIITPet(root, "trainval"),
            "test": datasets.OxfordIIITPet(root, "test"),
        },
        _read_labels("_images"),
    ),
}


def load_official(name: str, classes: Sequence[str]) -> tuple[Path, list[tuple[Path, str, str]]]:
    """Return the root of one of torchvision's data sets and (path below it, label, side) of each image.

    `classes` are the names for versions of torchvision that keep none.
    """
    root, opened = _open(name)
    places = []
    for side, one in opened.items():
        named = getattr(one, "classes", classes)
        places += [(Path(path).relative_to(root), named[k], side) for path, k in OFFICIAL[name].samples(one)]
    return root, places


def load_cifar_10() -> list[Item]:
    """Return CIFAR-10, its pictures kept as PNG in the cache, with the official test split."""
    _, opened = _open("cifar-10")
    pictures = [
        (one.classes[k], side, picture)
        for side, one in opened.items()
        for picture, k in zip(one.data, one.targets, strict=True)
    ]
    return write_pngs("cifar-10-png", pictures)


def _open(name: str) -> tuple[Path, dict[str, Any]]:
    """Return where one of torchvision's data sets lies, unpacked once, and what torchvision makes of it."""
    known = OFFICIAL[name]
    root = runtime.cache_dir("data") / f"{name}_data"
    with runtime.file_lock(root):
        if not root.is_dir():
            with runtime.atomic_folder(root) as new:
                for file in _bring(name, known.files(), new.parent):
                    unpack(file, new / known.base)
    try:
        return root, known.open(root)
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        raise _foreign(name, root, str(error)) from error


def _bring(name: str, files: Files, folder: Path) -> list[Path]:
    """Return the path of each file: where a person put it, or downloaded into `folder`; MD5s are checked."""
    found = []
    for file, (url, md5) in files.items():
        path = runtime.cache_dir("data") / file
        if not path.is_file():
            path = folder / file
            try:
                download(url, path)
            except Unreachable as error:
                raise not_available(name, str(error), files) from error
        if md5 and not check_integrity(path, md5):
            raise _unexpected(name, files, path, "another MD5")
        found.append(path)
    return found


def unpack(file: Path, folder: Path) -> None:
    """Unpack a zip or tar below `folder`, or copy any other file there. Nothing is written outside it.

    Raises LearnerError for a file that is damaged, or has an entry that points outside or is a link in a zip.
    """
    try:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as zipped:
                for entry in zipped.infolist():
                    inside = PurePosixPath(entry.filename.replace("\\", "/"))
                    if (
                        inside.is_absolute()
                        or ".." in inside.parts
                        or ":" in inside.parts[0]
                        or _is_link(entry)
                    ):
                        raise tarfile.FilterError(f"{entry.filename!r} points outside of it")
                zipped.extractall(folder)
        elif file.suffix in (".gz", ".tgz"):
            with tarfile.open(file) as tarred:
                tarred.extractall(folder, filter="data")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder)
    except tarfile.FilterError as error:
        raise LearnerError(
            f"{file} has an entry that points outside of it ({error}). Not unpacked."
        ) from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise LearnerError(
            f"{file} is no {file.suffix[1:]} file, or a damaged one ({error}). Move it away and try again."
        ) from error


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _unexpected(name: str, files: Files, path: Path, what: str) -> LearnerError:
    """Return the error for a file that is not the known one."""
    return not_available(
        name, f"{path} is not the known file ({what}). If you brought it, move it away", files
    )


def _foreign(name: str, folder: Path, why: str) -> LearnerError:
    """Return the error for a folder in the cache that holds something else than its name says."""
    return LearnerError(
        f"{folder} does not hold the data set {name!r} ({why}). It was left as it is: move it elsewhere, and "
        "load the data set again."
    )


def not_available(name: str, why: str, files: Files) -> LearnerError:
    """Return the error for a data set that is not here: what, why, where, how by hand, what works instead."""
    ready = ", ".join(card.name for card in catalog(offline=True))
    folder = runtime.cache_dir("data")
    by_hand = "\n".join(
        f"  By hand: download {url} on a machine with a network and save it as {folder / file}"
        for file, (url, _) in files.items()
    )
    return LearnerError(
        f"The data set {name!r} is not available: {why}.\n"
        f"{by_hand}\n"
        f"  Cache:   {runtime.cache_dir()} (the environment variable TLUTILS_CACHE moves it)\n"
        f"  Offline: {ready}, and any folder of your own work now without a network."
    )
