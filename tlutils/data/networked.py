"""Data sets that need a network once: a checked download, or torchvision's own classes, kept in the cache."""

import hashlib
import http.client
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from torchvision import datasets

from .. import runtime
from ..download import Unreachable, download, is_offline
from ..errors import LearnerError
from .assemble import Item
from .cards import catalog
from .packaged import write_pngs

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
    archive = folder.with_name("hymenoptera_data.zip")
    with runtime.file_lock(folder):
        if folder.is_dir():
            return folder
        if not archive.is_file():
            try:
                download(url, archive)
            except Unreachable as error:
                raise not_available("hymenoptera", str(error), url, archive) from error
        checked = folder.with_name("hymenoptera_checked")
        shutil.rmtree(checked, ignore_errors=True)
        unpack(archive, checked)
        inside = checked / "hymenoptera_data"
        actual = hash_tree(inside) if inside.is_dir() else "nothing of that name"
        if actual != tree:
            shutil.rmtree(checked)
            raise not_available(
                "hymenoptera",
                f"{archive} does not hold the known files (SHA-256 {actual[:16]}, expected {tree[:16]}). "
                "Delete it before the next try",
                url,
                archive,
            )
        inside.rename(folder)
        shutil.rmtree(checked)
        archive.unlink()
    return folder


@dataclass(frozen=True)
class Official:
    """One of torchvision's data sets: how it is opened, and what a person downloads by hand."""

    open: Callable[
        [Path], dict[str, Any]
    ]  # a folder -> {side: torchvision data set}; side "" is split by seed
    samples: Callable[
        [Any], Iterable[tuple[Path, int]]
    ]  # a torchvision data set -> (path, class index) of each image
    source: str
    beside: str  # the folder below the data set's own in which the downloaded files are looked for


def _read_labels(files: str) -> Callable[[Any], Iterable[tuple[Path, int]]]:
    """Return how to read paths and labels where torchvision keeps them in two private lists."""
    return lambda opened: zip(getattr(opened, files), opened._labels, strict=True)


OFFICIAL = {
    "dtd": Official(
        lambda root: {side: datasets.DTD(root, side, download=True) for side in ("train", "val", "test")},
        _read_labels("_image_files"),
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        "dtd",
    ),
    "eurosat": Official(
        lambda root: {"": datasets.EuroSAT(root, download=True)},
        lambda opened: ((Path(path), k) for path, k in opened.samples),
        "EuroSAT.zip (RGB) from https://huggingface.co/datasets/torchgeo/eurosat",
        "eurosat",
    ),
    "flowers-102": Official(
        lambda root: {
            side: datasets.Flowers102(root, side, download=True) for side in ("train", "val", "test")
        },
        _read_labels("_image_files"),
        "102flowers.tgz, imagelabels.mat and setid.mat from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "flowers-102",
    ),
    "oxford-pets": Official(
        lambda root: {
            "train": datasets.OxfordIIITPet(root, "trainval", download=True),
            "test": datasets.OxfordIIITPet(root, "test", download=True),
        },
        _read_labels("_images"),
        "images.tar.gz and annotations.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/pets/data/",
        "oxford-iiit-pet",
    ),
}


def load_official(name: str, classes: Sequence[str]) -> tuple[Path, list[tuple[Path, str, str]]]:
    """Return the root of one of torchvision's data sets and (path below it, label, side) of each image.

    `classes` are the names for versions of torchvision that keep none.
    """
    known = OFFICIAL[name]
    root = runtime.cache_dir("data") / name
    with _downloading(name, root, known.source, root / known.beside):
        opened = known.open(root)
    places = []
    for side, one in opened.items():
        named = getattr(one, "classes", classes)
        places += [(Path(path).relative_to(root), named[k], side) for path, k in known.samples(one)]
    return root, places


def load_cifar_10() -> list[Item]:
    """Return CIFAR-10, its pictures kept as PNG in the cache, with the official test split."""
    root = runtime.cache_dir("data") / "cifar-10"
    with _downloading("cifar-10", root, datasets.CIFAR10.url, root):
        opened = {
            side: datasets.CIFAR10(root, train=side == "train", download=True) for side in ("train", "test")
        }
    pictures = [
        (one.classes[k], side, picture)
        for side, one in opened.items()
        for picture, k in zip(one.data, one.targets, strict=True)
    ]
    return write_pngs("cifar-10-png", pictures)


@contextmanager
def _downloading(name: str, root: Path, source: str, place: Path) -> Iterator[None]:
    """Let torchvision download into `root`, whole or not at all; its errors become one that helps."""
    whole = root / ".whole"
    with runtime.file_lock(root):
        if not whole.exists():
            _drop_half_unpacked(root)
            if is_offline() and not root.exists():
                raise not_available(
                    name, "TLUTILS_OFFLINE or HF_HUB_OFFLINE says to stay offline", source, place
                )
        try:
            # Versions of torchvision differ in what they print, and all show a bar that no switch turns off.
            silent = nullcontext() if runtime.interactive() else redirect_stderr(StringIO())
            with redirect_stdout(StringIO()), silent:
                yield
        except (
            OSError,
            RuntimeError,
            EOFError,
            http.client.HTTPException,
            tarfile.TarError,
            zipfile.BadZipFile,
        ) as e:
            raise not_available(name, f"the download failed ({e})", source, place) from e
        whole.touch()


def _drop_half_unpacked(root: Path) -> None:
    """Remove what an interrupted call unpacked; archives stay, and torchvision checks them by their MD5."""
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.suffix not in (".zip", ".gz", ".tgz", ".mat"):
            path.unlink()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip so that `folder` appears in one step. Nothing is written outside it.

    Raises LearnerError for a file that is no zip, is damaged, or has an entry that points outside or is a
    link.
    """
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                inside = PurePosixPath(entry.filename.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0] or _is_link(entry):
                    raise LearnerError(
                        f"{archive} has an entry that points outside of it: {entry.filename!r}. Not unpacked."
                    )
            zipped.extractall(unfinished)
    except zipfile.BadZipFile as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise LearnerError(
            f"{archive} is no zip file, or a damaged one ({error}). Delete it and try again."
        ) from error
    unfinished.rename(folder)


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def not_available(name: str, why: str, source: str, place: Path) -> LearnerError:
    """Return the error for a data set that is not here: what, why, where, how by hand, what works instead."""
    ready = ", ".join(card.name for card in catalog(offline=True))
    return LearnerError(
        f"The data set {name!r} is not available: {why}.\n"
        f"  By hand: download {source} on a machine with a network and save it as {place}\n"
        f"  Cache:   {runtime.cache_dir()} (the environment variable TLUTILS_CACHE moves it)\n"
        f"  Offline: {ready}, and any folder of your own work now without a network."
    )
