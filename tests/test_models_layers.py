"""Layers are known by what they are, and a model's head and stem by where data flows."""

import pytest
import torch
from timm.layers import DropPath, LayerNorm2d, PatchDropout
from torch import nn
from torchvision.ops import StochasticDepth

from tlutils import models
from tlutils.errors import LearnerError
from tlutils.models import adapt, layers
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


class Backwards(nn.Module):
    """Declares its layers from the last to the first."""

    def __init__(self, classes=10, channels=3):
        super().__init__()
        self.fc = nn.Linear(8, classes)
        self.drop = nn.Dropout(0.2)
        self.late = nn.Conv2d(6, 8, 3, padding=1)
        self.early = nn.Conv2d(channels, 6, 3, padding=1)

    def forward(self, x):
        return self.fc(self.drop(self.late(self.early(x).relu()).relu().mean((2, 3))))


def test_layers_are_found_by_the_flow_of_data_and_not_by_their_declaration():
    net = Backwards()
    modes, flags = [m.training for m in net.modules()], [p.requires_grad_(False) for p in net.parameters()]
    found = layers.find_layers(net)
    assert (found.stems, found.dropouts, found.heads) == (["early"], ["drop"], ["fc"])
    assert found.logits.shape == (2, 10)
    assert [m.training for m in net.modules()] == modes
    assert not any(p.requires_grad for p in flags)
    info = models.info(net)
    assert (info.input_size[0], info.num_classes) == (3, 10)


def test_a_checkpoint_with_another_head_fits_a_net_that_declares_its_head_first():
    source, net = Backwards(10), Backwards(4)
    fresh = net.fc.weight.clone()
    report = models.load_weights(net, source.state_dict())
    assert report.skipped == ["fc.weight", "fc.bias"]
    assert torch.equal(net.fc.weight, fresh)
    assert torch.equal(net.early.weight, source.early.weight)
    assert torch.equal(net.late.weight, source.late.weight)
    with pytest.raises(LearnerError, match=r"'early\.weight' has shape \(6, 3, 3, 3\)"):
        models.load_weights(Backwards(10, channels=1), source.state_dict())


def test_other_channels_reach_the_first_convolution_in_whatever_order_it_was_declared():
    net, x = Backwards(), torch.randn(2, 1, 16, 16)
    net.eval()
    expected = net(x.expand(-1, 3, -1, -1))
    state = net.state_dict()
    grey = Backwards(4, channels=1).eval()
    assert adapt.fit_tensors(grey, state, what="The original") == ["fc.weight", "fc.bias"]
    assert state["early.weight"].shape == (6, 1, 3, 3)
    adapt.set_stem_channels(net, 1)
    assert (net.early.in_channels, net.late.in_channels) == (1, 6)
    assert torch.equal(net.early.weight, state["early.weight"])
    assert torch.allclose(net(x), expected, atol=1e-5)


def test_a_net_without_a_head_loads_what_fits_and_refuses_another_width():
    trunk = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
    )
    state = {name: tensor + 1 for name, tensor in trunk.state_dict().items()}
    assert models.load_weights(trunk, state).skipped == []
    assert torch.equal(trunk[3].weight, state["3.weight"])
    state["3.weight"] = torch.zeros(7, 4, 3, 3)
    with pytest.raises(LearnerError, match="Nothing was copied"):
        models.load_weights(trunk, state)


def test_the_head_of_a_replaced_head_is_its_last_layer_alone(lite0):
    head = lite0.classifier
    lite0.classifier = nn.Sequential(nn.Linear(1280, 16), nn.ReLU(), nn.Linear(16, 5))
    try:
        assert layers.find_layers(lite0).heads == ["classifier.2"]
        assert models.info(lite0).num_classes == 5
    finally:
        lite0.classifier = head
