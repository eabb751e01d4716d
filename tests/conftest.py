"""What every test shares: an own cache folder, and no network beyond loopback."""

import os
import socket
import sys
from pathlib import Path

import pytest

INSTRUCTOR = Path(__file__).parent.parent / "instructor"  # withheld from learners, with what it tests
sys.path.append(str(INSTRUCTOR))
collect_ignore_glob = [] if INSTRUCTOR.is_dir() else ["test_assignments*.py", "test_solutions.py"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Each test run writes to one throw-away cache folder, never to the user's own."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("TLUTILS_CACHE", str(folder))


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch):
    """What is written waits for no disk: tests kill processes, and none cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """This test alone writes to the cache folder, which is empty at first."""
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """A connection to anywhere but this machine fails the test that tries it."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else str(address)
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"a test tried to reach {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="module")
def lite0():
    """The default backbone with its weights, in eval mode."""
    from tlutils import models  # here: the process that hands out the tests has no use for torch

    return models.load(models.DEFAULT)
