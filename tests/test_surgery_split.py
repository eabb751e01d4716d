"""The halves of a model are the model; what leaves a stage is what a plain hook sees."""

import copy
import pickle
from collections import OrderedDict

import pytest
import timm
import torch
import torchvision
from odd_networks import SMALL, Chain, DropsStage, InPlace, SharedBias
from torch import Tensor, nn

from tlutils import models, surgery
from tlutils.errors import LearnerError


def captured(model: nn.Module, path: str, images: Tensor) -> Tensor:
    """What leaves a module, by a plain hook."""
    kept: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda m, i, out: kept.append(out.clone()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0]


def vgg() -> nn.Module:
    """VGG's plain list of layers, some in place, and a small head."""
    features = torchvision.models.vgg.make_layers([8, "M", 16, "M", 16, 16, "M"])
    head = {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(16, 10)}
    return nn.Sequential(OrderedDict(features=features, **head))


@pytest.mark.parametrize(
    ("model", "path", "stage"),
    [
        pytest.param(torchvision.models.resnet18, "layer3", "stage3", marks=pytest.mark.full),
        (vgg, "features.10", "stage3"),
        pytest.param(
            lambda: timm.create_model("test_convnext"), "stages.1", "stage2", marks=pytest.mark.full
        ),
        (lambda: timm.create_model("test_vit", img_size=64), "blocks.4", "stage5"),
    ],
    ids=["resnet", "vgg", "convnext", "vit"],
)
def test_outputs_are_what_leaves_the_stage(model, path, stage):
    net, images = model().eval(), torch.randn(2, *SMALL)
    with torch.no_grad():
        found = surgery.outputs(net, [stage, "head"], input_size=SMALL)(images)
        assert list(found) == [stage, "head"]
        assert torch.equal(found[stage], captured(net, path, images))
        assert torch.equal(found["head"], net(images))


def test_pool_gives_what_timm_calls_pre_logits():
    net, images = timm.create_model("resnet10t").eval(), torch.randn(2, *SMALL)
    with torch.no_grad():
        found = surgery.outputs(net, ["pool"], input_size=SMALL)(images)["pool"]
        assert torch.equal(found, net.forward_head(net.forward_features(images), pre_logits=True))


def test_outputs_stop_after_the_deepest_stage():
    net = torchvision.models.resnet18().eval()
    reader = surgery.outputs(net, ["stage2", "stem"], input_size=SMALL)
    assert not any(name.startswith(("layer3", "fc")) for name in reader.state_dict())


def test_halves_keep_the_models_names_and_train_the_model():
    net = torchvision.models.resnet18()
    prefix, suffix = surgery.split_at(net, "stage4", input_size=SMALL)
    own = net.state_dict()
    assert set(prefix.state_dict()) | set(suffix.state_dict()) == set(own)
    assert not set(prefix.state_dict()) & set(suffix.state_dict())
    assert all(p is net.get_parameter(n) for n, p in suffix.named_parameters())
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.1)
    with torch.no_grad():
        kept = prefix.eval()(torch.randn(4, *SMALL))
    suffix.train()(kept).square().sum().backward()
    optimizer.step()
    moved = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, _ in suffix.named_parameters()}


def test_the_prefix_of_the_first_stage_is_the_identity():
    net, images = torchvision.models.resnet18().eval(), torch.randn(1, *SMALL)
    prefix, suffix = surgery.split_at(net, "stem", input_size=SMALL)
    assert prefix(images) is images
    assert torch.equal(suffix(images), net(images))


def test_halves_can_be_copied_and_pickled():
    net, images = torchvision.models.resnet18().eval(), torch.randn(1, *SMALL)
    prefix, suffix = surgery.split_at(net, "stage3", input_size=SMALL)
    for twin in (copy.deepcopy(suffix), pickle.loads(pickle.dumps(suffix))):
        assert torch.equal(twin(prefix(images)), net(images))
        assert all(p is not net.get_parameter(n) for n, p in twin.named_parameters())


def test_a_suffix_never_writes_into_what_it_was_given():
    net, images = InPlace().eval(), torch.randn(2, *SMALL)
    prefix, suffix = surgery.split_at(net, "shrink", input_size=SMALL)
    with torch.no_grad():
        kept = prefix(images)
        before = kept.clone()
        assert torch.equal(suffix(kept), suffix(kept))
    assert torch.equal(kept, before)
    found = surgery.outputs(net, ["stage1", "stage2"], input_size=SMALL)(images)["stage1"]
    assert torch.equal(found, net.one(images)), "not overwritten by the next stage"


def test_googlenet_carries_what_its_auxiliary_heads_need():
    net = torchvision.models.googlenet(init_weights=False)
    images = torch.randn(2, *SMALL)
    prefix, suffix = surgery.split_at(net, "pool", input_size=SMALL)
    with torch.no_grad():
        kept = prefix.eval()(images)  # a cached prefix, run in evaluation mode
        assert [t.shape[1] for t in kept] == [1024, 512, 528]
        assert torch.equal(suffix.eval()(kept), net.eval()(images))
        out = suffix.train()(kept)
    assert type(out).__name__ == "GoogLeNetOutputs"
    assert out.aux_logits1.shape == out.aux_logits2.shape == (2, 1000)


def test_a_chain_of_children_is_cut_though_it_looks_at_its_images():
    net, images = Chain().eval(), torch.randn(2, *SMALL)
    prefix, suffix = surgery.split_at(net, "second", input_size=SMALL)
    assert torch.equal(suffix(prefix(images)), net(images))
    assert set(prefix.state_dict()) == {"first.weight", "first.bias"}


def test_a_model_that_decides_at_random_in_training_is_cut_in_evaluation_only():
    net, images = DropsStage().eval(), torch.randn(2, *SMALL)
    prefix, suffix = surgery.split_at(net, "second", input_size=SMALL)
    assert torch.equal(suffix(prefix(images)), net(images))
    with pytest.raises(LearnerError, match="training mode"):
        suffix.train()(prefix(images))


def test_what_dropout_makes_for_both_halves_is_not_made_twice_in_training():
    net, images = SharedBias().eval(), torch.randn(2, *SMALL)
    prefix, suffix = surgery.split_at(net, "pool", input_size=SMALL)  # behind all use of the bias
    suffix.train()(prefix.train()(images))
    net.eval()
    prefix, suffix = surgery.split_at(net, "second", input_size=SMALL)
    assert torch.equal(suffix(prefix(images)), net(images))
    with pytest.raises(LearnerError, match=r"bias\.1 drops values at random.*freeze_to"):
        suffix.train()(prefix(images))

    surgery.freeze_to(net, "second").train()
    torch.manual_seed(0)
    whole = net(images)
    torch.manual_seed(0)
    assert torch.equal(suffix.train()(prefix.train()(images)), whole)


def test_a_stage_may_be_named_by_the_module_that_begins_it():
    net = vgg()
    for path in ("features.3", "stage2"):
        prefix, _ = surgery.split_at(net, path, input_size=SMALL)
        assert set(prefix.state_dict()) == {"features.0.weight", "features.0.bias"}


def test_reading_after_a_module_never_means_reading_after_more():
    net, images = torchvision.models.resnet18().eval(), torch.randn(2, *SMALL)
    with torch.no_grad():
        for path, stage in (("maxpool", "stem"), ("layer1", "stage1"), ("avgpool", "pool"), ("fc", "head")):
            found = surgery.outputs(net, path, input_size=SMALL)(images)
            assert list(found) == [stage]
            assert torch.equal(found[stage].flatten(), captured(net, path, images).flatten())
    for path, stage in (("layer1.0", "stage1"), ("layer2.1.conv1", "stage2"), ("conv1", "stem")):
        with pytest.raises(LearnerError, match=f"lies within {stage}.*explain.activations"):
            surgery.outputs(net, path, input_size=SMALL)


def test_the_wrong_number_of_tensors_is_told_so():
    _, suffix = surgery.split_at(timm.create_model("crossvit_tiny_240"), "stage2")
    with pytest.raises(LearnerError, match="takes 2 tensors and got 1"):
        suffix(torch.randn(2, 401, 96))


def test_a_stage_goes_before_a_module_of_the_same_name():
    """ShuffleNet's modules are called stage2 to stage4, and what comes behind stage4 is the fourth stage."""

    def block(channels):
        return nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU())

    parts = [("conv", nn.Conv2d(3, 4, 3, 2)), ("stage3", block(4)), ("stage4", block(4))]
    parts += [("avg", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()), ("fc", nn.Linear(4, 2))]
    net = models.describe(nn.Sequential(OrderedDict(parts)).eval(), input_size=(3, 32, 32))
    images = torch.rand(2, 3, 32, 32)
    found = surgery.stages(net)
    assert (found["stage2"].modules[-1], found["stage3"].modules[-1]) == ("stage3", "stage4")
    with torch.no_grad():
        both = surgery.outputs(net, ["stage2", "stage3"])(images)
        assert torch.equal(both["stage2"], net[:2](images))
        assert torch.equal(both["stage3"], net[:3](images))
        assert surgery.split_at(net, "stage3")[0](images).equal(net[:2](images))
