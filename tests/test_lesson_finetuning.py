"""Lesson 04: what it writes out is what the library does, and its picture draws what it was given."""

from pathlib import Path

import nbformat
import numpy as np
import pytest

from tlutils import plots, train

LESSON = Path(__file__).parent.parent / "notebooks" / "04_full_finetuning.ipynb"


def test_the_cka_of_the_lesson_is_that_of_the_library():
    (source,) = (c.source for c in nbformat.read(LESSON, as_version=4).cells if "def cka(" in c.source)
    scope = {"np": np}
    exec(source, scope)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)) + 2
    y = x[:, :4] + rng.normal(size=(50, 4))
    assert scope["cka"](x, y) == pytest.approx(train.cka(x, y))


def test_stage_panels_draw_a_line_a_strategy_in_its_colour_and_name_it():
    values = {"finetune": [0.1, 0.2], "partial": [0.01, 0.3]}
    picture = plots.stage_panels(
        {"change": values, "likeness": values},
        stages=["stem", "stage1"],
        names={"finetune": "one rate", "partial": "gradual"},
        log="change",
        title="t",
        alt="a",
    )
    left, right = picture.axes
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert [line.get_color() for line in left.lines] == [plots.COLOURS[name] for name in values]
    assert [list(line.get_ydata()) for line in right.lines] == list(values.values())
    assert [text.get_text() for text in left.texts] == ["one rate", "gradual"]
