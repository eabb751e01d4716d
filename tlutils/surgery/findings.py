"""One thing that an audit found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One finding: a stable `code`, how bad it is, where, what it does to the result, and how to mend it.

    `severity` is "error" (the result will be wrong), "warning" (probably not what you want) or "note".
    """

    code: str
    severity: str
    module: str
    message: str
    fix: str


def listed(names: Sequence[str], *, most: int = 2) -> str:
    """Return names as text, the first few and how many more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
