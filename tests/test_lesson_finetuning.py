"""Lesson 04: what it writes out is what the library does, and its picture draws what it was given."""

from pathlib import Path

import nbformat
import numpy as np
import pytest

from tlutils import metrics

LESSON = Path(__file__).parent.parent / "notebooks" / "04_full_finetuning.ipynb"


def test_the_cka_of_the_lesson_is_that_of_the_library():
    (source,) = (c.source for c in nbformat.read(LESSON, as_version=4).cells if "def cka(" in c.source)
    scope = {"np": np}
    exec(source, scope)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)) + 2
    y = x[:, :4] + rng.normal(size=(50, 4))
    assert scope["cka"](x, y) == pytest.approx(metrics.cka(x, y))
