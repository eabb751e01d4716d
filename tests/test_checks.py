"""A result is said in words that stay the same on another processor; a guess is answered kindly."""

import pytest

from tlutils import checks
from tlutils.intervals import Estimate


@pytest.mark.parametrize(
    ("guess", "words"),
    [
        (None, "No guess"),
        (0.72, "You said 0.72; measured: 0.7. 0.02 off: within reach"),
        (0.9, "You said 0.9; measured: 0.7. Too high by 0.2"),
        (0.5, "You said 0.5; measured: 0.7. Too low by 0.2"),
    ],
)
def test_a_guess_meets_what_was_measured_and_how_far_off_it_was(guess, words, capsys):
    checks.compare_guess(guess, 0.7)
    assert words in capsys.readouterr().out


def test_a_guess_within_the_interval_is_within_reach(capsys):
    checks.compare_guess(0.8, Estimate(0.7, 0.58, 0.82))
    assert "measured: 0.700 [0.580, 0.820]. 0.1 off: within reach" in capsys.readouterr().out
    checks.compare_guess(0.83, Estimate(0.7, 0.58, 0.82))
    assert "Too high by 0.13" in capsys.readouterr().out


def test_without_a_guess_no_answer_is_given_away(capsys):
    checks.compare_guess(None, Estimate(0.7, 0.58, 0.82))
    assert "0.7" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("guess", "answer", "says"),
    [
        (None, True, "No guess"),
        (True, True, "so it is"),
        (False, True, "it is True"),
        ("stage4", {"stage4"}, "so it is"),
        ("stage4", {"stage3", "stage4"}, "or stage3: these images do not tell them apart"),
        ("stem", {"stage4", "stage3"}, "it is stage3 or stage4"),
    ],
)
def test_a_guess_of_a_word_is_compared_kindly(guess, answer, says, capsys):
    checks.compare_choice(guess, answer)
    assert says in capsys.readouterr().out
