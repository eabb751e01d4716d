"""The bytes of a file, on the disk or within a tar file: `photos.tar/cat/1.jpg` is a path like any other.

A tar file is read where it stands, at the places that one pass over its headers found. Nothing is unpacked.
"""

import errno
import hashlib
import json
import re
import stat
import tarfile
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from .. import runtime
from .folder_cache import read_json, write_json

LABEL_BYTES = 2**20  # no label is longer


class Index(NamedTuple):
    """What a tar file holds.

    `members` has for each file where it begins, and how many bytes it has, but for .cls and .json files:
    `labels` has what they say of their samples (see `key_of_sample`). `problems`: (name, kind, message).
    """

    members: dict[str, tuple[int, int]]
    labels: dict[str, str]
    problems: list[tuple[str, str, str]]


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; OSError where there is none, or something whose content never ends."""
    if shard := _shard_of(path):
        offset, size = _find(shard, path)
        with shard.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    if not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device")
    return path.read_bytes()


def stamp(path: Path) -> str:
    """Return a text that changes whenever a file is written, moved or replaced, at the price of a look."""
    try:
        if shard := _shard_of(path):
            return f"{stamp(shard)}:{_find(shard, path)}"
        status = path.stat()
    except OSError:
        return "gone"  # a broken link; looking at it finds the words
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}:{status.st_size}"


def key_of_sample(name: str) -> tuple[str, str]:
    """Return (key, extension) of a file in a tar file: files of one key are one sample, as in WebDataset."""
    folder, slash, base = name.rpartition("/")
    key, _, extension = base.partition(".")
    return folder + slash + key, extension.lower()


def index(shard: Path) -> Index:
    """Return what a tar file holds, from one pass over its headers, which is kept in the cache."""
    return _index(shard, stamp(shard))


@lru_cache(maxsize=1024)
def _index(shard: Path, now: str) -> Index:
    digest = hashlib.sha256(repr((shard.resolve(), now, 1)).encode()).hexdigest()[:24]
    store = runtime.cache_dir("scans") / f"shard-{digest}.json"
    try:
        members, labels, problems = read_json(store)
    except TypeError:
        members, labels, problems = found = _read_headers(shard)
        write_json(store, found)
    places = {name: (offset, size) for name, (offset, size) in members.items()}
    return Index(places, labels, [(name, kind, message) for name, kind, message in problems])


def _read_headers(shard: Path) -> Index:
    found = Index({}, {}, [])
    end = shard.stat().st_size
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                name = PurePosixPath(member.name).as_posix()
                if kind_and_message := _refuse(member, name, end):
                    found.problems.append((name.lstrip("/"), *kind_and_message))
                    continue
                key, extension = key_of_sample(name)
                if extension not in ("cls", "json"):
                    if name in found.members:
                        found.problems.append((name, "ignored", "The archive has it twice; the last counts."))
                    found.members[name] = member.offset_data, member.size
                elif member.size <= LABEL_BYTES:
                    here = file.tell()
                    file.seek(member.offset_data)
                    label = _read_label(file.read(member.size), extension)
                    file.seek(here)
                    if label and (extension == "json" or key not in found.labels):
                        found.labels[key] = label
    except (tarfile.TarError, OSError, ValueError) as error:
        message = f"The archive cannot be read, or not to its end ({error}). Expected a tar, not compressed."
        found.problems.append(("", "broken", message))
    return found


def _refuse(member: tarfile.TarInfo, name: str, end: int) -> tuple[str, str] | None:
    if PureWindowsPath(name).anchor or ".." in re.split(r"[\\/]", name):
        return "ignored", "Its name leads out of the archive."
    if not member.isreg() or member.issparse():
        return "ignored", "A link, a device or a file with holes, and no plain file."
    if member.offset_data + member.size > end:
        return "broken", "The archive ends before this file does. Copy or download it again."
    return None


def _read_label(content: bytes, extension: str) -> str | None:
    """Return the label in a .cls file, or under "class" or "label" in a .json file, or None."""
    try:
        text = content.decode()
        if extension == "cls":
            return text.strip()
        fields = json.loads(text)
        value = fields.get("class", fields.get("label"))
    except (ValueError, AttributeError, RecursionError):
        return None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _shard_of(path: Path) -> Path | None:
    """Return the tar file that a path leads into, or None."""
    if not any(part.endswith(".tar") for part in path.parts[:-1]):
        return None
    return next((p for p in reversed(path.parents) if p.suffix == ".tar" and p.is_file()), None)


def _find(shard: Path, path: Path) -> tuple[int, int]:
    name = path.relative_to(shard).as_posix()
    try:
        return index(shard).members[name]
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, "there is no such file in the archive", str(path)) from None
