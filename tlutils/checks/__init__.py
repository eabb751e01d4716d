"""What a lesson tells its learner: results in stable words, guesses compared, exercises checked.

What every lesson says is here; the exercises of each lesson and assignment are in a module of its name, those
of lesson NN in `tlutils.checks.lesson_NN`. Each `check_*` prints that the answer is right, or names the
mistake; those of an assignment raise the mistake as an error, since graders look for errors.
"""

from . import (
    assignment_01,
    assignment_02,
    assignment_03,
    assignment_04,
    assignment_05,
    lesson_00,
    lesson_01,
    lesson_01b,
    lesson_01c,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_10,
    lesson_11,
)
from .common import Mistake, compare_choice, compare_guess, show_value

__all__ = [
    "Mistake",
    "assignment_01",
    "assignment_02",
    "assignment_03",
    "assignment_04",
    "assignment_05",
    "compare_choice",
    "compare_guess",
    "lesson_00",
    "lesson_01",
    "lesson_01b",
    "lesson_01c",
    "lesson_02",
    "lesson_03",
    "lesson_04",
    "lesson_05",
    "lesson_06",
    "lesson_07",
    "lesson_08",
    "lesson_09",
    "lesson_10",
    "lesson_11",
    "show_value",
]
