"""Seeds, device, cache folder, progress and safe writing: what every other module stands on."""

import ctypes
import errno
import hashlib
import os
import random
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from platformdirs import user_cache_path
from tqdm.auto import tqdm

from .errors import LearnerError

RANDOM = threading.RLock()
"""Held by what draws from the global generators and must not meet another thread's drawing."""

_silent = ContextVar("silent", default=False)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (every device); this changes global state and returns nothing.

    Args:
        seed: any integer; NumPy gets it modulo 2**32.

    Example:
        >>> import torch
        >>> from tlutils import runtime
        >>> runtime.seed_everything(0)
        >>> first = torch.rand(3)
        >>> runtime.seed_everything(0)
        >>> torch.equal(first, torch.rand(3))
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - other libraries draw from NumPy's global generator
    seed_torch(seed)


def seed_torch(seed: int) -> None:
    """Seed torch alone, on every device; this changes global state and returns nothing.

    `torch.manual_seed` notes the caller's whole stack for each kind of device that has not been used so far,
    which takes a hundred times as long as seeding: without an accelerator, none will be.

    Args:
        seed: any integer.

    Example:
        >>> import torch
        >>> from tlutils import runtime
        >>> runtime.seed_torch(0)
        >>> first = torch.rand(3)
        >>> torch.equal(first, torch.rand(3, generator=torch.Generator().manual_seed(0)))
        True
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(int(seed))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under `seed` and give the global generators back as they were, also after an error.

    Args:
        seed: what Python, NumPy and torch draw from within the block.

    Example:
        >>> import torch
        >>> from tlutils import runtime
        >>> with runtime.seeded(0):
        ...     first = torch.rand(3)
        >>> with runtime.seeded(0):
        ...     print(torch.equal(first, torch.rand(3)))
        True
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        seed_everything(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def derive_seed(*numbers: int) -> int:
    """Return a seed, 0 to 2**32 - 1, that follows from several numbers: (1, 0) and (0, 1) share nothing.

    Args:
        *numbers: whole numbers from 0 up, such as a seed, an epoch and an image.

    Example:
        >>> from tlutils import runtime
        >>> runtime.derive_seed(0, 1) == runtime.derive_seed(1, 0)
        False
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def pick_device() -> torch.device:
    """Return the fastest device that is here: CUDA, then Apple's MPS, then the processor.

    Example:
        >>> from tlutils import runtime
        >>> runtime.pick_device().type in ("cuda", "mps", "cpu")
        True
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def bfloat16_units(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 itself, instead of imitating it slowly.

    GPUs do since NVIDIA's Ampere, processors with AVX512-BF16 or AMX. `ATEN_CPU_CAPABILITY` may hold back a
    processor that has them.

    Args:
        device: where a model runs.

    Example:
        >>> import torch
        >>> from tlutils import runtime
        >>> runtime.bfloat16_units(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return False
    supported = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in supported if ask)


@cache
def keep_freed_memory() -> bool:
    """Return whether this process keeps the memory that it frees, from now to its end: on Linux with glibc.

    Otherwise glibc gives a large tensor back to the system as soon as it is freed, and the next step gets its
    pages again, one page fault each: up to half of the processor time of a training step. `models.load`,
    extraction and training call this first. Between two steps the process then looks larger. A later call,
    and every other system, changes nothing.

    Example:
        >>> from tlutils import runtime
        >>> runtime.keep_freed_memory() in (True, False)
        True
    """
    names = getattr(os, "confstr_names", {})  # Windows has none
    if "CS_GNU_LIBC_VERSION" not in names or not os.confstr("CS_GNU_LIBC_VERSION"):
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # <malloc.h>
    settings = {mmap_max: 0, trim_threshold: 2**31 - 1, top_pad: 256 * 2**20}
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(name, value) for name, value in settings.items())


def place_beside(images: Path) -> Path:
    """Return the current folder, or where that is among the images, the one above them.

    Args:
        images: the folder of a data set.

    Example:
        >>> from pathlib import Path
        >>> from tlutils import runtime
        >>> runtime.place_beside(Path("photographs")) == Path.cwd()
        True
    """
    here, images = Path.cwd(), images.resolve()
    return images.parent if here.is_relative_to(images) else here


def user_path(path: str | Path) -> Path:
    """Return a path that somebody typed, with "~" as their home folder.

    Args:
        path: what they typed.

    Raises:
        LearnerError: it is no path, or "~name" names a user who is not here.

    Example:
        >>> from pathlib import Path
        >>> from tlutils import runtime
        >>> runtime.user_path("~/photos") == Path.home() / "photos"
        True
    """
    try:
        return Path(path).expanduser()
    except TypeError as error:
        raise LearnerError(f"Expected the path of a file or folder and got {type(path).__name__}.") from error
    except RuntimeError as error:
        raise LearnerError(f"{str(path)!r} cannot be found: {error} Write the folder in full.") from error


def cache_dir(sub: str = "") -> Path:
    """Return the cache folder (or a folder in it), made if it is missing; nothing is written outside it.

    The environment variable TLUTILS_CACHE moves it; otherwise it is the user's cache folder of this system.

    Args:
        sub: a folder within the cache folder; "" is the cache folder itself.

    Raises:
        LearnerError: it cannot be written.

    Example:
        >>> from tlutils import runtime
        >>> runtime.cache_dir("features").is_dir()
        True
    """
    root = (
        user_path(os.environ["TLUTILS_CACHE"])
        if os.environ.get("TLUTILS_CACHE")
        else user_cache_path("tlutils")
    )
    folder = root / sub
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise LearnerError(
            f"The cache folder {folder} cannot be written. Expected a folder that you own. "
            "Set the environment variable TLUTILS_CACHE to one, for example TLUTILS_CACHE=~/tl-cache."
        )
    return folder


def homes() -> dict[str, str]:
    """Return the environment variables by which matplotlib and IPython keep their files in the cache folder.

    Without them both make folders in the home of whoever runs a lesson.

    Example:
        >>> from tlutils import runtime
        >>> sorted(runtime.homes())
        ['IPYTHONDIR', 'MPLCONFIGDIR']
    """
    return {"IPYTHONDIR": str(cache_dir("ipython")), "MPLCONFIGDIR": str(cache_dir("matplotlib"))}


def interactive() -> bool:
    """Whether output is seen by a person: in a terminal or a notebook, with TQDM_DISABLE unset.

    Example:
        >>> import os
        >>> from tlutils import runtime
        >>> os.environ["TQDM_DISABLE"] = "1"
        >>> runtime.interactive()
        False
    """
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        return False
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(items: Iterable[Any], *, desc: str, total: int | None = None) -> tqdm:
    """Return `items` wrapped in a progress bar that is silent where nobody watches.

    Args:
        items: what to go through.
        desc: what the bar says at its left.
        total: how many items there are, for an iterable without a length.

    Example:
        >>> from tlutils import runtime
        >>> sum(runtime.progress([1, 2, 3], desc="adding"))
        6
    """
    shown = interactive() and not _silent.get()
    return tqdm(items, desc=desc, total=total, disable=not shown, leave=False)


@contextmanager
def silent() -> Iterator[None]:
    """Run a block without progress bars: for work that shows by itself how far it is.

    Example:
        >>> from tlutils import runtime
        >>> with runtime.silent():
        ...     print(list(runtime.progress("abc", desc="spelling")))
        ['a', 'b', 'c']
    """
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits.

    Args:
        path: the file.

    Example:
        >>> from tlutils import runtime
        >>> path = runtime.cache_dir() / "hello.txt"
        >>> path.write_bytes(b"hello")
        5
        >>> runtime.sha256(path)[:8]
        '2cf24dba'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[FileLock]:
    """Yield a lock between processes and threads, `with file_lock(path):`, kept in a file beside `path`.

    Args:
        path: what only one at a time may work on; it need not be there.
        wait: whether to wait for whoever has it.

    Raises:
        LearnerError: the file of the lock cannot be written, such as one that belongs to somebody else.
        TimeoutError: somebody else has it, without `wait`.

    Example:
        >>> from tlutils import runtime
        >>> with runtime.file_lock(runtime.cache_dir() / "shared.bin") as lock:
        ...     print(lock.is_locked)
        True
    """
    lock = FileLock(f"{path}.lock")
    with disk_errors(Path(lock.lock_file)):
        lock.acquire(timeout=-1 if wait else 0)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there replaces `path` in one step at the end.

    After an error, or a kill at any moment, `path` holds its old content or none, never half of the new.

    Args:
        path: the file to write; its folder is made if it is missing. A link is replaced, not followed.

    Raises:
        LearnerError: the disk is full, the folder cannot be written, or a folder has the name of the file.

    Example:
        >>> from tlutils import runtime
        >>> path = runtime.cache_dir() / "note.txt"
        >>> with runtime.atomic_write(path) as temporary:
        ...     _ = temporary.write_text("whole", encoding="utf-8")
        >>> path.read_text(encoding="utf-8")
        'whole'
    """
    path = Path(path)
    # The ending stays (savers choose a format by it); the numbers keep two writers apart.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}{path.suffix}")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder; what is written in it becomes the folder `path` in one step at the end.

    After an error, or a kill at any moment, there is no folder `path`. What a kill left, and nothing else, is
    removed by the next call: a folder without this package's mark, or a link, is left as it is. One process
    at a time: call it under `file_lock(path)`.

    Args:
        path: the folder to make.

    Raises:
        LearnerError: the disk is full, or something else has the name of the folder.

    Example:
        >>> from tlutils import runtime
        >>> folder = runtime.cache_dir() / "unpacked"
        >>> with runtime.file_lock(folder), runtime.atomic_folder(folder) as new:
        ...     (new / "inside").mkdir()
        >>> [path.name for path in folder.iterdir()]
        ['inside']
    """
    work = path.with_name(f".{path.name}.part")
    mark = work / "made-by-tlutils"
    with disk_errors(work):
        if path.exists() or path.is_symlink():
            raise _in_the_way(path)
        if work.is_symlink() or (work.is_dir() and any(work.iterdir()) and not mark.is_file()):
            raise _in_the_way(work)
        work.mkdir(exist_ok=True)
        mark.touch()
        try:
            shutil.rmtree(work / "new", ignore_errors=True)
            (work / "new").mkdir()
            yield work / "new"
            (work / "new").rename(path)
        finally:
            shutil.rmtree(work / "new", ignore_errors=True)
            shutil.rmtree(work)  # the mark goes last


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Run a block that writes `path`; what the disk refuses becomes a LearnerError.

    Args:
        path: what the words name.

    Raises:
        LearnerError: the disk is full, or has no place for one more file; it may not be written; or something
            else has that name.

    Example:
        >>> from tlutils import runtime
        >>> folder = runtime.cache_dir()
        >>> try:
        ...     with runtime.disk_errors(folder):
        ...         folder.write_bytes(b"")
        ... except ValueError as error:
        ...     print("something else has that name" in str(error))
        True
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LearnerError(
                f"The disk is full: {path} could not be written, and what was there before is untouched. "
                "Free some space, or set TLUTILS_CACHE to a folder on another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise LearnerError(
                f"{path} cannot be written ({error.strerror}). Choose a folder that you own."
            ) from error
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
            raise _in_the_way(error.filename2 or error.filename or path) from error
        raise


def _in_the_way(path: Path | str) -> LearnerError:
    return LearnerError(
        f"{path} cannot be written: something else has that name, or that of a folder above it. "
        "It was left as it is; move it elsewhere, and try again."
    )
