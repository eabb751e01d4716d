"""A model is an ordered list of stages: what they hold, cost and see, also when a model is odd."""

import copy
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from tlutils import surgery
from tlutils.errors import LearnerError

SMALL = (3, 64, 64)


class OddNames(nn.Module):
    """A student's network: four blocks under odd names, a loop, and the rest written out in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.anfang = nn.Conv2d(3, 8, 3, padding=1)
        self.mitte = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.ende = nn.Linear(8 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3
        x = F.max_pool2d(F.relu(self.anfang(x)), 2)
        for layer in self.mitte:
            x = F.max_pool2d(F.relu(layer(x)), 2)
        x = F.dropout(torch.flatten(x, 1), 0.5, training=self.training)
        return self.ende(x)


class Chain(nn.Module):
    """Children in a row, behind a check that looks at the pixels."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.scores = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        if torch.isnan(x).any():
            raise ValueError("not a number in the image")
        return self.scores(self.flat(self.pool(self.second(self.first(x)))))


class Fork(Chain):
    """Takes another way for bright images."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.scores(self.flat(self.pool(self.second(x) if x.mean() > 0 else x)))


class Mismatch(Chain):
    """Its head expects more values than the pool gives."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.flat(self.pool(self.second(self.first(x)))))


class DropsStage(Chain):
    """Leaves a layer out at random while training."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if not self.training or torch.rand(()) < 0.5:
            x = self.second(x)
        return self.scores(self.flat(self.pool(x)))


class InPlace(nn.Module):
    """Its second stage begins by writing into what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.shrink = nn.Sequential(nn.Hardswish(inplace=True), nn.Conv2d(4, 4, 3, 2, 1))
        self.three = nn.Conv2d(4, 4, 3, 2, 1)
        self.scores = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.three(self.shrink(self.one(x))).mean((2, 3)))


class WrongOutput(Chain):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"out": self.first(x)}


def captured(model: nn.Module, path: str, images: Tensor) -> Tensor:
    """What leaves a module, by a plain hook."""
    kept: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda m, i, out: kept.append(out.clone()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0]


def test_resnet_is_stem_four_stages_pool_and_head():
    stages = surgery.stages(torchvision.models.resnet18())
    assert stages.names == ["stem", "stage1", "stage2", "stage3", "stage4", "pool", "head"]
    assert [s.modules[0] for s in stages] == [
        "conv1",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "avgpool",
        "fc",
    ]
    assert [s.stride for s in stages] == [4, 4, 8, 16, 32, None, None]
    # 7x7/2 and pool 3/2 see 11; a block adds 2 x 2 x its stride before, and 2 x 2 x its stride after it.
    assert [s.receptive_field for s in stages] == [11, 43, 99, 211, 435, None, None]
    assert [s.output_shape for s in stages[3:]] == [(256, 14, 14), (512, 7, 7), (512,), (1000,)]
    assert stages["stem"].num_params == 3 * 64 * 49 + 2 * 64
    assert stages["head"].num_params == 512 * 1000 + 1000
    assert sum(s.num_params for s in stages) == 11_689_512  # torchvision's own table
    assert sum(s.param_share for s in stages) == pytest.approx(1)
    assert sum(s.macs_share for s in stages) == pytest.approx(1)


def test_multiply_adds_of_resnet50_are_those_of_its_paper():
    # torchvision's table says 4.09 GFLOPS, its word for multiply-adds; the stem is 112 x 112 x 64 x 3 x 49.
    stages = surgery.stages(torchvision.models.resnet50())
    assert sum(s.macs for s in stages) / 1e9 == pytest.approx(4.09, abs=0.005)
    assert stages["stem"].macs == 112 * 112 * 64 * 3 * 49


def test_vgg16_has_five_blocks_and_two_codes():
    stages = surgery.stages(torchvision.models.vgg16())
    assert stages.names == ["stage1", "stage2", "stage3", "stage4", "stage5", "pool", "fc1", "fc2", "head"]
    assert [s.receptive_field for s in stages[:5]] == [6, 16, 44, 100, 212]  # pool5 of VGG-16 sees 212 pixels
    assert stages["fc1"].num_params == 25088 * 4096 + 4096
    assert stages["fc2"].modules[0] == "classifier.2", "dropout goes with the layer that it feeds"
    assert stages["head"].modules == ("classifier.5", "classifier.6")


def test_vgg16_conv5_3_sees_196_pixels():
    features = torchvision.models.vgg16().features
    net = nn.Sequential(features[:30], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    body = [s for s in surgery.stages(net, input_size=(3, 224, 224)) if s.name.startswith("stage")]
    assert body[-1].receptive_field == 196


def test_a_transformer_has_one_stage_a_block_and_no_receptive_field():
    stages = surgery.stages(timm.create_model("vit_tiny_patch16_224"))
    assert stages.names == ["stem", *(f"stage{i}" for i in range(1, 13)), "pool", "head"]
    assert {"cls_token", "pos_embed"} <= set(stages["stem"].parameters), (
        "root tensors belong where first used"
    )
    assert {s.receptive_field for s in stages} == {None}
    assert stages["stage1"].stride == 16
    assert stages["stage1"].output_shape == (197, 192)


def test_channels_last_maps_keep_their_receptive_field():
    stages = surgery.stages(timm.create_model("convnext_atto"))
    # Patches of 4; a 7 x 7 filter a block adds 6 x the stride, a downsampling of 2 adds the stride.
    expected, field, stride = [4], 4, 4
    for depth in (2, 2, 6, 2):
        if len(expected) > 1:
            field, stride = field + stride, stride * 2
        field += depth * 6 * stride
        expected.append(field)
    assert [s.receptive_field for s in stages[:5]] == expected


def test_squeeze_and_excitation_sees_the_whole_image():
    stages = surgery.stages(torchvision.models.efficientnet_b0())
    assert stages["stem"].receptive_field == 3
    assert stages["stage1"].receptive_field is None


def test_every_tensor_belongs_to_one_stage_and_auxiliary_heads_to_the_head():
    model = torchvision.models.googlenet(init_weights=False)
    stages = surgery.stages(model)
    names = [n for n, _ in model.named_parameters()]
    assert sorted(p for s in stages for p in s.parameters) == sorted(names)
    assert sorted(b for s in stages for b in s.buffers) == sorted(n for n, _ in model.named_buffers())
    assert {n for n in names if n.startswith("aux")} <= set(stages["head"].parameters)


def test_what_nothing_uses_belongs_to_the_first_stage():
    model = Chain()
    model.first.spare = nn.Parameter(torch.zeros(3))
    model.forgotten = nn.Linear(2, 2)
    stages = surgery.stages(model, input_size=SMALL)
    assert {"forgotten.weight", "forgotten.bias"} <= set(stages[0].parameters)
    assert sum(s.num_params for s in stages) == sum(p.numel() for p in model.parameters())


def test_stages_do_not_depend_on_how_small_the_image_is():
    model = torchvision.models.mobilenet_v2()
    assert surgery.stages(model, input_size=(3, 32, 32)).names == surgery.stages(model).names


def test_it_prints_as_a_table_with_bars():
    stages = surgery.stages(torchvision.models.resnet18())
    text, page = repr(stages), stages._repr_html_()
    assert "0x" not in text, "no addresses"
    lines = text.splitlines()
    assert lines[0] == "ResNet, 11,689,512 parameters"
    assert lines[6].split()[:2] == ["stage4", "layer4"]
    assert "71.8%" in lines[6]
    assert lines[6].count("█") == round(0.718 * 12) + round(0.227 * 12)
    assert page.count("<tr>") == 8
    assert "512×7×7" in page


def test_the_model_is_not_touched():
    model = torchvision.models.resnet18()
    calls: list[str] = []
    model.layer1.register_forward_hook(lambda *_: calls.append("hook"))
    model.train()
    model.layer2.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    torch.manual_seed(3)
    first = torch.rand(2)
    torch.manual_seed(3)
    surgery.split_at(model, surgery.stages(model)[2])
    assert torch.equal(torch.rand(2), first), "the generator is where it was"
    assert not calls
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "path", "stage"),
    [
        (torchvision.models.resnet18, "layer3", "stage3"),
        (torchvision.models.vgg11, "features.10", "stage3"),
        (lambda: timm.create_model("convnext_atto"), "stages.1", "stage2"),
        (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), "blocks.4", "stage5"),
    ],
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


def test_inception_carries_what_its_auxiliary_head_needs():
    net = torchvision.models.inception_v3(init_weights=False)
    images = torch.randn(2, 3, 299, 299)
    prefix, suffix = surgery.split_at(net, "pool")
    with torch.no_grad():
        kept = prefix.eval()(images)  # a cached prefix, run in evaluation mode
        assert [t.shape[1] for t in kept] == [2048, 768]
        assert torch.equal(suffix.eval()(kept), net.eval()(images))
        out = suffix.train()(kept)
    assert type(out).__name__ == "InceptionOutputs"
    assert out.aux_logits.shape == (2, 1000)


def test_wrappers_are_looked_through():
    net = torchvision.models.resnet18()
    assert surgery.stages(torch.compile(net)).names == surgery.stages(net).names
    assert surgery.stages(nn.DataParallel(net)).names == surgery.stages(net).names


def test_a_wrapped_model_has_the_stages_of_what_it_wraps():
    net = nn.Sequential(nn.Identity(), torchvision.models.resnet18())
    assert surgery.stages(net, input_size=SMALL).names == surgery.stages(torchvision.models.resnet18()).names


def test_a_students_network_needs_no_registration():
    net, images = OddNames().eval(), torch.randn(3, 3, 32, 32)
    stages = surgery.stages(net, input_size=(3, 32, 32))
    assert stages.names == ["stage1", "stage2", "stage3", "stage4", "pool", "head"]
    assert [s.modules for s in stages[:4]] == [("anfang",), ("mitte.0",), ("mitte.1",), ("mitte.2",)]
    for stage in stages:
        prefix, suffix = surgery.split_at(net, stage, input_size=(3, 32, 32))
        assert torch.equal(suffix.eval()(prefix.eval()(images)), net.eval()(images))
        torch.manual_seed(0)
        trained = net.train()(images)
        torch.manual_seed(0)
        assert torch.equal(suffix.train()(prefix.train()(images)), trained)


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


class SharedBias(Chain):
    """Adds a bias that no image changes to its maps, twice; it comes from a layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.ones(1, 8, 64, 64))
        self.bias = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias(self.places)
        return self.scores(self.flat(self.pool(self.second(self.first(x) + bias) + bias)))


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


def test_a_plan_is_made_anew_when_the_model_changes():
    net = torchvision.models.resnet18()
    assert surgery.stages(net)["head"].output_shape == (1000,)
    net.fc = nn.Linear(512, 7)
    assert surgery.stages(net)["head"].output_shape == (7,)
    images = torch.randn(1, *SMALL)
    prefix, suffix = surgery.split_at(net.eval(), "head", input_size=SMALL)
    assert torch.equal(suffix(prefix(images)), net(images))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Fork(), "depends on the values in the image"),
        (Mismatch(), "scores fails on"),
        (WrongOutput(), "no image classifier"),
        (nn.Linear(3, 4), "cannot be followed"),
        ("resnet18", "Expected a model"),
    ],
)
def test_what_cannot_be_seen_as_stages_is_told_so(model, says):
    with pytest.raises(LearnerError, match=says):
        surgery.stages(model, input_size=SMALL)


def test_a_segmentation_model_is_told_so():
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(LearnerError, match="no image classifier"):
        surgery.stages(model, input_size=SMALL)


def test_an_unknown_stage_names_the_nearest():
    net = torchvision.models.resnet18()
    with pytest.raises(LearnerError, match="Did you mean 'stage"):
        surgery.split_at(net, "stage7")
    with pytest.raises(LearnerError, match="lies inside stage3, which begins at layer3"):
        surgery.split_at(net, "layer3.1.conv2")
    with pytest.raises(LearnerError, match="Expected a list of stages"):
        surgery.outputs(net, [])


def test_a_stage_may_be_named_by_the_module_that_begins_it():
    net = torchvision.models.vgg11()
    for path in ("features.3", "stage2"):
        prefix, _ = surgery.split_at(net, path, input_size=SMALL)
        assert set(prefix.state_dict()) == {"features.0.weight", "features.0.bias"}


def test_the_wrong_number_of_tensors_is_told_so():
    _, suffix = surgery.split_at(timm.create_model("crossvit_tiny_240"), "stage2")
    with pytest.raises(LearnerError, match="takes 2 tensors and got 1"):
        suffix(torch.randn(2, 401, 96))
