"""The assignments with their banks of right and wrong answers, for the tests."""

import functools
import runpy
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent
INSTRUCTOR = ROOT / "instructor"
SOURCES = {path.stem: path for path in sorted(INSTRUCTOR.glob("source/*/*.ipynb"))}
BANKS = {name: runpy.run_path(str(INSTRUCTOR / "banks" / f"{name}.py")) for name in SOURCES}
GIVEN = ("setup", "network", "broken")  # cells whose definitions answers use


@functools.cache
def cells(name):
    return {cell.id: cell.source for cell in nbformat.read(SOURCES[name], as_version=4).cells}


def changed(name, exercise, old, new):
    source = cells(name)[exercise]
    assert old in source, f"{exercise}: the solution does not say {old!r}"
    return source.replace(old, new, 1)
