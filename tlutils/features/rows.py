"""Features as an array whose rows know which of them show one picture."""

from typing import Any

import numpy as np


class Rows(np.memmap):
    """Memory-mapped features: `groups` (rows,) numbers the pictures that they show, None where that is lost.

    Groups stay with rows that are picked by an index and with sums and products, row by row; what is put
    together from several arrays has lost them.
    """

    groups: np.ndarray | None = None

    def __getitem__(self, key: Any) -> Any:
        picked = super().__getitem__(key)
        first = key[0] if isinstance(key, tuple) and key else key
        if isinstance(picked, Rows) and np.ndim(first) < 2 and isinstance(first, slice | list | np.ndarray):
            picked.groups = None if self.groups is None else self.groups[first]
        return picked

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        made = super().__array_wrap__(array, context, return_scalar)
        if isinstance(made, Rows) and made.shape == self.shape:
            made.groups = self.groups
        return made


def with_groups(array: np.ndarray, groups: np.ndarray) -> Rows:
    """Return the same array, aware of the groups (rows,) of its rows."""
    rows = array.view(Rows)
    rows.groups = groups
    return rows
