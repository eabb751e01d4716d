"""The exercises of lesson 00: the right answer passes, and each famous wrong one is named."""

import pytest

from tlutils import models, surgery
from tlutils.checks import lesson_00


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (None, "Not answered"),
        (12_810, "Right"),
        (12_800, "bias for each class"),
        (1_290, "pair"),
        (14_080, "what comes out"),
        (12_801, "not one for all"),
        (7, "Draw the matrix"),
    ],
)
def test_the_size_of_a_head(answer, word, capsys):
    lesson_00.check_head_size(answer, features=1280, classes=10)
    assert word in capsys.readouterr().out


@pytest.fixture
def model():
    return models.load("resnet18", pretrained=False, num_classes=2, input_size=64)


def freeze_flags(model):
    model.conv1.requires_grad_(False)


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (lambda model: None, "Nothing is frozen"),
        (freeze_flags, "BatchNorm drifts"),
        (lambda model: surgery.freeze_to(model, "stage2"), "too little"),
        (lambda model: surgery.freeze_to(model, "head"), "too much"),
        (lambda model: surgery.freeze_to(model, "stage3"), "Right"),
    ],
    ids=["nothing", "flags only", "too little", "too much", "right"],
)
def test_freezing_before_a_stage(model, act, word, capsys):
    act(model)
    lesson_00.check_frozen_before(model, "stage3")
    assert word in capsys.readouterr().out


def test_freezing_everything_is_named(model, capsys):
    model.requires_grad_(False)
    lesson_00.check_frozen_before(model, "stage3")
    assert "nothing can learn" in capsys.readouterr().out
