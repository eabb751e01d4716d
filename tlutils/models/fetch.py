"""Bring weight files into the cache folder, checked, or say why that cannot be done and what to do
instead.
"""

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import timm
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from .. import runtime
from ..download import TIMEOUT, Unreachable, download, is_offline
from ..errors import LearnerError
from .packaged import PACKAGES
from .registry import known_weights, torchvision_names

HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # resnet18-f37072fd.pth: the first digits of the SHA-256
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def weights_dir() -> Path:
    """Return the folder of the cache in which weight files lie, also those brought by hand."""
    return runtime.cache_dir("weights")


def url_path(url: str) -> Path:
    """Return where the file of a URL lies, or will lie, in the cache."""
    return weights_dir() / Path(urlparse(url).path).name


def fetch_url(url: str, *, asked: str) -> Path:
    """Return the file of a URL: from the cache without a network call, else downloaded and checked.

    A file whose name carries digits of its SHA-256 (`name-0123abcd.pth`) is compared with them each time.
    `asked` names the model in errors. Raises LearnerError when the file is not available or is damaged.
    """
    path = url_path(url)
    found = HASH.search(path.name)
    digits = found.group(1) if found else ""
    with runtime.file_lock(path):
        if path.exists():
            check_hash(path, digits, asked=asked)
            return path
        try:
            download(url, path, digits=digits)
        except Unreachable as error:
            raise missing(asked, str(error), url, path) from error
    return path


def check_hash(path: Path, digits: str, *, asked: str) -> None:
    """Raise LearnerError, naming the file, unless it can be read and its SHA-256 begins with `digits`."""
    try:
        actual = runtime.sha256(path)
    except OSError as error:
        raise LearnerError(
            f"The file of {asked}, {path}, cannot be read ({error.strerror}). Expected a weight file. "
            "Move away what is there, and load the model again."
        ) from error
    if not actual.startswith(digits):
        raise LearnerError(
            f"The file of {asked}, {path} ({path.stat().st_size:,} bytes), is damaged or not the right one: "
            f"its SHA-256 is {actual[:16]}…, expected {digits[:16]}… Delete it and load the model again, or "
            "replace it by hand."
        )


def hub_path(repo: str, filename: str) -> Path:
    """Return where a file of the Hugging Face hub lies when it was brought by hand."""
    return weights_dir() / f"{repo.partition('@')[0].replace('/', '--')}--{filename}"


def cached_hub_file(repo: str, names: Sequence[str] = HUB_FILES) -> Path | None:
    """Return a hub file that is here already (by hand, or fetched earlier), without a network call."""
    repo_id, _, revision = repo.partition("@")
    for name in names:
        if hub_path(repo, name).is_file():
            return hub_path(repo, name)
        try:
            found = huggingface_hub.try_to_load_from_cache(
                repo_id, name, cache_dir=weights_dir() / "hub", revision=revision or None
            )
        except OSError:  # something else has the name of one of the hub's folders or notes
            return None
        if isinstance(found, str):
            return Path(found)
    return None


def fetch_hub(repo: str, names: Sequence[str] = HUB_FILES, *, asked: str) -> Path:
    """Return the first of `names` that a hub repository ("owner/name", or with "@revision") has.

    From the cache without a network call, else through huggingface_hub. The hub keeps large files under their
    SHA-256, and they are compared with it each time. Raises LearnerError when the file is not available or is
    damaged.
    """
    with runtime.file_lock(hub_path(repo, names[0])):
        path = cached_hub_file(repo, names)
        if path is None:
            path = _download_hub(repo, names, asked=asked)
    blob = path.resolve().name
    check_hash(path, blob if re.fullmatch("[0-9a-f]{64}", blob) else "", asked=asked)
    return path


def _download_hub(repo: str, names: Sequence[str], *, asked: str) -> Path:
    repo_id, _, revision = repo.partition("@")
    # Read again each time: in a notebook, HF_ENDPOINT is often set after the import.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or huggingface_hub.constants.ENDPOINT
    source = f"{endpoint}/{repo_id}/resolve/{revision or 'main'}/{names[0]}"
    if is_offline():
        raise missing(
            asked, "TLUTILS_OFFLINE or HF_HUB_OFFLINE says to stay offline", source, hub_path(repo, names[0])
        )
    if reason := _unreachable(endpoint):
        # Asked first, since the hub's client tries again for half a minute before it says so.
        raise missing(
            asked, f"the Hugging Face hub cannot be reached ({reason})", source, hub_path(repo, names[0])
        )
    reason = f"{repo_id} on the Hugging Face hub has none of {', '.join(names)}"
    for name in names:
        try:
            with _without_xet():
                path = huggingface_hub.hf_hub_download(
                    repo_id,
                    name,
                    revision=revision or None,
                    cache_dir=weights_dir() / "hub",
                    endpoint=endpoint,
                )
            return Path(path)
        except LocalEntryNotFoundError as error:
            reason = f"the Hugging Face hub cannot be reached ({_root(error)})"
            break
        except EntryNotFoundError:
            continue  # this repository keeps its weights under the next name
        except Exception as error:  # the hub's client has changed its transport, and with it its errors
            reason = f"the Hugging Face hub did not send it ({type(error).__name__}: {_root(error)})"
            break
    raise missing(asked, reason, source, hub_path(repo, names[0]))


@contextmanager
def _without_xet() -> Iterator[None]:
    """Keep the hub's client from its second transport, which writes to a cache of its own outside ours."""
    settings = huggingface_hub.constants
    before = settings.HF_HUB_DISABLE_XET
    settings.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        settings.HF_HUB_DISABLE_XET = before


def _unreachable(url: str) -> str:
    """Return why a server cannot be reached, "" when it answers anything at all."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()  # it is an open answer, too
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        return str(getattr(error, "reason", error))
    return ""


def _root(error: BaseException) -> str:
    """Return the first line of the innermost cause, which is what a person can act on."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n")[0]


def list_offline() -> list[str]:
    """Return the names whose pretrained weights are here now: in installed packages or in the cache.

    Of torchvision's sets of weights the one that a plain name means has no tag: "resnet50" is here, or
    "resnet50.IMAGENET1K_V1".

    Example:
        >>> from tlutils import models
        >>> models.DEFAULT in models.list_offline()
        True
    """
    here = [name for name, package in PACKAGES.items() if package.path() is not None]
    for name in torchvision_names():
        default = known_weights(name, None)
        own = [weights for weights in type(default) if url_path(weights.url).is_file()]
        here += [name if weights is default else f"{name}.{weights.name}" for weights in own]
    # Only names of repositories that left a file are looked up: timm knows some 1,800 sets of weights.
    files = [p.name for p in weights_dir().iterdir()]
    files += [p.name for p in (weights_dir() / "hub").glob("models--*")]
    for name in timm.list_pretrained() if files else []:
        cfg: Any = timm.get_pretrained_cfg(name)
        stem = (cfg.hf_hub_id or "").partition("@")[0].replace("/", "--")
        if (stem and any(stem in file for file in files) and cached_hub_file(cfg.hf_hub_id)) or (
            not stem and isinstance(cfg.url, str) and url_path(cfg.url).is_file()
        ):
            here.append(f"timm/{name}")
    return here


def missing(asked: str, why: str, source: str, path: Path) -> LearnerError:
    """Return the error for weights that are not here: what, why, where, how by hand, what works instead."""
    return LearnerError(
        f"The pretrained weights of {asked} are not available: {why}.\n"
        f"  By hand: download {source} on a machine with a network and save it as {path}\n"
        f"  Cache:   {runtime.cache_dir()} (the environment variable TLUTILS_CACHE moves it)\n"
        f"  Offline: {', '.join(list_offline())} work now without a network; "
        "TLUTILS_OFFLINE=1 keeps every call from asking one.\n"
        "Nothing was loaded. For random weights on purpose, pass pretrained=False."
    )
