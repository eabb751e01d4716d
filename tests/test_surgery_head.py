"""A new head goes where the architecture keeps it, and nothing else moves; the same for a stem."""

import copy

import pytest
import timm
import torch
import torchvision
from surgery_zoo import Entry, smallest_of_each_family
from torch import nn

from tlutils import models, surgery
from tlutils.errors import LearnerError

# Where each library keeps the layers that make the scores, read in its sources.
TORCHVISION = {
    "resnet18": ["fc"],
    "alexnet": ["classifier.6"],
    "vgg11": ["classifier.6"],
    "densenet121": ["classifier"],
    "mobilenet_v2": ["classifier.1"],
    "mobilenet_v3_small": ["classifier.3"],
    "efficientnet_b0": ["classifier.1"],
    "squeezenet1_1": ["classifier.1"],
    "shufflenet_v2_x0_5": ["fc"],
    "mnasnet0_5": ["classifier.1"],
    "regnet_y_400mf": ["fc"],
    "convnext_tiny": ["classifier.2"],
    "swin_t": ["head"],
    "vit_b_32": ["heads.head"],
    "googlenet": ["fc", "aux1.fc2", "aux2.fc2"],
    "inception_v3": ["fc", "AuxLogits.fc"],
}
TIMM = {
    "test_convnext": ["head.fc"],
    "test_vit": ["head"],
    "convnext_atto": ["head.fc"],
    "vit_tiny_patch16_224": ["head"],
    "deit_tiny_distilled_patch16_224": ["head", "head_dist"],
    "levit_128s": ["head.linear", "head_dist.linear"],
    "crossvit_tiny_240": ["head.0", "head.1"],
    "volo_d1_224": ["head", "aux_head"],
    "efficientvim_m1": ["heads.0", "heads.1", "heads.2", "heads.3"],
    "swin_tiny_patch4_window7_224": ["head.fc"],
    "mobilenetv3_small_050": ["classifier"],
    "tf_efficientnet_lite0": ["classifier"],
    "resnetv2_50": ["head.fc"],  # a 1x1 convolution
    "ghostnet_050": ["classifier"],
    "mixer_s32_224": ["head"],
    "xcit_nano_12_p16_224": ["head"],
    "rexnet_100": ["head.fc"],
    "hrnet_w18_small": ["classifier"],
    "dpn48b": ["classifier"],
    "tresnet_m": ["head.fc"],
}
# For every run of the tests: a layer, one in a chain, a convolution, auxiliary heads, two heads.
FEW = ["resnet18", "mobilenet_v2", "squeezenet1_1", "googlenet"]
FEW += ["test_convnext", "test_vit", "deit_tiny_distilled_patch16_224", "crossvit_tiny_240"]


def names(heads: dict[str, list[str]]) -> list:
    return [n if n in FEW else pytest.param(n, marks=pytest.mark.full) for n in heads]


def make(name: str, library: str, **options) -> nn.Module:
    if library == "timm":
        return timm.create_model(name, **options)
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return torchvision.models.get_model(name, weights=None, **options)


class Odd(nn.Module):
    """A student's own network: odd names, the head in the middle of the class."""

    def __init__(self) -> None:
        super().__init__()
        self.zap = nn.Linear(16, 10)
        self.alpha = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.beta = nn.Sequential(nn.Conv2d(8, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.hush = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.zap(self.hush(self.beta(self.alpha(x)).mean((2, 3))))


def changed(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    """The modules whose tensors are not bit for bit what they were."""
    now = model.state_dict()
    assert now.keys() == before.keys()
    return {k.rpartition(".")[0] for k in now if not torch.equal(now[k], before[k])}


@pytest.mark.parametrize("name", names(TORCHVISION))
def test_torchvision_heads_and_only_heads_are_replaced(name):
    check_replaced(make(name, "torchvision"), TORCHVISION[name])


@pytest.mark.parametrize("name", names(TIMM))
def test_timm_heads_and_only_heads_are_replaced(name):
    check_replaced(make(name, "timm"), TIMM[name])


def check_replaced(model: nn.Module, heads: list[str]) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    dropouts = [str(m) for m in model.modules() if isinstance(m, nn.Dropout)]
    state = torch.get_rng_state()

    assert surgery.replace_head(model, 7, seed=3) is model

    assert torch.equal(state, torch.get_rng_state())
    assert changed(before, model) == set(heads)
    assert modes == [m.training for m in model.modules()]
    assert dropouts == [str(m) for m in model.modules() if isinstance(m, nn.Dropout)]
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    info = models.info(model)
    assert info.num_classes == 7
    assert getattr(model, "num_classes", 7) == 7
    channels, height, width = info.input_size
    with torch.no_grad():
        assert model.eval()(torch.rand(1, channels, height, width)).shape == (1, 7)


@pytest.mark.full
@pytest.mark.parametrize("name", list(smallest_of_each_family()))
def test_one_model_of_each_timm_family_gets_a_new_head_and_nothing_else(name):
    """What the library says of its own heads, in the model's configuration, is the oracle."""
    model, side = Entry(f"timm/{name}").build()
    heads = model.pretrained_cfg["classifier"]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    if model.num_classes:
        surgery.replace_head(model, 7)
        assert changed(before, model) == ({heads} if isinstance(heads, str) else set(heads))
    else:
        surgery.replace_head(model, 7)
        assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    with torch.no_grad():
        assert model(torch.rand(1, 3, side, side)).shape == (1, 7)


@pytest.mark.full
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_torchvision_model_gets_a_new_head_and_nothing_else(name):
    """A layer with as many outputs as there are classes, a number that nothing else has, is a head."""
    model = make(name, "torchvision", num_classes=1013)
    widths = {n: getattr(m, "out_features", getattr(m, "out_channels", 0)) for n, m in model.named_modules()}
    heads = {name for name, width in widths.items() if width == 1013}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    surgery.replace_head(model, 7)
    assert changed(before, model) == heads


def test_auxiliary_and_distilled_heads_have_the_new_width_in_training_too():
    inception = surgery.replace_head(make("googlenet", "torchvision", aux_logits=True), 4).train()
    outputs = inception(torch.rand(2, 3, 64, 64))
    assert {tuple(t.shape) for t in outputs} == {(2, 4)}
    deit = surgery.replace_head(make("deit_tiny_distilled_patch16_224", "timm", img_size=32), 4).train()
    deit.set_distilled_training(True)
    assert [tuple(t.shape) for t in deit(torch.rand(2, 3, 32, 32))] == [(2, 4), (2, 4)]


def test_a_networks_own_names_do_not_matter():
    model = Odd()
    check_replaced(model, ["zap"])
    assert list(surgery.head_layers(model)) == ["zap"]


def test_the_seed_decides_the_head():
    one, two, other = (surgery.replace_head(Odd(), 5, seed=s).zap.weight for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_type_counts_and_repeated_calls():
    model = make("mobilenetv3_small_050", "timm").double()
    surgery.replace_head(surgery.replace_head(model, 5), 3)
    assert model.classifier.weight.shape[0] == 3
    assert model.classifier.weight.dtype == torch.float64
    assert model.num_classes == models.info(model).num_classes == 3
    assert model.eval()(torch.rand(1, 3, 64, 64, dtype=torch.float64)).shape == (1, 3)


def test_class_names_of_the_old_head_are_forgotten():
    model = surgery.replace_head(Odd(), 2)
    models.describe(model, classes=["ant", "bee"])
    assert models.info(surgery.replace_head(model, 2)).classes is None


def test_one_class_works_for_surgery():
    assert surgery.replace_head(Odd(), 1)(torch.rand(2, 3, 32, 32)).shape == (2, 1)


def test_existing_dropout_stays_unless_asked_otherwise():
    model = surgery.replace_head(make("mobilenet_v2", "torchvision"), 3)
    assert model.classifier[0].p == 0.2
    assert surgery.replace_head(model, 3, dropout=0.5).classifier[0].p == 0.5
    with pytest.raises(LearnerError, match="no dropout layer"):
        surgery.replace_head(make("resnet18", "torchvision"), 3, dropout=0.5)


class OwnDropout(nn.Module):
    """Somebody's own layer, with the rate under another name."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return nn.functional.dropout(x, self.drop_prob, self.training)


def test_a_dropout_layer_is_one_whoever_wrote_it():
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(body, OwnDropout(0.3), nn.Linear(8, 10))
    assert "1" in surgery.stages(model, input_size=(3, 16, 16))["head"].modules
    surgery.replace_head(model, 3, dropout=0.6)
    assert model[1].drop_prob == 0.6
    assert "dropout 1: 0.6" in str(surgery.audit(model))


def test_pooling_and_norm_of_a_convnext_stay():
    """Features are vectors, and are the real input of the new head."""
    model = surgery.replace_head(make("convnext_atto", "timm"), 3).eval()
    seen = []
    model.head.fc.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        model(x)
        features = model.forward_head(model.forward_features(x), pre_logits=True)
    assert seen[0].shape == (2, 320)
    assert torch.equal(seen[0], features)


def test_a_timm_model_made_without_a_head_gets_one():
    model = timm.models.VGG([8, "M"] * 5, num_classes=0).half()
    body = {k: v.clone() for k, v in model.state_dict().items()}
    surgery.replace_head(model, 4)
    assert model.head.fc.weight.shape == (4, 4096)
    assert model.head.fc.weight.dtype == torch.float16
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in body.items())


def test_a_frozen_model_gets_a_head_that_trains():
    model = Odd().requires_grad_(False)
    surgery.replace_head(model, 3)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"zap.weight", "zap.bias"}


def test_a_head_kept_under_two_names_is_replaced_under_both():
    model = Odd()
    model.alias = model.zap
    surgery.replace_head(model, 3)
    assert model.alias is model.zap


class Segments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Counts(Odd):
    """A network whose forward counts on the old number of classes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).view(-1, 5, 2).flatten(1)


def features_only() -> nn.Module:
    model = make("resnet18", "torchvision")
    model.fc = nn.Identity()
    return model


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Segments, "shape"),
        (Counts, "put back"),
        (features_only, "features, not class scores"),
        (lambda: make("vit_tiny_patch16_224", "timm").norm, "could not run|class scores"),
        (nn.Identity, "parameters|class scores"),
    ],
    ids=["segmentation", "counts on the old width", "no head", "a part of a model", "nothing"],
)
def test_what_is_no_classifier_is_refused_and_left_alone(build, words):
    model = build()
    before = copy.deepcopy(model)
    with pytest.raises(LearnerError, match=words):
        surgery.replace_head(model, 3)
    assert str(before) == str(model)
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.state_dict().values(), model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("number", [0, -2, "5", 2.0, True, None])
def test_impossible_numbers_of_classes_are_refused(number):
    with pytest.raises(LearnerError, match="whole number"):
        surgery.replace_head(Odd(), number)


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("torchvision", "resnet18"),
        pytest.param("torchvision", "googlenet", marks=pytest.mark.full),
        pytest.param("timm", "crossvit_tiny_240", marks=pytest.mark.full),  # reads the image twice
        # It rearranges pixels into channels before the first convolution.
        pytest.param("timm", "tresnet_m", marks=pytest.mark.full),
        pytest.param("timm", "levit_128s", marks=pytest.mark.full),
    ],
)
def test_a_grey_image_gives_what_it_gave_in_three_channels(library, name):
    model = make(name, library).eval()
    models.describe(model, mean=(0.1, 0.2, 0.3), std=(0.2, 0.2, 0.2))
    original = copy.deepcopy(model)
    if getattr(original, "transform_input", False):
        original.transform_input = False
    before = {k: v.clone() for k, v in model.state_dict().items()}
    surgery.replace_stem(model, 1)
    _, height, width = models.info(original).input_size
    x = torch.rand(1, 1, height, width)
    with torch.no_grad():
        torch.testing.assert_close(model(x), original(x.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    same = [k for k, v in model.state_dict().items() if v.shape == before[k].shape]
    assert all(torch.equal(model.state_dict()[k], before[k]) for k in same)
    info = models.info(model)
    assert info.input_size == (1, height, width)
    assert info.mean == pytest.approx((0.2,))


def test_a_model_that_normalises_inside_stops_doing_so_for_grey():
    model = make("googlenet", "torchvision", transform_input=True)
    surgery.replace_stem(model, 1)
    assert models.info(model).mean == models.info(model).std == (0.5,)
    assert surgery.replace_head(model, 2).eval()(torch.rand(1, 1, 64, 64)).shape == (1, 2)


def test_more_channels_repeat_the_colours_at_the_same_strength():
    model = surgery.replace_stem(Odd(), 6)
    assert model.alpha[0].weight.shape[1] == 6
    assert models.info(model).input_size[0] == 6


class Colourful(Odd):
    """Uses the colours besides its first layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x[:, 2].mean()


def patches_as_rows() -> nn.Module:
    return make("naflexvit_base_patch16_gap", "timm", depth=1, embed_dim=32, num_heads=2)


@pytest.mark.parametrize("build", [patches_as_rows, Colourful])
def test_a_stem_that_cannot_be_refitted_is_refused_and_left_alone(build):
    model = build()
    before = copy.deepcopy(model)
    with pytest.raises(LearnerError, match=r"plain convolution|put back"):
        surgery.replace_stem(model, 1)
    assert str(before) == str(model)
