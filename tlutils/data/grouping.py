"""Which images belong together, as whoever loads them says: by a function, or by a regular expression."""

import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from ..errors import LearnerError

KeyOf = Callable[[Path], Hashable]
GroupBy = KeyOf | str
"""What says of a path which images stay together: see `load`."""


def read_key(group_by: GroupBy | None) -> KeyOf | None:
    """Return a function from a path to a key, also for the text of a regular expression; None stays None.

    Images for whose paths the expression finds the same text have one key, and one for whose path it finds
    nothing has a key of its own. Raises LearnerError for a text that is not a regular expression.
    """
    if not isinstance(group_by, str):
        return group_by
    try:
        expression = re.compile(group_by)
    except re.error as error:
        raise LearnerError(f"group_by={group_by!r} is not a regular expression: {error}.") from error

    def key(path: Path) -> str:
        found = expression.search(path.as_posix())
        return found[0] if found else path.as_posix()

    return key


def tie(pictures: Sequence[Hashable], paths: Sequence[Path], key_of: KeyOf | None) -> list[int]:
    """Return a number for each image, equal for images of one picture and for those of one key."""
    first: dict[Hashable, int] = {}
    if key_of is None:
        return [first.setdefault(picture, i) for i, picture in enumerate(pictures)]
    from scipy.cluster.hierarchy import DisjointSet  # half a second that most need not wait

    together = DisjointSet(range(len(paths)))
    for i, (picture, path) in enumerate(zip(pictures, paths, strict=True)):
        together.merge(first.setdefault(("picture", picture), i), i)
        together.merge(first.setdefault(("key", key_of(path)), i), i)
    return [together[i] for i in range(len(paths))]
