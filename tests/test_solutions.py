"""Every exercise of every lesson is solved, and its check knows right answers from wrong ones.

The answers are in the instructor's folder alone.
"""

import re
import runpy
from pathlib import Path

import pytest

from tlutils import fingerprint, lessons

TESTS = Path(__file__).parent
INSTRUCTOR = TESTS.parent / "instructor"
LESSONS = {lesson.number: lesson.path for lesson in lessons.catalog()}
BANKS = {path.stem: path for path in sorted(INSTRUCTOR.glob("banks/lesson_*.py"))}
ANSWERS = {
    f"{name}-{check.__name__}": (check, answers)
    for name, path in BANKS.items()
    for check, answers in runpy.run_path(str(path))["ANSWERS"].items()
}
CHECK = re.compile(r"\blesson_\w+\.check_\w+")


def exercises(path):
    return set(CHECK.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", LESSONS)
def test_each_exercise_of_a_lesson_has_a_solution_that_its_check_calls_right(number, capsys):
    path = INSTRUCTOR / "solutions" / f"lesson_{number}.py"
    checked = CHECK.findall(path.read_text(encoding="utf-8"))
    assert set(checked) == exercises(LESSONS[number])
    runpy.run_path(str(path))
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.startswith("Right")] == []
    assert len(said) == len(checked)


def test_each_exercise_of_a_lesson_has_wrong_answers():
    asked = set().union(*map(exercises, LESSONS.values()))
    assert set().union(*map(exercises, BANKS.values())) == asked


@pytest.mark.parametrize("exercise", ANSWERS)
def test_right_answers_pass_and_each_mistake_is_named(exercise, capsys):
    check, answers = ANSWERS[exercise]
    misjudged = {}
    for number, (answer, word) in enumerate(answers):
        check(*answer) if isinstance(answer, tuple) else check(answer)
        said = capsys.readouterr().out
        if word not in said or said.startswith("Right") != (word == "Right"):
            misjudged[number] = word, said
    assert misjudged == {}


@pytest.mark.parametrize(
    ("exercise", "word"),
    [
        ("lesson_03-check_freeze", "Right"),
        ("lesson_08-check_hold_out", "The same call gives other rows each time"),  # it draws from NumPy's own
        ("lesson_10_epoch-check_epoch", "Right"),
        ("lesson_10_layers-check_freeze_backbone", "running averages move"),
    ],
)
def test_a_check_that_draws_leaves_the_random_generators_alone(exercise, word):
    check, answers = ANSWERS[exercise]
    state = fingerprint.of_generators()
    check(next(answer for answer, said in answers if said == word))
    assert fingerprint.of_generators() == state


def test_no_test_that_learners_get_answers_an_exercise():
    assert {path.name for path in TESTS.glob("*.py") if exercises(path)} == set()
