"""A model is an ordered list of stages: what they hold, cost and see, also when a model is odd."""

import copy
import random
import threading

import pytest
import timm
import torch
import torchvision
from odd_networks import SMALL, Chain, Fork, Mismatch, OddNames, Wide, Windows, WrongOutput
from torch import nn

from tlutils import models, surgery
from tlutils.errors import LearnerError


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


class Named(nn.Linear):
    """A linear layer that gives its weight by name."""

    def forward(self, x):
        return nn.functional.linear(x, weight=self.weight, bias=self.bias)


class Recurrent(nn.Module):
    """Reads its patches in a row."""

    def __init__(self):
        super().__init__()
        self.patches, self.row = nn.Conv2d(3, 8, 4, 4), nn.LSTM(8, 6, batch_first=True)
        self.norm, self.mix, self.fc = nn.LayerNorm(6), Named(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        x, _ = self.row(self.patches(x).flatten(2).transpose(1, 2))
        return self.fc(self.mix(nn.functional.relu6(self.norm(x))).mean(1))


def test_multiply_adds_are_those_of_the_layers_weights_at_each_place():
    stages = surgery.stages(Recurrent(), input_size=(3, 32, 32))
    assert {s.modules[0]: s.macs for s in stages if s.modules} == {
        "patches": 64 * 8 * 3 * 16,
        "row": 64 * (4 * 6 * 8 + 4 * 6 * 6),
        "mix": 64 * 6 * 5,
        "fc": 5 * 2,
    }


class Look(nn.Module):
    """Each of 16 patches looks at all, by so many of its 8 numbers."""

    def __init__(self, numbers, mask):
        super().__init__()
        self.numbers, self.mask = numbers, mask

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(x, x[..., : self.numbers], x, self.mask).mean(1)


def looking(numbers=8, mask=None):
    return nn.Sequential(nn.Conv2d(3, 8, 8, 8), Look(numbers, mask), nn.Linear(8, 2))


@pytest.mark.parametrize("mask", [None, torch.zeros(16, 16)])
def test_attention_costs_two_products_of_all_patches(mask):
    stages = surgery.stages(looking(mask=mask), input_size=(3, 32, 32))
    assert sum(s.macs for s in stages) == 16 * 8 * 3 * 64 + 2 * 16 * 16 * 8 + 8 * 2


class Either(nn.Module):
    """One of two convolutions reads the image, by what it shows."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.small(x), lambda x: self.large(x), (x,))


def test_of_two_branches_the_dearer_one_counts():
    model = nn.Sequential(Either(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    stages = surgery.stages(model, input_size=(3, 32, 32))
    assert sum(s.macs for s in stages) == 32 * 32 * 8 * 3 * 9 + 8 * 2


def test_attention_that_does_not_fit_says_what_is_wrong():
    with pytest.raises(LearnerError, match="fails on"):
        surgery.stages(looking(numbers=4), input_size=(3, 32, 32))


def test_vgg16_has_five_blocks_and_two_codes():
    with torch.device("meta"):  # without its 138 million numbers
        model = torchvision.models.vgg16()
    stages = surgery.stages(model)
    assert stages.names == ["stage1", "stage2", "stage3", "stage4", "stage5", "pool", "fc1", "fc2", "head"]
    assert [s.receptive_field for s in stages[:5]] == [6, 16, 44, 100, 212]  # pool5 of VGG-16 sees 212 pixels
    assert stages["fc1"].num_params == 25088 * 4096 + 4096
    assert stages["fc2"].modules[0] == "classifier.2", "dropout goes with the layer that it feeds"
    assert stages["head"].modules == ("classifier.5", "classifier.6")


def test_vgg16_conv5_3_sees_196_pixels():
    with torch.device("meta"):
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


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NLC"])
def test_height_and_width_are_where_the_layers_have_them(layout):
    stages = surgery.stages(Wide(layout), input_size=Wide.size)
    body = [stage for stage in stages if stage.modules[:1] in [("one",), ("two",), ("three",)]]
    assert len(body) == 3
    assert {stage.layout for stage in body} == {layout}
    assert {stage.stride for stage in body} == {8}
    assert {stage.map_size for stage in body} == {None if layout == "NLC" else (8, 16)}
    assert {stage.num_channels for stage in body} == {32}
    assert (stages["head"].layout, stages["head"].map_size) == ("NC", None)


def test_where_no_layer_tells_the_proportions_of_the_image_do():
    model = Wide("NHWC")
    model.one = model.two = model.three = Windows("NHWC")
    for height, width in ((96, 128), (128, 96)):
        stages = surgery.stages(model, input_size=(3, height, width))
        assert {s.map_size for s in stages if s.modules[:1] == ("one",)} == {(height // 8, width // 8)}


@pytest.mark.parametrize(
    "build",
    [
        lambda size: timm.models.SwinTransformer(
            size, embed_dim=16, depths=(1, 1), num_heads=(2, 2), window_size=4, num_classes=3
        ),
        pytest.param(
            lambda size: torchvision.models.SwinTransformer(
                [4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=3
            ),
            marks=pytest.mark.full,
        ),
        pytest.param(lambda size: timm.create_model("test_vit", img_size=size), marks=pytest.mark.full),
        lambda size: timm.create_model("test_convnext"),
    ],
    ids=["timm swin", "torchvision swin", "tokens", "maps"],
)
def test_wide_images_have_the_stages_and_strides_of_square_ones(build):
    square, wide = (surgery.stages(build(s), input_size=(3, *s)) for s in ((64, 64), (64, 128)))
    assert [(s.name, s.layout, s.stride, s.num_channels) for s in wide] == [
        (s.name, s.layout, s.stride, s.num_channels) for s in square
    ]
    assert [s.map_size for s in wide] == [s.map_size and (s.map_size[0], 2 * s.map_size[1]) for s in square]


def test_several_tensors_have_a_layout_each_as_a_cut_hands_them_over():
    model = timm.models.tnt.TNT(
        32, 16, embed_dim=16, inner_dim=4, depth=2, num_heads_inner=2, num_heads_outer=2
    )
    stage = surgery.stages(model, input_size=(3, 32, 32))["stage1"]
    outputs = surgery.outputs(model.eval(), at="stage1", input_size=(3, 32, 32))(torch.randn(2, 3, 32, 32))
    assert [tuple(t.shape[1:]) for t in outputs["stage1"]] == list(stage.output_shape)
    assert stage.layout == ("NLLC", "NLC")
    assert (stage.map_size, stage.num_channels) == (None, None)
    assert stage.stride == 4


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NLC"])
def test_modules_inside_a_stage_have_a_layout_too(layout):
    found = surgery.module_layouts(Wide(layout), torch.zeros(1, *Wide.size))
    assert found["patches"] == "NCHW"
    assert found["one"] == layout
    assert found["one.mix"] == layout.replace("NCHW", "NHWC"), "a Linear has channels last"
    assert found[""] == "NC"


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


def test_wrappers_are_looked_through():
    net = torchvision.models.resnet18()
    assert surgery.stages(torch.compile(net, backend="eager")).names == surgery.stages(net).names
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


def test_a_plan_is_made_anew_when_the_model_changes():
    net = torchvision.models.resnet18()
    assert surgery.stages(net)["head"].output_shape == (1000,)
    net.fc = nn.Linear(512, 7)
    assert surgery.stages(net)["head"].output_shape == (7,)
    images = torch.randn(1, *SMALL)
    prefix, suffix = surgery.split_at(net.eval(), "head", input_size=SMALL)
    assert torch.equal(suffix(prefix(images)), net(images))


def test_models_that_differ_in_their_weights_only_share_a_plan():
    one, other = (models.load("tf_efficientnet_lite0", pretrained) for pretrained in (True, False))
    assert surgery.stages(one) is surgery.stages(other)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Fork(), "depends on the values in the image"),
        (Mismatch(), "scores fails on"),
        (WrongOutput(), "not an image classifier"),
        (nn.Linear(3, 4), "cannot be followed"),
        ("resnet18", "Expected a model"),
    ],
)
def test_what_cannot_be_seen_as_stages_is_told_so(model, says):
    with pytest.raises(LearnerError, match=says):
        surgery.stages(model, input_size=SMALL)


def test_a_segmentation_model_is_told_so():
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(LearnerError, match="not an image classifier"):
        surgery.stages(model, input_size=SMALL)


def test_an_unknown_stage_names_the_nearest():
    net = torchvision.models.resnet18()
    with pytest.raises(LearnerError, match="Did you mean 'stage"):
        surgery.split_at(net, "stage7")
    with pytest.raises(LearnerError, match="lies inside stage3, which begins at layer3"):
        surgery.split_at(net, "layer3.1.conv2")
    with pytest.raises(LearnerError, match="Expected a stage or a list"):
        surgery.outputs(net, [])


class Rerouted(nn.Module):
    """Takes another way when its attribute `order`, which is no layer and no number, is changed."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 3, 3, 2), nn.Conv2d(3, 3, 5), nn.Linear(3, 2)
        self.order = {"first": True}

    def forward(self, x):
        layers = (self.first, self.second) if self.order["first"] else (self.second, self.first)
        for layer in layers:
            x = layer(x).relu()
        return self.fc(x.mean((2, 3)))


def test_a_model_is_looked_at_anew_unless_nothing_changes():
    model, size = Rerouted(), (3, 32, 32)
    before = [stage.modules for stage in surgery.stages(model, input_size=size)]
    with surgery.assume_unchanged():
        assert [stage.modules for stage in surgery.stages(model, input_size=size)] == before
        model.order["first"] = False
        assert [stage.modules for stage in surgery.stages(model, input_size=size)] == before
    assert [stage.modules for stage in surgery.stages(model, input_size=size)] != before


OTHERS = []


class Interrupted(nn.Module):
    """While it runs, another thread may draw a random number: the last of OTHERS."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 3, 3, 2), nn.Conv2d(3, 3, 5), nn.Linear(3, 2)

    def forward(self, x):
        if OTHERS and (other := OTHERS.pop()):
            other.start()
            other.join()
        return self.fc(self.second(self.first(x).relu()).relu().mean((2, 3)))


def test_what_another_thread_draws_meanwhile_is_nothing_that_the_model_draws(monkeypatch):
    monkeypatch.setitem(globals(), "OTHERS", [threading.Thread(target=random.random)])
    model = models.describe(Interrupted(), input_size=(3, 32, 32))
    assert surgery.stages(model).names[-1] == "head"
    assert not OTHERS
    for passes_before in range(6):
        OTHERS[:] = [threading.Thread(target=random.random)] + passes_before * [None]
        with surgery.assume_unchanged():
            audit = surgery.audit(model)
        assert not OTHERS
        assert "random-in-eval" not in {finding.code for finding in audit}
