"""Tests and lessons run in one thread each, as many at a time as the machine has cores; no progress bars."""

import contextlib
import gc
import importlib
import os
import sys

# What one process compiles, the next ones read: a dozen of them import torch.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Set before torch is imported, and inherited by every kernel and process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"  # a bar shows other numbers each time
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import joblib
import psutil
import pytest

importlib.import_module("quick_start")  # before anything that would build the grammar
import processes  # noqa: E402

if "nbval.plugin" not in sys.modules:  # as pyproject.toml asks, so that it comes after that line
    pytest_plugins = ["nbval.plugin"]

gc.disable()  # until all is imported and collected, since hardly any of that is garbage
processes.warm_kernels()

# In a new environment whatever is imported is compiled first, for a minute. So one process begins with what
# the tests import beside torch, while the other compiles torch; then each reads what the other wrote.
if os.environ.get("PYTEST_XDIST_WORKER") == "gw1":
    for name in ("sklearn.linear_model", "pandas", "matplotlib.pyplot", "nbgrader.api", "distributed"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)

CORES = joblib.cpu_count()
MEMORY = 2 * 2**30  # what a worker, or the kernel of its lesson, takes
os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # a lesson that would use the other cores leaves them to other tests


def pytest_collection_finish():
    """What is imported and collected stays to the end: no search for garbage looks at it again."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # the process that hands out the tests has no use for them
        for name in processes.LIBRARIES:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    return max(1, min(CORES, psutil.virtual_memory().available // MEMORY))
