"""What a model says of itself: its size, its preprocessing, its classes; what is assumed is said."""

import copy
import pickle
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms import v2

from tlutils import data, models
from tlutils.errors import LearnerError
from tlutils.models.metadata import SOURCES

DOCS = Path(models.__file__).parents[2] / "docs"
ARCHITECTURES = torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize("names", [ARCHITECTURES[::10], pytest.param(ARCHITECTURES, marks=pytest.mark.full)])
def test_a_torchvision_classifier_is_recognised_raw_with_its_own_head(monkeypatch, names):
    widths = torchvision.models.regnet.BlockParams.from_init_params

    def computed(**arguments):  # RegNet's recipe needs numbers, which the meta device has not
        with torch.device("cpu"):
            return widths(**arguments)

    monkeypatch.setattr(torchvision.models.regnet.BlockParams, "from_init_params", computed)
    for name in names:
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        with torch.device("meta"):
            model = torchvision.models.get_model(name, weights=None, num_classes=7, **extra)
        info = models.info(model)
        assert (info.name, info.source, info.num_classes) == (name, "torchvision", 7), name
        crop = torchvision.models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
        built = getattr(model, "image_size", crop)  # vit_h_14 is built for 224, its best weights are for 518
        assert info.input_size == (3, built, built), name


def test_a_raw_timm_model_states_the_preprocessing_of_its_configuration():
    for name in ("vit_tiny_patch16_224", "resnet18", "mixer_s32_224", "convnext_atto", "tresnet_m"):
        model = timm.create_model(name, num_classes=5)
        info, cfg = models.info(model), model.pretrained_cfg
        assert (info.source, info.num_classes, info.input_size) == ("timm", 5, cfg["input_size"])
        assert (info.mean, info.std, info.crop_pct) == (cfg["mean"], cfg["std"], cfg["crop_pct"])
        assert info.interpolation == cfg["interpolation"]


def test_a_head_replaced_by_hand_shows_in_info(lite0):
    model = torchvision.models.get_model("resnet18", weights=None)
    model.fc = nn.Linear(512, 2)
    assert models.info(model).num_classes == 2
    for name in ("resnet18", "densenet121", "mobilenet_v3_small", "swin_t"):
        with torch.device("meta"):
            model = torchvision.models.get_model(name, weights=None, num_classes=2)
        model.projector = nn.Linear(512, 128)  # declared last, and used for something else
        assert models.info(model).num_classes == 2, name
    mine = copy.deepcopy(lite0)
    mine.classifier = nn.Linear(1280, 4)
    assert (models.info(mine).num_classes, models.info(mine).classes) == (4, None)
    assert models.info(lite0).num_classes == 1000


class Own(nn.Module):
    """A small network for grey 28-pixel images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.drop = nn.Dropout()
        self.head = nn.Linear(4 * 26 * 26, 10)

    def forward(self, x):
        return self.head(self.drop(self.conv(x).flatten(1)))


def test_an_own_network_is_tried_and_what_is_assumed_is_said():
    model = Own()
    model.conv.eval()
    calls = []
    model.conv.register_forward_hook(lambda *args: calls.append(1))
    info = models.info(model)
    assert (info.name, info.source, info.input_size, info.num_classes) == ("Own", "custom", (1, 28, 28), 10)
    assert "assumed" in info.notes[0]
    assert "28 is the first of the usual sizes" in info.notes[1]
    told = models.info(models.describe(Own(), input_size=28))
    assert (told.assumed, told.notes) == (info.assumed, info.notes[:1])
    assert not calls, "the caller's hooks saw the trial"
    assert model.training
    assert not model.conv.training


def test_describe_corrects_the_facts_of_an_own_network():
    model = models.describe(Own(), mean=0.1, std=[0.3], classes=[str(n) for n in range(10)])
    info = models.info(model)
    assert (info.mean, info.std, info.classes[3]) == ((0.1,), (0.3,), "3")
    for wrong, words in (
        ({"means": 0.5}, "mean"),
        ({"mean": [0.5, 0.5]}, "2 values for 1 channels"),
        ({"std": 0}, "above 0"),
        ({"classes": ["a"]}, "1 class names .* 10 outputs"),
        ({"crop_pct": 1.5}, "crop_pct"),
        ({"crop_pct": 0.005}, "crop_pct"),
        ({"crop_mode": "squish"}, "center, squash, border"),
        ({"interpolation": "hamming"}, "interpolation"),
        ({"grey_bits": 10.5}, "grey_bits"),
        ({"source": "mine"}, "source"),
        ({"mean": float("nan")}, "mean"),
        ({"mean": "grey"}, "mean"),
        ({"name": ""}, "name"),
    ):
        with pytest.raises(LearnerError, match=words):
            models.describe(model, **wrong)
    assert models.info(model) == info


def test_what_load_would_refuse_is_not_saved(tmp_path):
    model = timm.create_model("test_resnet", pretrained=False)
    model.pretrained_cfg["interpolation"] = "random"
    with pytest.raises(LearnerError, match="interpolation is 'random'; expected one of nearest, "):
        models.save(model, tmp_path / "tiny")
    models.save(models.describe(model, interpolation="bilinear"), tmp_path / "tiny")
    assert models.info(models.load(tmp_path / "tiny")).interpolation == "bilinear"


def test_facts_survive_copies_pickling_and_wrappers(lite0):
    info = models.info(lite0)
    assert models.info(copy.deepcopy(lite0)) == info
    assert models.info(pickle.loads(pickle.dumps(lite0))) == info
    assert models.info(nn.DataParallel(lite0)) == info
    assert models.info(torch.compile(lite0, backend="eager")) == info


class Within(nn.Module):
    """A model around known networks: `into` makes of the images what the first gets."""

    def __init__(self, *nets, into=lambda x: x, out=5):
        super().__init__()
        self.nets, self.into, self.head = nn.ModuleList(nets), into, nn.LazyLinear(out)

    def forward(self, x):
        return self.head(torch.cat([net(self.into(x)) for net in self.nets], 1))


def around(*nets, **settings):
    model = Within(*nets, **settings).eval()
    model(torch.rand(1, 3, 64, 64))
    return model


def trunk(seed=0):
    return models.load("test_resnet", pretrained=False, num_classes=4, input_size=64, seed=seed)


def headless():
    net = torchvision.models.squeezenet1_1(weights=None)
    net.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return net


def test_a_model_around_a_known_network_prepares_images_for_that_network():
    other = models.describe(trunk(), mean=(0.4, 0.5, 0.6), std=0.25, crop_pct=0.9)
    for model, inner in (
        (around(trunk()), trunk()),
        (around(other), other),
        (around(trunk(), trunk(1)), trunk()),
        (around(headless()), torchvision.models.squeezenet1_1(weights=None)),
        (around(other, into=lambda x: nn.functional.interpolate(x, 48)), other),
        (AveragedModel(around(other)), other),
    ):
        info, expected = models.info(model), models.info(inner)
        for fact in ("mean", "std", "crop_pct", "interpolation", "input_size"):
            assert getattr(info, fact) == getattr(expected, fact), fact
        assert (info.num_classes, info.assumed) == (5, "")
        assert f"the images reach {expected.name}" in info.notes[-1]


@pytest.mark.parametrize(
    ("into", "mean", "std"),
    [
        (v2.Normalize((0.4, 0.5, 0.6), (0.25, 0.25, 0.25)), (0.0,) * 3, (1.0,) * 3),
        (
            lambda x: (x / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.25,
            (0.0,) * 3,
            (1 / 255,) * 3,
        ),
        (lambda x: 2 * x, (0.4, 0.5, 0.6), (0.5,) * 3),
    ],
)
def test_a_model_that_normalises_by_itself_gets_images_that_its_network_then_sees_rightly(into, mean, std):
    inner = models.describe(trunk(), mean=(0.4, 0.5, 0.6), std=0.25)
    info = models.info(around(inner, into=into))
    assert (info.mean, info.std) == (pytest.approx(mean, abs=1e-5), pytest.approx(std, rel=1e-4))
    image = torch.rand(3, 8, 8)
    prepared = into(v2.functional.normalize(image, info.mean, info.std))
    assert torch.allclose(prepared, v2.functional.normalize(image, (0.4, 0.5, 0.6), [0.25] * 3), atol=1e-3)


@pytest.mark.parametrize(
    "model",
    [
        around(trunk(), into=lambda x: x[:, [2, 1, 0]]),
        around(trunk(), into=lambda x: x.clamp(0, 1)),
        around(trunk(), models.describe(trunk(1), mean=0.1, std=0.1)),
        nn.Sequential(nn.Conv2d(3, 3, 1), trunk()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    ],
    ids=["channels reversed", "clipped", "two preprocessings", "a learned colour", "unknown"],
)
def test_where_nothing_is_known_the_preprocessing_is_assumed_and_said_where_it_is_used(model, caplog):
    assert "mean and std are 0.5" in models.info(model).assumed
    data.transform_for(model)
    assert "preprocessing is assumed" in caplog.text
    caplog.clear()
    data.transform_for(models.describe(model, mean=0.5, std=0.5))
    assert not caplog.text


@pytest.mark.parametrize("name", ["vit_b_32", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_fixed_architecture_is_built_for_the_size_asked_for(name):
    model = models.load(name, pretrained=False, input_size=96, num_classes=2)
    info = models.info(model)
    assert (info.input_size, info.fixed_size) == ((3, 96, 96), True)
    assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 2)
    with pytest.raises(LearnerError, match=r"96x96 and got 224x224"):
        models.check_input(model, torch.zeros(1, 3, 224, 224))
    with pytest.raises(LearnerError, match=r"96x96 and got 64x64"):
        models.describe(model, input_size=64)


def test_a_model_that_timm_built_for_another_size_tells_it_or_is_told_it():
    mixer = timm.create_model("mixer_s32_224", img_size=64)
    assert models.info(mixer).input_size == (3, 64, 64)
    hiera = timm.create_model("hiera_tiny_224", img_size=64)  # which does not keep its size
    assert "made for another size" in models.info(hiera).notes[-1]
    assert models.info(models.describe(hiera, input_size=64)).input_size == (3, 64, 64)
    with pytest.raises(LearnerError, match=r"224x224 and got 64x64"):
        models.check_input(models.load("hiera_tiny_224", pretrained=False), torch.zeros(1, 3, 64, 64))


def test_a_convolutional_network_takes_another_size_in_its_facts_alone(lite0):
    model = models.load("tf_efficientnet_lite0", input_size=(96, 128))
    assert models.info(model).input_size == (3, 96, 128)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), lite0.state_dict().values(), strict=True)
    )
    models.check_input(model, torch.zeros(1, 3, 64, 64))


def test_impossible_sizes_and_batches_fail_early_with_what_was_expected(lite0):
    impossible = [("alexnet", 16), ("vit_b_32", 100), ("vit_b_32", (96, 64)), ("vit_tiny_patch16_224", 8)]
    for name, size in impossible:
        with pytest.raises(LearnerError, match=name):
            models.load(name, pretrained=False, input_size=size)
    for batch, words in (
        (torch.zeros(3, 224, 224), "unsqueeze"),
        (torch.zeros(1, 1, 224, 224), "3 channels"),
    ):
        with pytest.raises(LearnerError, match=words):
            models.check_input(lite0, batch)


@pytest.mark.parametrize("name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.full)])
def test_networks_that_normalise_themselves_are_normalised_once(name):
    """What reaches the first layer is (image - 0.5) / 0.5, whoever computes it, and the summary says so."""
    built = models.load(name, pretrained=False)
    plain = torchvision.models.get_model(name, weights=None, init_weights=False, transform_input=False).eval()
    inside = torchvision.models.get_model(name, weights=None, init_weights=False, transform_input=True).eval()
    grey = models.load(name, pretrained=False, in_chans=1)
    image = torch.rand(1, 1, 64, 64)
    for model in (built, plain, inside, grey):
        info = models.info(model)
        x = v2.functional.normalize(image.expand(-1, info.input_size[0], -1, -1), info.mean, info.std)
        torch.testing.assert_close(model._transform_input(x), (image.expand_as(x) - 0.5) / 0.5)
        assert "normalised once" in info.summary()
    assert isinstance(built.train()(torch.rand(2, 3, 96, 96)), torch.Tensor)


def test_every_zoo_is_named_where_the_package_is_described():
    zoos = {source for source in SOURCES if source not in ("package", "custom")}
    rows = {
        "architecture.md": r"\| `models/` \|.*",
        "models.md": r"(?s).*?## What a model says",
        "../CHANGELOG.md": r"(?s)\* \*\*`models`\*\*.*?\n\* ",
    }
    for name, row in rows.items():
        text = re.search(row, (DOCS / name).read_text(encoding="utf-8"))[0]
        assert {zoo for zoo in zoos if zoo not in text} == set(), name
