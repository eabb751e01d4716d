"""How far a network moved, on values that can be checked by hand."""

import copy

import numpy as np
import pytest
import torch
from tiny import tiny_data, tiny_net

from tlutils import surgery, train
from tlutils.errors import LearnerError
from tlutils.train import Recipe


def test_drift_is_the_length_of_the_change_over_the_length_before():
    net = tiny_net()
    before = copy.deepcopy(net)
    with torch.no_grad():
        net.fc.weight.mul_(1.5)
        net.fc.bias.mul_(1.5)
    moved = train.drift(net, before)
    assert list(moved) == [stage.name for stage in surgery.stages(net) if stage.parameters]
    assert moved.pop("head") == pytest.approx(0.5)
    assert set(moved.values()) == {0.0}
    assert train.drift(net, before.state_dict())["head"] == pytest.approx(0.5)


def test_drift_of_a_probe_is_in_its_head_alone():
    net = tiny_net()
    before = copy.deepcopy(net)
    train.fit(net, tiny_data(), Recipe.probe(epochs=1))
    moved = train.drift(net, before)
    assert moved.pop("head") > 0
    assert set(moved.values()) == {0.0}


def test_drift_refuses_another_network():
    with pytest.raises(LearnerError, match=r"fc\.weight"):
        train.drift(tiny_net(3), tiny_net(4))


def test_cka_is_one_for_rotated_and_scaled_codes_and_small_for_unrelated_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert train.cka(x, 3 * x @ turn + 1) == pytest.approx(1)
    assert train.cka(x, rng.normal(size=(500, 4))) < 0.05


def test_cka_by_hand():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    # Of the two directions of equal strength, y keeps one: |yᵀx|² = 4, |xᵀx| = √8, |yᵀy| = 2.
    assert train.cka(x, x[:, :1]) == pytest.approx(4 / (np.sqrt(8) * 2))


@pytest.mark.parametrize(("x", "y"), [((3, 2), (4, 2)), ((3,), (3, 2))])
def test_cka_refuses_codes_that_do_not_fit(x, y):
    with pytest.raises(LearnerError, match="shapes"):
        train.cka(np.ones(x), np.ones(y))
    with pytest.raises(LearnerError, match="same for all"):
        train.cka(np.ones((3, 2)), np.eye(3))
