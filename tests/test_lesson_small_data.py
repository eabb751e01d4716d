"""Lesson 08: what it writes out does what it says, on numbers that are counted by hand."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

LESSON = Path(__file__).parent.parent / "notebooks" / "08_small_data.ipynb"
FUNCTIONS = ("weigh", "smooth", "mixer", "mislabel", "hold_out", "noisy", "Adapter", "zero_head", "one_hot")


@pytest.fixture(scope="module")
def lesson():
    """The functions that the lesson's cells define, for three classes."""
    cells = [c.source for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]
    names = {"SEED": 0, "names": ["a", "b", "c"]}
    for source in cells:
        if source.startswith("import copy"):
            exec(source, names)
        for part in source.split("\n\n\n"):
            if part.startswith(tuple(f"{kind} {name}(" for kind in ("def", "class") for name in FUNCTIONS)):
                exec(part, names)
    return names


def test_weights_make_classes_count_alike_and_images_one_on_average(lesson):
    labels = torch.tensor([0] * 8 + [1] * 2)
    weights = lesson["weigh"](labels)
    assert weights.mean().item() == pytest.approx(1)
    assert weights[labels == 0].sum().item() == pytest.approx(weights[labels == 1].sum().item())


def test_a_smoothed_label_keeps_its_sum_and_its_class(lesson):
    goal = lesson["smooth"](lesson["one_hot"](torch.tensor([2, 0])))
    assert torch.allclose(goal.sum(1), torch.ones(2))
    assert goal[0].tolist() == pytest.approx([0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3])


def test_mixup_blends_images_and_labels_by_the_same_shares(lesson):
    goal = lesson["one_hot"](torch.arange(3))
    x, blended = lesson["mixer"](alpha=1.0)(goal.clone(), goal)
    assert torch.allclose(x, blended)
    assert torch.allclose(blended.sum(1), torch.ones(3))
    assert not torch.allclose(blended, goal)


def test_a_third_of_the_labels_become_wrong_and_the_others_stay(lesson):
    labels = torch.arange(30) % 3
    told, wrong = lesson["mislabel"](labels)
    assert wrong.sum() == 10
    assert torch.equal(told != labels, wrong)


def test_noise_moves_each_feature_as_far_as_the_views_do(lesson):
    x = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))
    found = lesson["noisy"](x)
    far, as_far = ((one[:, 1:] - x[:, :1]).abs().flatten(0, 1).sort(0).values for one in (x, found))
    assert torch.equal(found[:, 0], x[:, 0])
    assert torch.allclose(far, as_far, atol=1e-5)
    assert not torch.allclose(found, x)


def test_held_out_images_take_all_their_rows_along(lesson):
    groups = np.repeat(np.arange(12), 4)
    held = lesson["hold_out"](groups, np.random.default_rng(0))
    assert held.sum() == 12
    assert not set(groups[held]) & set(groups[~held])


def test_an_adapter_starts_as_no_change_and_learns(lesson):
    adapter, x = lesson["Adapter"](8, width=2), torch.randn(2, 8, 3, 3)
    assert torch.equal(adapter(x), x)
    adapter(x).sum().backward()
    assert adapter.up.bias.grad.abs().sum() > 0
