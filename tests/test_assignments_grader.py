"""The real nbgrader on real submissions: solved, untouched, wrong, and by students who cheat."""

import html
import json
import re
import shutil
from pathlib import Path

import grader
import grading
import nbformat
import otter_assign
import pytest
import release
from assignment_answers import BANKS, GIVEN, SOURCES, changed
from nbgrader.utils import compute_checksum

ROOT = Path(__file__).parent.parent
INSTRUCTOR = ROOT / "instructor"
RELEASED = ROOT / "notebooks" / "assignments"
SHORT = "\ngrading.ANSWER_SECONDS = 3\n"
FINETUNE = "01_finetune"  # graded in every run of the tests; all are in the full ones
each_assignment = pytest.mark.parametrize("name", SOURCES)


def read(path):
    return nbformat.read(path, as_version=4)


def hand_in(course, student, name, change=lambda notebook: None):
    """Put a solved notebook, changed, into the box of a student; return its folder."""
    folder = course / "submitted" / student / name
    folder.mkdir(parents=True)
    notebook = read(course / "source" / name / f"{name}.ipynb")
    change(notebook)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


SMALLER = {
    "SIZE, CLASSES = 48,": "SIZE, CLASSES = 32,",
    "(cells.train, 12, ": "(cells.train, 6, ",
    "(cells.val, 30)": "(cells.val, 6)",
}


def shorter(notebook):
    """An assignment with fewer and smaller images, where it is `FINETUNE`."""
    for cell in notebook.cells:
        for old, new in SMALLER.items():
            cell.source = cell.source.replace(old, new)
        if "checksum" in cell.metadata.get("nbgrader", {}):
            cell.metadata.nbgrader.checksum = compute_checksum(cell)
    return notebook


def start(course, names=tuple(SOURCES), change=lambda notebook: notebook):
    for name in names:
        folder = course / "source" / name
        folder.mkdir(parents=True)
        nbformat.write(change(read(SOURCES[name])), folder / f"{name}.ipynb")
    shutil.copy(INSTRUCTOR / "grading.py", course)
    config = (INSTRUCTOR / "nbgrader_config.py").read_text(encoding="utf-8")
    (course / "nbgrader_config.py").write_text(config + SHORT, encoding="utf-8")
    return course


def brief(notebook):
    """An assignment without the experiment, which takes most of the time."""
    ids = {cell.id for cell in notebook.cells}
    kept = {*GIVEN, *(name for name in ids if f"check-{name}" in ids)} - {"experiment"}
    notebook.cells = [cell for cell in notebook.cells if cell.id.removeprefix("check-") in kept]
    return notebook


def grade(course):
    made = grader.grade(course, PYTHONPATH=str(ROOT), TLUTILS_CACHE=str(course.parent / "cache"))
    (course / "grades.json").write_text(json.dumps(made), encoding="utf-8")


def points(name):
    """Return {check: points} of the cells that are graded by running them."""
    meta = [cell.metadata.nbgrader for cell in read(SOURCES[name]).cells if "nbgrader" in cell.metadata]
    return {m.grade_id: m.points for m in meta if m.grade and not m.solution}


def feedback(course, student, name):
    return (course / "feedback" / student / name / f"{name}.html").read_text(encoding="utf-8")


def cell(notebook, cell_id):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


CHEATS = {
    "prepare": "assignment_01.check_prepare = print\n\ndef prepare(model, classes): ...",
    "make_optimizer": "import tlutils, pathlib\npathlib.Path(tlutils.__file__).write_text('')",
    "train_epoch": "while True: pass",
    "evaluate": "def evaluate(model, loader): return [torch.empty(2**30) for _ in range(8)]",
    "finetune": "print(In)\ndef finetune(*inputs): print(In)",
    "choose": "def choose(table): return 'wide'",
    "check-choose": "print('Right')",
}


def cheat(notebook):
    """Overwrite a check, change the course, loop, eat memory, read tests, hard-code, delete cells."""
    for cell_id, source in CHEATS.items():
        cell(notebook, cell_id).source = source
    notebook.cells.remove(cell(notebook, "check-experiment"))
    copied = nbformat.from_dict(cell(notebook, "check-prepare"))
    copied.id = "copied"
    notebook.cells.append(copied)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Every assignment as handed out, and `FINETUNE` solved and untouched, graded in one go."""
    course = start(tmp_path_factory.mktemp("course"), change=shorter)
    hand_in(course, "solved", FINETUNE)
    grade(course)
    return course


def grades(course, student, name):
    found = json.loads((course / "grades.json").read_text(encoding="utf-8"))[student][name]
    assert found.pop("errors") == ""
    return found


def check_full_marks(course, student, name):
    found = grades(course, student, name)
    assert {check: found[check] for check in points(name)} == points(name)


def check_discreet(course, name, students):
    """No hidden test is in the pages of students, nor a solution in that of one who wrote none."""
    pages = {student: feedback(course, student, name) for student in ("untouched", *students)}
    for page in pages.values():
        assert not shows_hidden(page, name)
    for lines in solutions(name):
        assert not [line for line in lines if line in pages["untouched"]]


def shows_hidden(text, name):
    hidden = re.findall(r"seed=\d{4}", SOURCES[name].read_text(encoding="utf-8"))
    assert hidden
    return "HIDDEN TESTS" in text or [test for test in hidden if test in text]


def test_a_solved_assignment_gets_full_marks_and_one_that_was_not_touched_nothing(course):
    check_full_marks(course, "solved", FINETUNE)
    assert set(grades(course, "untouched", FINETUNE).values()) == {0}


@each_assignment
def test_the_release_that_is_committed_is_what_nbgrader_makes(course, name):
    made = course / "release" / name / f"{name}.ipynb"
    assert read(made) == shorter(read(RELEASED / f"{name}.ipynb")), "run instructor/release.py"


@each_assignment
def test_neither_solutions_nor_hidden_tests_are_handed_out(name):
    release = (RELEASED / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not shows_hidden(release, name)
    for lines in solutions(name):
        assert not [line for line in lines if line in release]


def test_neither_solutions_nor_hidden_tests_are_returned(course):
    check_discreet(course, FINETUNE, ["solved"])


SOLUTION = re.compile(r"BEGIN SOLUTION.*?\n(.*?)\n *\S+ END SOLUTION", re.DOTALL)


def solutions(name):
    """Return the lines of each solution that say something, and that no other cell says."""
    sources = [cell.source for cell in read(SOURCES[name]).cells]
    given = "".join(SOLUTION.sub("", source) for source in sources)
    texts = [text for source in sources for text in SOLUTION.findall(source)]
    return [
        [ln.strip() for ln in text.splitlines() if len(ln.strip()) > 20 and ln.strip() not in given]
        for text in texts
    ]


@pytest.mark.full
def test_a_cheat_gets_nothing_and_takes_nothing_down(tmp_path):
    course = start(tmp_path, [FINETUNE], change=shorter)
    folder = hand_in(course, "cheat", FINETUNE, cheat)
    (folder / "torch.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "tlutils").mkdir()
    (folder / "tlutils" / "__init__.py").write_text("raise SystemExit", encoding="utf-8")
    grade(course)
    assert set(grades(course, "cheat", FINETUNE).values()) == {0}
    page = feedback(course, "cheat", FINETUNE)
    assert "changes assignment_01.check_prepare, which belongs to a library" in page
    assert "allocate memory" in page
    assert "The best mean leads" in page or "is a tie" in page  # the hint of the answer that was hard-coded
    assert not re.search(r"seed=\d{4}|HIDDEN TESTS", page)
    assert (Path(grading.tlutils.__file__)).read_text(encoding="utf-8")
    assert not list((course / "autograded" / "cheat").rglob("*.py"))


DEATHS = {
    "segfault": "import faulthandler\nfaulthandler._sigsegv()",
    "killed": "import pathlib\npathlib.os.kill(pathlib.os.getpid(), 9)",
    "left": "import pathlib\npathlib.os._exit(0)",
}


@pytest.mark.full
def test_a_kernel_that_dies_costs_what_it_did_not_reach_and_the_next_is_graded(tmp_path):
    course = start(tmp_path, [FINETUNE], change=brief)
    for student, source in DEATHS.items():

        def change(notebook, source=source):
            cell(notebook, "make_optimizer").source = source

        hand_in(course, student, FINETUNE, change)
    hand_in(course, "next", FINETUNE)
    grade(course)
    for student in DEATHS:
        found = grades(course, student, FINETUNE)
        assert found.pop("check-prepare") == points(FINETUNE)["check-prepare"]
        assert set(found.values()) == {0}
        assert "did not run as far as this check" in feedback(course, student, FINETUNE)
    assert 0 not in grades(course, "next", FINETUNE).values()


@pytest.mark.full
@pytest.mark.timeout(4 * 3600)
@each_assignment
def test_every_wrong_answer_loses_its_points_in_nbgrader_and_is_told_why(name, tmp_path):
    """One student has one wrong answer to each exercise; where an answer calls another, that one is right."""
    course = start(tmp_path, [name], change=brief)
    wrong = BANKS[name]["WRONG"]
    sources = {cell.id: cell.source for cell in read(SOURCES[name]).cells}
    calls = {e for e in wrong if any(re.search(rf"\b{other}\(", sources[e]) for other in wrong if other != e)}
    students = {}
    for kind, exercises in (("callers", calls), ("others", wrong.keys() - calls)):
        for k in range(max((len(wrong[e]) for e in exercises), default=0)):
            students[f"{kind}-{k}"] = {e: wrong[e][k] for e in exercises if k < len(wrong[e])}
    for student, made in students.items():

        def change(notebook, made=made):
            for exercise, (old, new, _) in made.items():
                cell(notebook, exercise).source = changed(name, exercise, old, new)

        hand_in(course, student, name, change)
    grade(course)
    for student, made in students.items():
        said = re.findall(r"Not yet\. .*?</pre>", html.unescape(feedback(course, student, name)), re.DOTALL)
        for exercise, (_, _, word) in made.items():
            assert grades(course, student, name)[f"check-{exercise}"] == 0, (student, exercise)
            assert any(word in hint for hint in said), (student, exercise, word)


@pytest.mark.full
@each_assignment
def test_solved_and_with_right_answers_written_differently_it_gets_full_marks_in_nbgrader(name, tmp_path):
    course = start(tmp_path, [name])
    hand_in(course, "solved", name)
    for k in range(2):

        def change(notebook, k=k):
            for exercise, answers in BANKS[name]["RIGHT"].items():
                cell(notebook, exercise).source = answers[k]

        hand_in(course, f"right-{k}", name, change)
    grade(course)
    for student in ("solved", "right-0", "right-1"):
        check_full_marks(course, student, name)
    assert set(grades(course, "untouched", name).values()) == {0}
    check_discreet(course, name, ["solved"])


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import sys", "imports sys"),
        ("from os import path", "imports os"),
        ("checks.expect = print", "changes checks.expect"),
        ("F.cross_entropy = None", "changes F.cross_entropy"),
        ("torch.Tensor.argmax = None", "changes torch.Tensor.argmax"),
        ("checks = Fake()", "gives checks another meaning"),
        ("def F(): ...", "gives F another meaning"),
        ("del torch.allclose", "changes torch.allclose"),
        ("def f():\n    global checks\n    checks = Fake()", "gives checks another meaning"),
        ("for checks in []: ...", "gives checks another meaning"),
        ("setattr(checks, 'expect', print)", "uses setattr"),
        ("exec('x')", "uses exec"),
        ("checks.__dict__", "uses __dict__"),
        ("print(In[-1])", "uses In"),
        ("%run x.py", "uses get_ipython"),
        ("!cat x", "uses get_ipython"),
        ("def f():\n    get_ipython()", "uses get_ipython"),
    ],
)
def test_a_line_that_reaches_around_an_exercise_is_seen(source, why):
    assert why in next(grading.reaches_around(source, {"checks", "F", "torch"}))


def test_honest_answers_are_never_taken_for_cheating():
    for name, bank in BANKS.items():
        taken = grading.imports(read(SOURCES[name]))
        answers = [answer for answers in bank["RIGHT"].values() for answer in answers]
        answers += [changed(name, e, old, new) for e, rows in bank["WRONG"].items() for old, new, _ in rows]
        answers += [cell.source for cell in read(SOURCES[name]).cells if "BEGIN SOLUTION" in cell.source]
        assert [why for answer in answers for why in grading.reaches_around(answer, taken)] == []


def test_another_class_gets_other_photographs_and_other_hidden_numbers():
    for path in SOURCES.values():
        one, other = (release.vary(read(path), variant) for variant in (0, 7))
        assert one == read(path)
        numbers = [re.findall(r"seed=\d{4}|VARIANT = \d+", str(notebook)) for notebook in (one, other)]
        assert not set(numbers[0]) & set(numbers[1])


@each_assignment
def test_otters_format_has_every_question_with_its_points_its_answer_and_its_tests(name):
    notebook = otter_assign.convert(read(SOURCES[name]))
    nbformat.validate(notebook)
    raw = [cell.source for cell in notebook.cells if cell.cell_type == "raw"]
    opened = [text.splitlines()[0].removeprefix("# ") for text in raw[1:]]
    depth = []
    for line in opened:  # each block is closed, innermost first
        verb, kind = line.split(" ", 1)
        if verb == "BEGIN":
            depth.append(kind)
        else:
            assert depth.pop() == kind
    assert depth == []
    questions = dict(re.findall(r"name: (\S+)\npoints: (\d+)", "\n".join(raw)))
    meta = [cell.metadata.nbgrader for cell in read(SOURCES[name]).cells if "nbgrader" in cell.metadata]
    assert questions == {m.grade_id.removeprefix("check-"): str(m.points) for m in meta if m.grade}
    tests = [cell.source for cell in notebook.cells if "BEGIN TEST CONFIG" in cell.source]
    assert sum("hidden: true" in test for test in tests) == len(BANKS[name]["WRONG"])
    for test in tests:
        compile(test, name, "exec")
    assert "###" not in "".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
