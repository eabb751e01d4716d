"""What a lesson tells its learner: results in stable words, guesses compared, exercises checked.

What every lesson says is here; the exercises of lesson 03 are in `tlutils.checks.lesson_03`.
Each `check_*` passes in a sentence, or names the mistake that it sees.
"""

from .common import compare_choice, compare_guess, expect

__all__ = ["compare_choice", "compare_guess", "expect"]
