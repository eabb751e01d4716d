"""Bring a file from the network whole and checked, or say in words why it is not here."""

import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from . import runtime

log = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte


class Unreachable(Exception):
    """The reason, in plain words, why a file did not arrive."""


def is_offline() -> bool:
    """Whether TLUTILS_OFFLINE or HF_HUB_OFFLINE says that no network is to be asked.

    Example:
        >>> import os
        >>> from tlutils import download
        >>> os.environ["TLUTILS_OFFLINE"] = "1"
        >>> download.is_offline()
        True
        >>> del os.environ["TLUTILS_OFFLINE"]
    """
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on")
        for name in ("TLUTILS_OFFLINE", "HF_HUB_OFFLINE")
    )


def download(url: str, path: Path, *, digits: str = "") -> None:
    """Write what a URL sends to `path`, whole or not at all.

    Args:
        url: where it is.
        path: the file to write; one that is there is replaced at the end, in one step.
        digits: how the SHA-256 of the file begins, in hex; "" accepts any file.

    Raises:
        Unreachable: with the reason, also when the SHA-256 of what came does not begin with `digits`.

    Example:
        >>> import os
        >>> from tlutils.download import Unreachable, download
        >>> os.environ["TLUTILS_OFFLINE"] = "1"
        >>> try:
        ...     download("https://example.org/weights.pth", "weights.pth")
        ... except Unreachable as reason:
        ...     print(reason)
        TLUTILS_OFFLINE or HF_HUB_OFFLINE says to stay offline
        >>> del os.environ["TLUTILS_OFFLINE"]
    """
    if is_offline():
        raise Unreachable("TLUTILS_OFFLINE or HF_HUB_OFFLINE says to stay offline")
    log.info("downloading %s to %s", url, path)
    request = urllib.request.Request(url, headers={"User-Agent": "tlutils"})
    try:
        with runtime.atomic_write(path) as temporary:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, temporary.open("wb") as file:
                expected = int(answer.headers.get("Content-Length") or -1)
                received = 0
                with runtime.progress((), desc=f"downloading {path.name}", total=max(expected, 0)) as bar:
                    while block := answer.read(CHUNK):
                        received += file.write(block)
                        bar.update(len(block))
            # A connection that ends early raises nothing by itself: the count shows it.
            if expected not in (-1, received):
                raise Unreachable(f"the connection broke after {received:,} of {expected:,} bytes")
            if not runtime.sha256(temporary).startswith(digits):
                raise Unreachable(
                    f"what {url} sent has the wrong SHA-256 (it should begin with {digits[:16]})"
                )
    except urllib.error.HTTPError as error:
        error.close()  # it is an open answer, too
        raise Unreachable(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise Unreachable(f"there is no connection ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise Unreachable(f"the connection broke ({error})") from error
