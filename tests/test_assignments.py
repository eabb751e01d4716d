"""Assignments judge fairly: each wrong answer is named, each right one passes, however it is written."""

import ast
import re

import nbformat
import pytest
from assignment_answers import BANKS, GIVEN, ROOT, SOURCES, cells, changed
from nbformat import ValidationError
from nbgrader import nbgraderformat

from tlutils import checks

EXERCISES = [(name, exercise) for name, bank in BANKS.items() for exercise in bank["WRONG"]]
each_assignment = pytest.mark.parametrize("name", SOURCES)
each_exercise = pytest.mark.parametrize(("name", "exercise"), EXERCISES)

METADATA = {"nbgrader", "tags", "deletable", "editable"}  # nbgrader itself locks cells by the last two
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


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


@each_assignment
def test_an_assignment_is_a_clean_notebook_that_nbgrader_and_any_front_end_open(name):
    for path in (SOURCES[name], ROOT / "notebooks" / "assignments" / f"{name}.ipynb"):
        notebook = nbgraderformat.read(path, as_version=4)  # refuses wrong metadata and doubled grade ids
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert set(notebook.metadata) == {"kernelspec", "language_info"}  # and no half of a widget's state
        assert (notebook.metadata.kernelspec.name, notebook.metadata.language_info.name) == (
            "python3",
            "python",
        )
        assert [cell.id for cell in notebook.cells if "tags" in cell.metadata] == ["parameters"]
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
        assert {key for cell in notebook.cells for key in cell.metadata} <= METADATA
        for cell in notebook.cells:
            assert cell.metadata.get("nbgrader", {"grade_id": cell.id})["grade_id"] == cell.id
            assert cell.get("execution_count") is None
            assert not cell.get("outputs")


def test_a_copied_cell_is_named_before_a_notebook_is_handed_in():
    notebook = nbformat.read(ROOT / "notebooks" / "assignments" / "01_finetune.ipynb", as_version=4)
    copied = nbformat.from_dict(next(cell for cell in notebook.cells if cell.id == "check-choose"))
    copied.id = "copied"
    notebook.cells.append(copied)
    with pytest.raises(ValidationError, match="Duplicate grade id: check-choose"):
        nbgraderformat.reads(nbformat.writes(notebook), as_version=4)  # as `nbgrader validate` does first


@each_assignment
def test_the_cells_of_an_assignment_stay_short(name):
    for cell in nbformat.read(SOURCES[name], as_version=4).cells:
        given = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "", cell.source, flags=re.DOTALL)
        lines = [line for line in given.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) <= 15 or cell.cell_type == "markdown", cell.source


@each_assignment
def test_an_assignment_and_the_guide_for_teachers_say_what_it_is_worth(name):
    notebook = nbformat.read(SOURCES[name], as_version=4)
    about = [cell.metadata.nbgrader for cell in notebook.cells if "nbgrader" in cell.metadata]
    code = sum(cell.points for cell in about if cell.grade and not cell.solution)
    read = sum(cell.points for cell in about if cell.grade and cell.solution)
    assert f"| **Points** | {code + read}: code {code}, " in notebook.cells[0].source
    guide = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{name}` .*\| {code} points \| {read} points \|", guide, re.MULTILINE)
