"""A lesson from the terminal: found, run with other parameters, cleaned, kept as a page, or said why not."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tlutils import cli, lessons
from tlutils.errors import LearnerError


@pytest.fixture(autouse=True)
def kernels_start_from_nothing(monkeypatch):
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", "local-provisioner")


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


def test_copies_to_work_in_show_no_answer_and_never_replace_what_a_learner_wrote(tmp_path, capsys):
    place = tmp_path / "my course"
    assert cli.main(["lab", str(place)]) == 0
    for original in [*lessons.folder().glob("*.ipynb"), *lessons.folder().glob("assignments/*.ipynb")]:
        copy = nbformat.read(place / original.relative_to(lessons.folder()), as_version=4)
        assert [cell.source for cell in copy.cells] == [
            cell.source for cell in nbformat.read(original, as_version=4).cells
        ]
        assert not [c for c in copy.cells if c.cell_type == "code" and (c.outputs or c.execution_count)]
    mine = place / "00_six_steps.ipynb"
    mine.write_text("what I wrote", encoding="utf-8")
    (place / "02_linear_probing.ipynb").unlink()
    assert cli.main(["lab", str(place)]) == 0
    assert mine.read_text(encoding="utf-8") == "what I wrote"
    assert (place / "02_linear_probing.ipynb").exists()
    assert "Files written: 1." in capsys.readouterr().out
    assert not list(tmp_path.rglob(".*"))


def test_every_link_of_a_lesson_leads_to_a_file_that_is_laid_with_it():
    for path in [*lessons.folder().glob("*.ipynb"), *lessons.folder().glob("assignments/*.ipynb")]:
        text = "".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
        for link in re.findall(r"\]\((?!https?://|#|data:|attachment:)([^)#]+)", text):
            target = (path.parent / link).resolve()
            assert target.is_relative_to(lessons.folder().resolve()), (path.name, link)
            assert target.exists(), (path.name, link)


@pytest.mark.parametrize("place", ["docs", "docs/full"])
def test_reproduce_writes_over_no_page_of_another_project(place, tmp_path, monkeypatch):
    import pandas as pd

    from tlutils import claims

    written = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "reproduction.md").write_text("mine")
    none = claims.Evidence(pd.DataFrame({"seconds": [0.0]}), pd.DataFrame())
    monkeypatch.setattr(claims, "missing_datasets", lambda names: {})
    monkeypatch.setattr(claims, "reproduce", lambda *args, **options: none)
    monkeypatch.setattr(claims, "verdicts", lambda *args, **options: [])
    monkeypatch.setattr(claims, "write_report", lambda table, tier, out, **options: written.append(out))
    assert cli.main(["reproduce", *(["--full"] if place == "docs/full" else [])]) == 0
    assert tmp_path / place not in [out.resolve() for out in written]
    assert len(written) == 1


def test_a_page_takes_the_output_of_a_print_that_is_no_text(tmp_path):
    cell = new_code_cell("print(path)", outputs=[nbformat.v4.new_output("stream", text="caf\udce9/1.png\n")])
    page = lessons.write_html(new_notebook(cells=[cell]), tmp_path / "page.html")
    assert "caf\\udce9/1.png" in page.read_text(encoding="utf-8")


def notebook_at(path, code):
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    return path


@pytest.mark.parametrize(
    "place",
    ["HOME", *(pytest.param(p, marks=pytest.mark.full) for p in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"))],
)
def test_a_lesson_runs_in_this_python_whatever_kernels_are_installed(place, tmp_path, monkeypatch):
    spec = tmp_path / (".local/share/jupyter" if place == "HOME" else "") / "kernels" / "python3"
    spec.mkdir(parents=True)
    started = tmp_path / "started"
    argv = [sys.executable, "-c", f"open({str(started)!r}, 'w')", "{connection_file}"]
    other = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(other))
    monkeypatch.setenv(place, str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    ran = lessons.execute(notebook_at(tmp_path / "a.ipynb", "import sys; print(sys.executable)"))
    assert ran.cells[0].outputs[0].text.strip() == sys.executable
    assert not started.exists()


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("os._exit(3)", marks=pytest.mark.full),
        pytest.param("os._exit(0)", marks=pytest.mark.full),
        "os.kill(os.getpid(), 9)" if os.name != "nt" else "os.abort()",
    ],
)
def test_a_kernel_that_dies_is_said_in_words(tmp_path, end):
    notebook = notebook_at(tmp_path / "a.ipynb", f"import os; {end}")
    with pytest.raises(LearnerError, match=r"a\.ipynb stopped in code cell 1.*died") as error:
        lessons.execute(notebook)
    assert len(error.value.notebook.cells) == 1


def test_a_kernel_that_does_not_start_is_said_in_words(tmp_path, monkeypatch):
    notebook = notebook_at(tmp_path / "a.ipynb", "1")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    with pytest.raises(LearnerError, match=r"its start.*nowhere"):
        lessons.execute(notebook)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder, and nothing in the environment that names another place."""
    for name in [name for name in os.environ if name.startswith(("XDG", "JUPYTER", "IPYTHON", "MPL"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_lesson_writes_nothing_into_the_home(home, tmp_path):
    """matplotlib's fonts and IPython's profile lie in the cache folder."""
    code = "import matplotlib.pyplot as plt\nplt.title('text')\nplt.gcf().canvas.draw()"
    lessons.execute(notebook_at(tmp_path / "a.ipynb", code))
    assert [path for path in home.rglob("*") if path.is_file()] == []


FIGURE = "from tlutils import plots; plots.lines([0, 1], {'a': [0, 1]}, title='text', alt='text').png()"


@pytest.mark.full
def test_a_figure_writes_nothing_into_the_home(home):
    subprocess.run([sys.executable, "-c", FIGURE], check=True)
    assert [path for path in home.rglob("*") if path.is_file()] == []


@pytest.mark.full
def test_who_has_settings_of_matplotlib_keeps_them(home):
    (home / ".config" / "matplotlib").mkdir(parents=True)
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text("lines.linewidth: 7")
    code = f"{FIGURE}; import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "7.0"
