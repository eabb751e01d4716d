"""Each lesson has a quiz whose folded answers say something about every choice."""

import re
from pathlib import Path

import nbformat

from tlutils import lessons

QUIZZES = Path(__file__).parent.parent / "notebooks" / "assignments" / "quizzes.ipynb"


def test_each_lesson_has_three_questions_with_a_reason_for_each_choice():
    notebook = nbformat.read(QUIZZES, as_version=4)
    nbformat.validate(notebook)
    asked = {lesson.number: 0 for lesson in lessons.catalog()}
    for cell in notebook.cells:
        if found := re.match(r"\*\*(\w+)\.\d\*\* ", cell.source):
            asked[found[1]] += 1
            question, answers = cell.source.split("<details>")
            choices = re.findall(r"^\* \*\*(\w)\*\*", question, re.MULTILINE)
            assert len(choices) >= 3
            assert re.findall(r"^\* \*\*(\w)\*\*", answers, re.MULTILINE) == choices
            assert answers.count("✓") == 1
    assert set(asked.values()) == {3}
