"""Families of tests that hold one promise for many cases: some run every time, all of them with `-m full`."""

from collections.abc import Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], *kept: Any) -> list[Any]:
    """The cases of a family, for `parametrize`: `kept`, which differ in kind, run every time."""
    values = list(values)
    assert [value for value in values if value in kept] != [], "none would be left"
    assert not [value for value in kept if value not in values], "no such case"
    return [value if value in kept else pytest.param(value, marks=pytest.mark.full) for value in values]
