"""A lesson is committed as one run: a cell that was never run fails, where nbval alone looks away."""

import os

import pytest

os.environ["TQDM_DISABLE"] = "1"  # the kernels inherit it: a bar shows other numbers each time


def pytest_runtest_setup(item):
    cell = getattr(item, "cell", None)
    if cell is not None and cell.execution_count is None:
        pytest.fail("This cell was committed unrun. `tlutils lesson NUMBER --update` runs them all.")
