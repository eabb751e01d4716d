"""A lesson is committed as one run: a cell that was never run fails, where nbval alone looks away."""

import pytest


def pytest_runtest_setup(item):
    cell = getattr(item, "cell", None)
    if cell is not None and cell.execution_count is None:
        pytest.fail("This cell was committed unrun. `tlutils lesson NUMBER --update` runs them all.")


collect_ignore = ["assignments"]  # handed out unrun; tests/test_assignments.py looks at them
