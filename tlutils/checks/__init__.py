"""What a lesson tells its learner: results in stable words, guesses compared, exercises checked.

Each `check_*` passes in a sentence, or names the mistake that it sees.
"""

from .common import compare_guess, within
from .six_steps import check_frozen_before, check_head_size

__all__ = ["check_frozen_before", "check_head_size", "compare_guess", "within"]
