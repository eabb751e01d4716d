"""What each lesson says about a number: a stable line for a result, and a kind one for a guess."""

from ..errors import LearnerError


def within(name: str, value: float, low: float, high: float, *, digits: int = 1) -> None:
    """Print `value` rounded to `digits`, with the band that the lesson's default run stays in.

    The rounded value is the same on another processor, where the last digits differ, so a committed lesson
    can be compared with a fresh run. Outside the band the line says so: with your own images that is news,
    with the default ones it is a fault.
    """
    if low > high:
        raise LearnerError(f"The band of {name!r} is {low} to {high}: write the lower end first.")
    band = f"{low:g} to {high:g}"
    if low <= value <= high:
        print(f"{name}: about {value:.{digits}f} (the default run lies in {band})")
    else:
        print(f"{name}: {value:.{digits + 2}f}, OUTSIDE what the default run gives ({band})")


def compare_guess(guess: float | None, value: float, *, close: float = 0.05) -> None:
    """Print how a guess written before a run compares with what was measured; `close` is near enough."""
    if guess is None:
        print("No guess written yet. Write one above and run again: predicting first is how this sticks.")
    elif abs(guess - value) <= close:
        print("Your guess is within reach of the measurement. What made you sure?")
    else:
        print(f"Your guess is too {'high' if guess > value else 'low'}. Read on: the explanation says why.")


def compare_choice(guess: object, answer: object) -> None:
    """Print how a guess of a word, a name or True/False compares with what was found.

    `answer` is the right one, or a set of those that are right.
    """
    right = sorted(map(str, answer)) if isinstance(answer, set | frozenset) else [str(answer)]
    if guess is None:
        print("No guess written yet. Write one above and run again: predicting first is how this sticks.")
    elif str(guess) in right:
        print(f"You said {guess}, and so it is.")
    else:
        print(f"You said {guess}; it is {' or '.join(right)}. Read on: the explanation says why.")
