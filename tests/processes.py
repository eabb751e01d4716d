"""Processes of their own for the tests: forked from a server that has imported torch and never used it."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

# So they start at once, and share nothing with the tests. Windows cannot fork.
PROCESSES = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
PROCESSES.set_forkserver_preload(["accelerate", "tlutils.claims", "tlutils.features", "tlutils.train"])


def run(function: Callable[..., Any], *arguments: Any, **environment: str) -> int:
    """Call a function in a process of its own; return its exit code: 9 or -9 when it was killed."""
    process = PROCESSES.Process(target=_call, args=(os.environ | environment, function, arguments))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "still running"
    return process.exitcode


def _call(environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    function(*arguments)
