"""A lesson from the terminal: found, run with other parameters, cleaned, kept as a page, or said why not."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tlutils import cli, lessons
from tlutils.errors import LearnerError


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A tiny lesson in a folder of its own, found by number like the real ones."""
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# How much is two and two?"),
            new_code_cell("NUMBER = 2\nWORD = 'sum'", metadata={"tags": ["parameters"]}),
            new_markdown_cell("## Add"),
            new_code_cell("total = NUMBER + NUMBER"),
            new_code_cell("print(f'{WORD}: {total}')", metadata={"tags": ["result"], "scrolled": True}),
        ]
    )
    path = tmp_path / "lessons" / "07_adding.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook, path)
    monkeypatch.setattr(lessons, "folder", lambda: path.parent)
    return path


def test_a_lesson_runs_from_its_number_and_ends_with_result_and_page(lesson, tmp_path, capsys):
    assert cli.main(["lesson", "7", "--out", str(tmp_path / "pages")]) == 0
    said = capsys.readouterr().out
    assert "How much is two and two?" in said
    assert "[ 2/3]" in said
    assert "sum: 4" in said
    page = tmp_path / "pages" / "07_adding.html"
    assert str(page) in said.splitlines()[-1]
    assert "sum: 4" in page.read_text()


def test_a_parameter_from_outside_has_an_effect_and_the_file_stays(lesson, capsys):
    before = lesson.read_bytes()
    assert cli.main(["lesson", "07", "--set", "NUMBER=21", "--set", "WORD=answer"]) == 0
    assert "answer: 42" in capsys.readouterr().out
    assert lesson.read_bytes() == before


def test_updating_a_lesson_twice_gives_the_same_bytes(lesson):
    assert cli.main(["lesson", "7", "--update"]) == 0
    first = lesson.read_bytes()
    assert b"scrolled" not in first
    assert cli.main(["lesson", "7", "--update"]) == 0
    assert lesson.read_bytes() == first


def test_a_raising_cell_is_named_and_the_page_up_to_there_is_kept(lesson, capsys):
    notebook = nbformat.read(lesson, as_version=4)
    notebook.cells[3].source = "total = 1 / 0"
    nbformat.write(notebook, lesson)
    before = lesson.read_bytes()
    assert cli.main(["lesson", "7", "--update"]) == 1
    said = capsys.readouterr()
    assert "code cell 2 ('Add'): ZeroDivisionError" in said.err
    assert "The page up to there" in said.out
    assert lesson.read_bytes() == before


def test_an_unknown_lesson_or_parameter_comes_back_with_what_there_is(lesson):
    with pytest.raises(LearnerError, match="07"):
        lessons.find("99")
    with pytest.raises(LearnerError, match="'NUMBER'"):
        lessons.execute(lesson, parameters={"NUMBR": 1})
    assert cli.main(["lesson", "7", "--set", "oops"]) == 1


def test_data_sets_and_lessons_are_listed(lesson, capsys):
    assert cli.main(["data"]) == 0
    assert cli.main(["lessons"]) == 0
    said = capsys.readouterr().out
    assert "elpv-defects" in said
    assert "Solar cells" in said
    assert "07  How much is two and two?" in said


@pytest.mark.parametrize("place", ["docs", "docs/full"])
def test_reproduce_writes_over_no_page_of_another_project(place, tmp_path, monkeypatch):
    import pandas as pd

    from tlutils import claims

    written = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "reproduction.md").write_text("mine")
    monkeypatch.setattr(claims, "reproduce", lambda *args, **options: pd.DataFrame({"seconds": [0.0]}))
    monkeypatch.setattr(claims, "verdicts", lambda *args, **options: [])
    monkeypatch.setattr(claims, "write_report", lambda table, tier, out, **options: written.append(out))
    assert cli.main(["reproduce", *(["--full"] if place == "docs/full" else [])]) == 0
    assert tmp_path / place not in [out.resolve() for out in written]
    assert len(written) == 1


def test_a_page_takes_the_output_of_a_print_that_is_no_text(tmp_path):
    cell = new_code_cell("print(path)", outputs=[nbformat.v4.new_output("stream", text="caf\udce9/1.png\n")])
    page = lessons.write_html(new_notebook(cells=[cell]), tmp_path / "page.html")
    assert "caf\\udce9/1.png" in page.read_text(encoding="utf-8")
