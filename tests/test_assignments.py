"""Assignments judge fairly: each wrong answer is named, each right one passes, however it is written."""

import ast
import functools
import re
import runpy
from pathlib import Path

import nbformat
import pytest

from tlutils import checks

ROOT = Path(__file__).parent.parent
INSTRUCTOR = ROOT / "instructor"
SOURCES = {path.stem: path for path in sorted(INSTRUCTOR.glob("source/*/*.ipynb"))}
BANKS = {name: runpy.run_path(str(INSTRUCTOR / "banks" / f"{name}.py")) for name in SOURCES}
EXERCISES = [(name, exercise) for name, bank in BANKS.items() for exercise in bank["WRONG"]]
each_exercise = pytest.mark.parametrize(("name", "exercise"), EXERCISES)


GIVEN = ("setup", "broken")  # cells whose definitions answers use
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


@functools.cache
def cells(name):
    return {cell.id: cell.source for cell in nbformat.read(SOURCES[name], as_version=4).cells}


def visible(source):
    return re.sub(r"### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", "", source, flags=re.DOTALL)


def solved(name):
    """Return what a solved notebook imports and defines, without running it."""
    found = cells(name)
    world = {}
    for cell_id, source in found.items():
        if cell_id in BANKS[name]["WRONG"] or cell_id in GIVEN:
            tree = ast.parse(source)
            tree.body = [node for node in tree.body if isinstance(node, DEFINITIONS)]
            exec(compile(tree, cell_id, "exec"), world)
    return world


def verdict(name, exercise, answer, *, hidden=False):
    """Return what the check says of an answer: the mistake, or what it prints."""
    world = solved(name)
    test = cells(name)[f"check-{exercise}"]
    try:
        exec(answer, world)
        exec(test if hidden else visible(test), world)
    except checks.Mistake as mistake:
        return str(mistake)
    return ""


def changed(name, exercise, old, new):
    source = cells(name)[exercise]
    assert old in source, f"{exercise}: the solution does not say {old!r}"
    return source.replace(old, new, 1)


@each_exercise
def test_each_wrong_answer_is_named(name, exercise):
    wrong = BANKS[name]["WRONG"][exercise]
    assert len(wrong) >= 8
    unnamed = {
        (old, new): said
        for old, new, word in wrong
        if word not in (said := verdict(name, exercise, changed(name, exercise, old, new)))
    }
    assert unnamed == {}


@each_exercise
def test_right_answers_pass_however_they_are_written(name, exercise):
    right = [cells(name)[exercise], *BANKS[name]["RIGHT"][exercise]]
    assert len(right) >= 3
    assert [verdict(name, exercise, answer, hidden=True) for answer in right] == [""] * len(right)


def test_every_graded_exercise_has_a_bank():
    for name in SOURCES:
        graded = {cell_id.removeprefix("check-") for cell_id in cells(name) if cell_id.startswith("check-")}
        written = {cell_id for cell_id in cells(name) if "BEGIN SOLUTION" in cells(name)[cell_id]} & graded
        assert written == set(BANKS[name]["WRONG"]) == set(BANKS[name]["RIGHT"])
