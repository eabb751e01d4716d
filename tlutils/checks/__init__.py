"""What a lesson tells its learner: results in stable words, guesses compared, exercises checked.

Each `check_*` passes in a sentence, or names the mistake that it sees.
"""

from .common import compare_guess, within

__all__ = ["compare_guess", "within"]
