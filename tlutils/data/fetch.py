"""Unpack a downloaded archive without harm; say clearly why a data set is not here."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from .. import runtime
from ..errors import LearnerError
from .cards import catalog


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
        f"The data set {name!r} is not available: {why}.\n"
        f"  By hand: download {source} on a machine with a network and save it as {place}\n"
        f"  Cache:   {runtime.cache_dir()} (the environment variable TLUTILS_CACHE moves it)\n"
        f"  Offline: {ready}, and any folder of your own work now without a network."
    )
