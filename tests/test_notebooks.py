"""What holds for every lesson, and proof that comparing a lesson with a fresh run has teeth."""

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tlutils import lessons

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
each_lesson = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, kind):
    return [out for cell in code_cells(notebook) for out in cell.outputs if out.output_type == kind]


@each_lesson
def test_a_lesson_is_a_valid_notebook_that_any_front_end_opens(path):
    notebook = read(path)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"
    assert "widgets" not in notebook.metadata


@each_lesson
def test_a_lesson_is_committed_as_one_clean_run(path):
    notebook = read(path)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(
        range(1, len(code_cells(notebook)) + 1)
    )
    assert outputs(notebook, "error") == []
    assert [out.text for out in outputs(notebook, "stream") if out.name == "stderr"] == []
    assert lessons.clean(read(path)) == notebook


@each_lesson
def test_a_lesson_has_one_cell_of_parameters_and_a_result(path):
    tags = [tag for cell in code_cells(read(path)) for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1
    assert tags.count("result") == 1
    assert lessons.result(read(path))


@each_lesson
def test_the_cells_of_a_lesson_stay_short(path):
    for cell in code_cells(read(path)):
        lines = [
            line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")
        ]
        assert len(lines) <= 15, cell.source


@each_lesson
def test_a_lesson_opens_the_test_split_once_in_its_cell_of_the_result_which_ends_the_lesson(path):
    cells = code_cells(read(path))
    users = [i for i, cell in enumerate(cells) if re.search(r"\.test\b", cell.source)]
    (result,) = (i for i, cell in enumerate(cells) if "result" in cell.metadata.get("tags", []))
    assert users in ([], [result])
    assert result >= len(cells) - 2  # after it at most an image of the learner's own


CHECKED = re.compile(r"\blesson_\w+\.check_\w+\(")


def unasked_checks(notebook):
    """Sources of the cells that end in a check and have no text of their own above, or only a folded one."""
    found, text = [], ""
    for cell in notebook.cells:
        lines = [line for line in cell.source.splitlines() if not line.startswith("#")]
        if cell.cell_type == "markdown":
            text = cell.source.rpartition("</details>")[2].strip()
        elif lines and CHECKED.search(lines[-1]):
            if not text:
                found.append(cell.source)
            text = ""
    return found


@each_lesson
def test_every_check_of_a_lesson_stands_below_the_text_of_its_exercise(path):
    assert unasked_checks(read(path)) == []


def test_an_exercise_that_lost_its_text_is_noticed():
    def written(*kinds):
        text = nbformat.v4.new_markdown_cell("<details>why</details>\n\n**Exercise.** Double!")
        folded = nbformat.v4.new_markdown_cell("<details>why</details>")
        check = nbformat.v4.new_code_cell("double = None\nlesson_04.check_double(double)\n# draw it")
        return nbformat.from_dict(
            {"cells": [{"text": text, "folded": folded, "check": check}[kind] for kind in kinds]}
        )

    assert unasked_checks(written("text", "check")) == []
    assert len(unasked_checks(written("folded", "check"))) == 1
    assert len(unasked_checks(written("text", "check", "check"))) == 1


@each_lesson
def test_the_prose_of_a_lesson_quotes_no_measured_number(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"\$[^$]*\$|`[^`]*`|\]\([^)]*\)", "", cell.source)
            assert not re.search(r"\b0\.\d\d|\b\d+(\.\d+)? ?%", prose), cell.source


@each_lesson
def test_the_card_of_a_lesson_says_how_long_it_runs_and_that_is_not_long(path):
    """As `benchmarks/lessons.py` measured on two cores; the first lesson is to be a quick win."""
    card = next(cell.source for cell in read(path).cells if "**Time**" in cell.source)
    seconds = int(re.search(r"; (\d+) seconds to run on 2 cores \|", card)[1])
    assert seconds <= (90 if path.stem.startswith("00") else 120)


@each_lesson
def test_terms_link_to_their_entry_in_the_glossary(path):
    entries = re.findall(
        r'^<a id="([^"]+)"></a>\*\*', (FOLDER / "glossary.md").read_text("utf-8"), re.MULTILINE
    )
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    linked = re.findall(r"\]\(glossary\.md#([^)]+)\)", prose)
    assert len(linked) >= 3
    assert not set(linked) - set(entries)
    assert len(set(linked)) == len(linked), "a link at the first use in a lesson is enough"


@each_lesson
def test_the_figures_of_a_lesson_are_small(path):
    figures = [
        base64.b64decode(out.data[image])
        for kind in ("display_data", "execute_result")
        for out in outputs(read(path), kind)
        for image in ("image/png", "image/jpeg")
        if image in out.data
    ]
    assert figures
    assert max(map(len, figures)) <= 60_000
    explorers = sum("widgets." in cell.source for cell in code_cells(read(path)))
    assert sum(map(len, figures)) <= 150_000 + 35_000 * explorers


@each_lesson
def test_a_lesson_predicts_runs_and_explains(path):
    text = "\n".join(cell.source for cell in read(path).cells)
    assert text.count("guess") >= 3
    assert text.count("<details>") >= 3
    assert "Exercise" in text
    assert "Summary" in text


MEASURED = "+0.030 [-0.010, +0.070], a tie: within noise"


def small_cell():
    """A cell that was run: what nbval and our own rule see is the same as in a lesson."""
    printed = nbformat.v4.new_output("stream", name="stdout", text=f"accuracy {MEASURED}\n")
    source = f'print("accuracy {MEASURED}")'
    return nbformat.v4.new_code_cell(source, execution_count=1, outputs=[printed])


def as_it_is(cell):
    pass


def within_the_interval(cell):
    cell.outputs[0].text = "accuracy +0.050 [+0.010, +0.090], higher beyond noise\n"


def outside_the_interval(cell):
    cell.outputs[0].text = "accuracy +0.080 [+0.040, +0.120], higher beyond noise\n"


def other_words(cell):
    cell.outputs[0].text = f"precision {MEASURED}\n"


def measured_once(cell):
    cell.source = cell.source.replace(MEASURED, "0.800 (one run)")


def near_what_was_measured_once(cell):
    measured_once(cell)
    cell.outputs[0].text = "accuracy 0.880 (one run)\n"


def far_from_what_was_measured_once(cell):
    measured_once(cell)
    cell.outputs[0].text = "accuracy 0.930 (one run)\n"


def raising(cell):
    cell.source += "\nraise ValueError('broken on purpose')"


def unrun(cell):
    cell.outputs, cell.execution_count = [], None


def test_comparing_a_lesson_with_a_fresh_run_has_teeth(tmp_path):
    right = [as_it_is, within_the_interval, near_what_was_measured_once]
    wrong = [
        outside_the_interval,
        other_words,
        measured_once,
        far_from_what_was_measured_once,
        raising,
        unrun,
    ]
    ways = right + wrong
    cells = [small_cell() for _ in ways]
    for break_it, cell in zip(ways, cells, strict=True):
        break_it(cell)
    lesson = lessons.clean(nbformat.v4.new_notebook(cells=cells))
    nbformat.write(lesson, tmp_path / "lesson.ipynb")
    shutil.copy(FOLDER / "conftest.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "--nbval", "-rA", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = re.findall(r"^(PASSED|FAILED|ERROR) lesson\.ipynb::Cell (\d)", done.stdout, re.MULTILINE)
    passed = {ways[int(number)] for outcome, number in found if outcome == "PASSED"}
    assert len(found) == len(ways)
    assert passed == set(right), done.stdout[-3000:]
