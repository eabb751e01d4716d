"""A lesson is committed as one run: what says when a fresh run is the same.

A cell that was never run fails, where nbval alone looks away. A measured value, written with its interval as
in "0.812 [0.756, 0.868]", is the same when it lies in the interval that was committed, and so is the verdict
that follows the interval: on another processor training makes differences in the last digits large. One that
was measured once, as in "0.812 (one run)", is the same within a tenth. All else must be equal.
"""

import copy
import re

import pytest

collect_ignore = ["assignments"]  # handed out unrun; tests/test_assignments.py looks at them

NUMBER = r"([+-]?\d+\.\d{3})"
VERDICT = r"(?:, (?:a tie: within|higher beyond|lower beyond) noise)?"
MEASURED = re.compile(rf"{NUMBER} (?:\[{NUMBER}, {NUMBER}\]{VERDICT}|\(one run\))")
BAND = 0.1  # around what was measured once


def as_committed(text, reference):
    """The text with each measured value replaced by the committed one, where that one's interval has it."""
    committed = MEASURED.finditer(reference)

    def same(found):
        known = next(committed, None)
        if known is None:
            return found[0]
        value = float(known[1])
        band = max(BAND, BAND * abs(value))
        low, high = map(float, known.groups()[1:]) if known[2] else (value - band, value + band)
        return known[0] if low <= float(found[1]) <= high else found[0]

    return MEASURED.sub(same, text) if isinstance(text, str) else text


def pytest_runtest_setup(item):
    cell = getattr(item, "cell", None)
    if cell is None:
        return
    if cell.execution_count is None:
        pytest.fail("This cell was committed unrun. `tlutils lesson NUMBER --update` runs them all.")
    compare = item.compare_outputs

    def compare_outputs(test, ref, *args):
        test = copy.deepcopy(test)
        for found, known in zip(test, ref, strict=False):
            for fresh, old in ((found, known), (found.get("data", {}), known.get("data", {}))):
                fresh.update(
                    {k: as_committed(fresh[k], old[k]) for k in fresh if isinstance(old.get(k), str)}
                )
        return compare(test, ref, *args)

    item.compare_outputs = compare_outputs
