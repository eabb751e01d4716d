"""Lesson 09: what it writes out does what it says, on things that are counted by hand."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

LESSON = Path(__file__).parent.parent / "notebooks" / "09_beyond_classification.ipynb"


@pytest.fixture(scope="module")
def lesson():
    """The names that the lesson's cells of imports and functions define."""
    cells = [c.source for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]
    names = {"SIZE": 128, "judges": [(None, (32, 0, 64, 32)), (None, (0, 96, 32, 128))]}
    functions = ("def label_places", "def to_box", "class Backbone", "def cut_square")
    for source in cells:
        if source.startswith("import copy") or any(name in source for name in functions):
            exec(source, names)
    return names


def test_a_place_is_a_thing_where_its_middle_lies_in_the_box(lesson):
    labels = lesson["label_places"]([(32, 0, 64, 32), (40, 70, 60, 128)], 4)
    assert labels[0].nonzero().tolist() == [[0, 1]]  # row 0, column 1
    assert labels[1].nonzero().tolist() == [[2, 1], [3, 1]]  # the middles lie at 16, 48, 80 and 112


def test_a_box_goes_around_what_hangs_together_with_the_highest_place(lesson):
    scores = torch.full((4, 4), -1.0)
    scores[1, 2] = scores[2, 2] = 1.0
    scores[0, 0] = 0.5  # another thing, not as high
    scores[2, 2] = 2.0
    assert lesson["to_box"](scores.numpy()) == [64, 32, 96, 96]
    assert lesson["to_box"](np.array([[-2.0, -3.0], [-1.0, -2.0]])) == [0, 64, 64, 128]


def test_a_hit_is_the_highest_place_and_the_overlap_that_of_boxes(lesson):
    scores = torch.full((2, 4, 4), -1.0)
    scores[0, 0, 1] = scores[1, 0, 0] = 1.0
    hits, overlap = lesson["judge"](scores)
    assert hits.tolist() == [1, 0]
    assert overlap.tolist() == [1, 0]


def test_a_thing_lies_in_its_box_and_nothing_else_has_changed(lesson):
    from PIL import Image

    names = lesson | {"photos": {}, "GROUNDS": ["grey"]}
    names["photos"]["grey"] = Image.new("L", (300, 200), 100)
    names["THINGS"] = {"learn": [Image.new("L", (90, 90), 250)]}
    source = next(c.source for c in nbformat.read(LESSON, as_version=4).cells if "def plant" in c.source)
    exec(source, names)
    for seed in range(5):
        picture, (left, top, right, bottom) = names["plant"]("learn", np.random.default_rng(seed))
        pixels = np.asarray(picture)
        rows, columns = np.nonzero(pixels > 110)
        assert left <= columns.min() <= left + 4
        assert right - 4 <= columns.max() + 1 <= right
        assert top <= rows.min() <= top + 4
        assert bottom - 4 <= rows.max() + 1 <= bottom


def test_the_backbone_stands_still_while_the_detector_trains(lesson):
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    backbone = lesson["Backbone"](body, channels=4).train()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    out = backbone(torch.randn(2, 3, 8, 8))["0"]
    assert out.shape == (2, 128, 6, 6)
    out.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert all(p.grad is None for p in body.parameters())
    assert backbone.adapter.weight.grad.abs().sum() > 0
