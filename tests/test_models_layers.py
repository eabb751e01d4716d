"""Layers are known by what they are, and a model's head and stem by where data flows."""

from dataclasses import replace

import pytest
import torch
from timm.layers import BatchNormAct2d, DropPath, FrozenBatchNormAct2d, LayerNorm2d, PatchDropout
from tiny import tiny_data
from torch import nn
from torchvision.ops import StochasticDepth

from tlutils import models, surgery, train, transferability
from tlutils.errors import LearnerError
from tlutils.models import adapt, layers
from tlutils.models.layers import drop_rate, is_batchnorm, is_dropout, is_norm
from tlutils.train import Recipe

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


class MyBatchNorm(nn.Module):
    """As people write it from a textbook: not a subclass of PyTorch's."""

    def __init__(self, channels, affine=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        kept = self.running_mean, self.running_var
        return nn.functional.batch_norm(x, *kept, self.weight, self.bias, self.training)


class RunningNorm(MyBatchNorm):
    pass


BATCHNORMS = [
    MyBatchNorm(4),
    MyBatchNorm(4, affine=False),
    RunningNorm(4),
    nn.BatchNorm1d(4),
    BatchNormAct2d(4),
]
OTHERS = [nn.InstanceNorm2d(4, track_running_stats=True), FrozenBatchNormAct2d(4), nn.LayerNorm(4)]
OTHERS += [nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), nn.LocalResponseNorm(2)]


@pytest.mark.parametrize("layer", [*BATCHNORMS, *OTHERS], ids=lambda layer: type(layer).__name__)
def test_batchnorm_is_known_whoever_wrote_it(layer):
    """What the head, freezing and training ask; a block that holds one is none."""
    assert is_batchnorm(layer) == (layer in BATCHNORMS)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), layer)
    surgery.freeze_batchnorm(model).train()
    assert layer.training == (layer not in BATCHNORMS)


def test_a_batchnorm_of_ones_own_is_frozen_trained_and_measured_as_pytorchs():
    """Its statistics hold still where they are told to; a pass has two images; the distance is alike."""

    def build(norm):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    dataset = tiny_data()
    far = [transferability.domain_distance(build(kind(8)), dataset.val) for kind in KINDS]
    assert far[0].value == pytest.approx(far[1].value, rel=1e-4)
    recipe = Recipe.finetune(epochs=1, batch_size=2, micro_batches=2, keep="last")
    nets = [build(kind(8)) for kind in KINDS]
    notices = [train.fit(net, dataset, recipe).notices for net in nets]
    assert notices[0] == notices[1]
    assert torch.allclose(nets[0][1].running_mean, nets[1][1].running_mean, atol=1e-6)
    assert not torch.equal(nets[0][1].running_mean, torch.zeros(8))
    before = nets[0][1].running_mean.clone()
    train.fit(nets[0], dataset, replace(recipe, freeze_batchnorm=True))
    assert torch.equal(nets[0][1].running_mean, before)


KINDS = MyBatchNorm, nn.BatchNorm2d


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
