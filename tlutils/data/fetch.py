"""Bring a file or an archive from the network, checked and whole, or say clearly why it is not here."""

import http.client
import shutil
import stat
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath

from .. import runtime
from ..errors import LearnerError
from ..models.fetch import is_offline
from .cards import catalog

TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


class Unreachable(Exception):
    """The reason, in words, why a file did not arrive."""


def download(url: str, path: Path) -> None:
    """Write what a URL sends to `path`, whole or not at all. Raises Unreachable with the reason."""
    if is_offline():
        raise Unreachable("TLUTILS_OFFLINE or HF_HUB_OFFLINE says to stay offline")
    request = urllib.request.Request(url, headers={"User-Agent": "tlutils"})
    try:
        with runtime.atomic_write(path) as temporary:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, temporary.open("wb") as file:
                expected = int(answer.headers.get("Content-Length") or -1)
                blocks = iter(lambda: answer.read(_CHUNK), b"")
                total = max(expected, 0) // _CHUNK
                received = sum(
                    map(file.write, runtime.progress(blocks, desc=f"downloading {path.name}", total=total))
                )
            # A connection that ends early raises nothing by itself: the count shows it.
            if expected not in (-1, received):
                raise Unreachable(f"the connection broke after {received:,} of {expected:,} bytes")
    except urllib.error.HTTPError as error:
        error.close()  # it is an open answer, too
        raise Unreachable(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise Unreachable(f"there is no connection ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise Unreachable(f"the connection broke ({error})") from error


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


def cannot_be_had(name: str, why: str, source: str, place: Path) -> LearnerError:
    """Return the error for a data set that is not here: what, why, where, how by hand, what works instead."""
    ready = ", ".join(card.name for card in catalog(offline=True))
    return LearnerError(
        f"The data set {name!r} cannot be had: {why}.\n"
        f"  By hand: download {source} on a machine with a network and save it as {place}\n"
        f"  Cache:   {runtime.cache_dir()} (the environment variable TLUTILS_CACHE moves it)\n"
        f"  Offline: {ready}, and any folder of your own work now without a network."
    )
