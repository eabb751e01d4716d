"""Errors that a learner can act on: what arrived, what was expected, what to try."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Control characters, line separators, and what Python puts for bytes of a name that are not UTF-8.
# Control characters, what shows nothing, what turns the direction of reading, and bytes that are no text.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a name or path as one line that every terminal, file and page takes; what is no text is escaped.

    Args:
        text: such as the name of a folder, which need not be UTF-8 and may hold a line break.

    Example:
        >>> import os
        >>> from tlutils.errors import printable
        >>> print(printable(os.fsdecode(b"caf\\xe9")), printable("café"))
        caf\\xe9 café
    """

    def escape(found: re.Match[str]) -> str:
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:  # a byte
            code -= 0xDC00
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _UNPRINTABLE.sub(escape, text)


class LearnerError(ValueError):
    """Something that the caller can fix; the text says what arrived, what was expected and what to try.

    Args:
        text: the words; names that are not valid UTF-8 are shown escaped.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__("\n".join(map(printable, text.split("\n"))))


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
