"""Errors that a learner can act on: what arrived, what was expected, what to try."""

from collections.abc import Iterable
from difflib import get_close_matches


class LearnerError(ValueError):
    """Something that the caller can fix; the text says what arrived, what was expected and what to try."""


def unknown(kind: str, name: object, known: Iterable[str], *, hint: str = "") -> LearnerError:
    """Return (not raise) the error for a name that is not in a list, with the nearest names that are.

    Args:
        kind: the noun: "model", "data set", "stage".
        name: what arrived.
        known: the names that would work.
        hint: one more sentence.

    Example:
        >>> from tlutils.errors import unknown
        >>> print(unknown("stage", "stagw2", ["stem", "stage1", "stage2"]))
        There is no stage called 'stagw2'. Did you mean 'stage2' or 'stage1' or 'stem'?
    """
    names = sorted(set(known))
    near = get_close_matches(str(name), names, n=4, cutoff=0.4)
    text = f"There is no {kind} called {str(name)!r}."
    if near:
        text += f" Did you mean {' or '.join(repr(n) for n in near)}?"
    elif names:
        shown = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
        text += f" Known: {shown}."
    return LearnerError(f"{text} {hint}".strip())
