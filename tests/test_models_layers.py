"""Every library's dropout is seen as one, with its rate; every norm as a norm."""

import pytest
from timm.layers import DropPath, LayerNorm2d, PatchDropout
from torch import nn
from torchvision.ops import StochasticDepth

from tlutils.models.layers import drop_rate, is_dropout, is_norm

DROPOUTS = [nn.Dropout(0.3), nn.Dropout2d(0.3), DropPath(0.3), PatchDropout(0.3), StochasticDepth(0.3, "row")]


@pytest.mark.parametrize("layer", DROPOUTS, ids=lambda layer: type(layer).__name__)
def test_a_dropout_layer_is_known_with_the_share_that_it_drops(layer):
    assert is_dropout(layer)
    assert drop_rate(layer) == 0.3
    assert not is_norm(layer)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), LayerNorm2d(4)])
def test_a_norm_layer_is_known(layer):
    assert is_norm(layer)
    assert not is_dropout(layer)


def test_a_layer_that_mixes_channels_is_neither():
    for layer in (nn.Conv2d(4, 4, 1), nn.Linear(4, 4), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))):
        assert not is_norm(layer)
        assert not is_dropout(layer)
