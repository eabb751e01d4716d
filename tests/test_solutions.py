"""Every exercise of every lesson has a worked solution, which the instructor's folder alone has."""

import re
import runpy
from pathlib import Path

import pytest

from tlutils import lessons

SOLUTIONS = Path(__file__).parent.parent / "instructor" / "solutions"
LESSONS = {lesson.number: lesson.path for lesson in lessons.catalog()}
CHECK = re.compile(r"\blesson_\w+\.check_\w+(?=\()")


@pytest.mark.parametrize("number", LESSONS)
def test_each_exercise_of_a_lesson_has_a_solution_that_its_check_calls_right(number, capsys):
    path = SOLUTIONS / f"lesson_{number}.py"
    checked = CHECK.findall(path.read_text(encoding="utf-8"))
    assert set(checked) == set(CHECK.findall(LESSONS[number].read_text(encoding="utf-8")))
    runpy.run_path(str(path))
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.startswith("Right")] == []
    assert len(said) == len(checked)
