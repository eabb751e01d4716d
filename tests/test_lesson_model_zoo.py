"""Lesson 07: what it writes out does what it says, on numbers that are counted by hand."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

LESSON = Path(__file__).parent.parent / "notebooks" / "07_model_zoo.ipynb"


@pytest.fixture(scope="module")
def lesson():
    """The names that the lesson's cells of imports and functions define."""
    cells = [c.source for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]
    names = {}
    for source in cells:
        if source.startswith("import copy") or "def read_card" in source or "def shuffle" in source:
            exec(source, names)
    return names


def test_a_card_is_what_torchvision_says_of_the_weights(lesson):
    card = lesson["read_card"]("vgg16")
    assert card["accuracy"] == pytest.approx(71.592)
    assert card["parameters"] == pytest.approx(138.357544)
    assert card["multiply-adds"] == pytest.approx(15.47, abs=0.01)


def test_a_card_belongs_to_weights_and_not_to_a_network(lesson):
    old, new = (lesson["read_card"]("resnet50", f"IMAGENET1K_V{k}") for k in (1, 2))
    assert old["parameters"] == new["parameters"]
    assert new["accuracy"] > old["accuracy"] + 4


def test_shuffling_moves_whole_squares_and_loses_no_pixel(lesson):
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    found = np.asarray(lesson["shuffle"](Image.fromarray(picture), np.random.default_rng(1), 4))
    places = [(i, j) for i in range(0, 128, 32) for j in range(0, 128, 32)]
    order = np.random.default_rng(1).permutation(16)
    for (i, j), old in zip(places, order, strict=True):
        a, b = places[old]
        assert np.array_equal(found[i : i + 32, j : j + 32], picture[a : a + 32, b : b + 32])


def test_a_square_that_is_cut_lies_in_the_photograph(lesson):
    ramp = np.tile(np.arange(200, dtype=np.uint8), (150, 1))  # the column of each pixel
    for seed in range(5):
        square = lesson["cut_square"](Image.fromarray(ramp), np.random.default_rng(seed))
        columns = np.asarray(square, dtype=int)
        assert square.size == (128, 128)
        assert 0.7 * 150 - 3 <= columns.max() - columns.min() + 1 <= 151
