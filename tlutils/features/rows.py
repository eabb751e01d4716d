"""Features as an array whose rows know which of them show one picture."""

from typing import Any

import numpy as np


class Rows(np.memmap):
    """Memory-mapped features: `groups` (rows,) numbers the pictures that they show, None where that is lost.

    Groups stay with rows that are picked, by an index or a method, with copies, also pickled ones and those
    of another number type, and with sums and products, row by row; what is reshaped, or put together from
    several arrays, has lost them.
    """

    groups: np.ndarray | None = None

    def __getitem__(self, key: Any) -> Any:
        picked = super().__getitem__(key)
        first = key[0] if isinstance(key, tuple) and key else key
        first = slice(None) if first is ... and np.ndim(picked) == self.ndim else first
        if isinstance(picked, Rows) and np.ndim(first) < 2 and isinstance(first, slice | list | np.ndarray):
            picked.groups = None if self.groups is None else self.groups[first]
        return picked

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        made = super().__array_wrap__(array, context, return_scalar)
        if isinstance(made, Rows) and made.shape == self.shape:
            made.groups = self.groups
        return made

    def take(self, indices: Any, axis: Any = None, *args: Any, **options: Any) -> Any:
        """Return the rows with these numbers, with axis=0."""
        return self._pick("take", indices, axis, *args, **options)

    def compress(self, condition: Any, axis: Any = None, *args: Any, **options: Any) -> Any:
        """Return the rows for which a condition holds, with axis=0."""
        return self._pick("compress", condition, axis, *args, **options)

    def repeat(self, repeats: Any, axis: Any = None) -> Any:
        """Return each row several times, with axis=0."""
        return self._pick("repeat", repeats, axis)

    def copy(self, *args: Any, **options: Any) -> Any:
        """Return a copy."""
        return with_groups(super().copy(*args, **options), self.groups)

    def astype(self, *args: Any, **options: Any) -> Any:
        """Return the rows in another number type."""
        return with_groups(super().astype(*args, **options), self.groups)

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    __copy__ = copy

    def __reduce__(self) -> Any:
        return with_groups, (np.array(self), self.groups)

    def _pick(self, method: str, which: Any, axis: Any, *args: Any, **options: Any) -> Any:
        made = getattr(super(), method)(which, axis, *args, **options)
        if isinstance(made, Rows) and self.groups is not None and axis in (0, -self.ndim):
            made.groups = getattr(self.groups, method)(which, 0)
        return made


def with_groups(array: np.ndarray, groups: np.ndarray | None) -> Rows:
    """Return the same array, aware of the groups (rows,) of its rows."""
    rows = array.view(Rows)
    rows.groups = groups
    return rows
