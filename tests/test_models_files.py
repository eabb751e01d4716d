"""A saved model comes back and predicts the same; a checkpoint of somebody else is read safely, or refused
in words.
"""

import json
import logging

import numpy as np
import pytest
import safetensors
import timm
import torch
import torchvision
from torch import nn

from tlutils import models, runtime
from tlutils.errors import LearnerError


@torch.no_grad()
def logits(model):
    """Logits of one fixed batch of the size that the model asks for."""
    images = torch.rand(2, *models.info(model).input_size, generator=torch.Generator().manual_seed(0))
    return model(images.to(next(model.parameters()).dtype))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tf_efficientnet_lite0", {"pretrained": True, "num_classes": 3}),
        ("timm/resnet18", {"in_chans": 1, "num_classes": 3}),
        ("vit_tiny_patch16_224", {"input_size": 96, "num_classes": 3}),
        ("mnasnet0_5", {"num_classes": 3}),
        ("googlenet", {"num_classes": 3}),
        ("squeezenet1_1", {"num_classes": 3, "input_size": 100}),
    ],
)
def test_a_saved_model_comes_back_and_predicts_the_same(name, arguments, tmp_path):
    model = models.load(name, **({"pretrained": False, "seed": 4} | arguments))
    classes = ["Käse 日本", "ant", "bee"]
    path = models.save(model, tmp_path / "model", classes=classes)
    loaded = models.load(path)
    assert path.name == "model.safetensors"
    assert torch.equal(logits(loaded), logits(model))
    assert models.info(loaded).classes == classes
    assert not loaded.training
    for field in ("name", "source", "input_size", "mean", "std", "interpolation", "crop_pct", "num_classes"):
        assert getattr(models.info(loaded), field) == getattr(models.info(model), field), field


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.googlenet(weights=None, init_weights=False, num_classes=2),
        lambda: torchvision.models.vit_b_32(image_size=64, num_classes=2),
        lambda: timm.create_model("convnext_atto", num_classes=2, in_chans=1),
        lambda: timm.create_model("resnet10t", num_classes=0),
    ],
)
def test_a_raw_model_is_saved_and_comes_back_too(make, tmp_path):
    model = make().eval()
    loaded = models.load(models.save(model, tmp_path / "raw"))
    assert torch.equal(logits(loaded), logits(model))


def test_a_saved_model_keeps_its_number_type(tmp_path):
    model = models.load("squeezenet1_1", pretrained=False).double()
    loaded = models.load(models.save(model, tmp_path / "double"))
    assert torch.equal(logits(loaded), logits(model))


class Tied(nn.Module):
    """Two layers that share one weight, and a slice that shares its memory."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.again = nn.Conv2d(1, 2, 3, padding=1)
        self.again.weight = self.conv.weight
        self.register_buffer("table", torch.arange(6.0))
        self.register_buffer("part", self.table[:3])
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.head((self.conv(x) + self.again(x)).mean((2, 3)) * self.part[1] + self.table[5])


def test_tied_weights_and_own_classes_survive(tmp_path):
    model = models.describe(Tied().eval(), input_size=8, mean=0.2, std=0.3)
    path = models.save(model, tmp_path / "tied", classes=["a", "b"])
    with pytest.raises(LearnerError, match=r"your own class Tied.*into="):
        models.load(path)
    loaded = models.load(path, into=Tied())
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.again.weight is loaded.conv.weight
    assert (models.info(loaded).mean, models.info(loaded).classes) == ((0.2,), ["a", "b"])
    assert models.info(model).classes is None, "saving changed the model's own facts"


def test_the_file_holds_plain_values_that_any_reader_can_read(tmp_path):
    model = models.load("squeezenet1_1", pretrained=False, num_classes=2)
    extra = {"score": np.float64(0.75), "counts": np.arange(3), "frozen_to": "stage3", "when": (1, 2)}
    path = models.save(model, tmp_path / "model", extra=extra)
    with safetensors.safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["tlutils"])
    expected = {"score": 0.75, "counts": [0, 1, 2], "frozen_to": "stage3", "when": [1, 2]}
    assert about["info"]["extra"] == models.info(models.load(path)).extra == expected
    with pytest.raises(LearnerError, match=r"extra\['model'\] is a Linear"):
        models.save(model, tmp_path / "bad", extra={"model": nn.Linear(1, 1)})
    assert not (tmp_path / "bad.safetensors").exists()


def test_a_failed_save_leaves_the_older_file(tmp_path, monkeypatch):
    model = models.load("squeezenet1_1", pretrained=False)
    path = models.save(model, tmp_path / "model")
    before = runtime.sha256(path)

    def full_disk(tensors, filename, metadata):
        filename.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(LearnerError, match="disk is full"):
        models.save(model, path)
    assert runtime.sha256(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_files_that_are_no_saved_model_are_refused_in_words(tmp_path):
    model = models.load("squeezenet1_1", pretrained=False)
    path = models.save(model, tmp_path / "model")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    (tmp_path / "text.pt").write_text("no weights at all")
    changed = models.load("squeezenet1_1", pretrained=False)
    changed.classifier[1] = nn.Sequential(nn.Conv2d(512, 4, 1), nn.Conv2d(4, 2, 1))
    other = models.save(changed, tmp_path / "changed")
    for file, words in (
        (tmp_path / "cut.safetensors", "cut off"),
        (tmp_path / "none.safetensors", "There is no file"),
        (tmp_path / "plain.pth", r"models\.load_weights\(model"),
        (tmp_path / "text.pt", "cannot be read as weights"),
        (other, "changed after it was made.*into=model"),
    ):
        with pytest.raises(LearnerError, match=words):
            models.load(file)
    for arguments in ({"num_classes": 2}, {"in_chans": 1}, {"pretrained": False}):
        with pytest.raises(LearnerError, match="comes back as it was saved"):
            models.load(path, **arguments)
    with pytest.raises(LearnerError, match=r"model\.safetensors"):
        models.save(model, tmp_path / "model.pth")
    with pytest.raises(LearnerError, match=r"2 class names .* 1000 outputs"):
        models.save(model, tmp_path / "model", classes=["a", "b"])


def trained(num_classes=1000):
    return models.load("resnet18", pretrained=False, num_classes=num_classes, seed=7)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module."]
)
def test_prefixes_of_wrappers_do_not_matter_on_either_side(prefix):
    source = trained()
    model = models.load("resnet18", pretrained=False, seed=1)
    report = models.load_weights(model, {prefix + key: value for key, value in source.state_dict().items()})
    assert torch.equal(logits(model), logits(source))
    assert (report.skipped, report.missing, report.unexpected) == ([], [], [])
    assert len(report.loaded) == len(source.state_dict())


def test_weights_without_a_prefix_go_into_a_model_that_has_one():
    class Lit(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = models.load("resnet18", pretrained=False, seed=1)

    source, wrapper = trained(), Lit()
    models.load_weights(wrapper, source.state_dict())
    assert torch.equal(logits(wrapper.model), logits(source))


def test_a_head_of_another_size_is_skipped_and_reported():
    source, model = trained(num_classes=10), models.load("resnet18", pretrained=False, num_classes=3, seed=1)
    head = model.fc.weight.clone()
    report = models.load_weights(model, source.state_dict())
    assert sorted(report.skipped) == ["fc.bias", "fc.weight"]
    assert "2 skipped" in str(report)
    assert torch.equal(model.fc.weight, head)
    assert torch.equal(model.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_what_is_missing_or_too_much_is_reported_and_logged(caplog):
    state = trained().state_dict()
    del state["layer1.0.conv1.weight"]
    state["extra.weight"] = torch.zeros(1)
    with caplog.at_level(logging.WARNING, logger="tlutils"):
        report = models.load_weights(models.load("resnet18", pretrained=False), state)
    assert (report.missing, report.unexpected) == (["layer1.0.conv1.weight"], ["extra.weight"])
    assert "layer1.0.conv1.weight" in caplog.text


@pytest.mark.parametrize("spoil", ["names", "another architecture", "a part", "a shape", "no tensors"])
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_copied(spoil):
    model, state = models.load("resnet18", pretrained=False, seed=1), trained().state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if spoil == "names":
        state = {f"encoder.net.{key}": value for key, value in state.items()}
    elif spoil == "another architecture":
        state = models.load("squeezenet1_1", pretrained=False).state_dict()
    elif spoil == "a part":
        state = {key: value for key, value in state.items() if key.startswith(("conv1", "layer1", "layer2"))}
    elif spoil == "a shape":
        state["layer4.1.conv2.weight"] = torch.zeros(512, 512, 1, 1)
    else:
        state = {"epoch": 3, "score": 0.5}
    words = {
        "names": "0 of the 100 tensors of the backbone",
        "another architecture": "made with",
        "a part": "46 of the 100 tensors of the backbone",
        "a shape": r"'layer4\.1\.conv2\.weight' has shape \(512, 512, 1, 1\)",
        "no tensors": "holds no weights",
    }[spoil]
    with pytest.raises(LearnerError, match=words):
        models.load_weights(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_trainers_checkpoint_is_read_with_its_weights_found(key, tmp_path):
    source, model = trained(), models.load("resnet18", pretrained=False, seed=1)
    torch.save({"epoch": 3, key: source.state_dict(), "classes": ["a"]}, tmp_path / "last.ckpt")
    models.load_weights(model, tmp_path / "last.ckpt")
    assert torch.equal(logits(model), logits(source))
    assert models.info(model).weights == "loaded from last.ckpt"


def test_a_checkpoint_with_python_objects_is_never_read_unsafely(tmp_path):
    model = trained()
    torch.save({"state_dict": model.state_dict(), "score": np.float64(0.5)}, tmp_path / "scalar.pth")
    torch.save(model, tmp_path / "whole.pth")
    for name in ("scalar.pth", "whole.pth"):
        with pytest.raises(
            LearnerError, match=r"would run code from the file, so it was not read.*state_dict"
        ):
            models.load_weights(model, tmp_path / name)
