"""A saved model comes back and predicts the same; a checkpoint of somebody else is read safely, or refused
in words.
"""

import copy
import functools
import json
import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors
import timm
import torch
import torchvision
from families import few
from PIL import Image
from tiny import same, tiny_net, weights
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tlutils import data, models, runtime, surgery, train
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
        pytest.param("vit_tiny_patch16_224", {"input_size": 96, "num_classes": 3}, marks=pytest.mark.full),
        ("mnasnet0_5", {"num_classes": 3}),
        pytest.param("googlenet", {"num_classes": 3}, marks=pytest.mark.full),
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
        pytest.param(
            lambda: torchvision.models.vit_b_32(image_size=64, num_classes=2), marks=pytest.mark.full
        ),
        lambda: timm.create_model("convnext_atto", num_classes=2, in_chans=1),
        lambda: timm.create_model("resnet10t", num_classes=0),
    ],
)
def test_a_raw_model_is_saved_and_comes_back_too(make, tmp_path):
    model = make().eval()
    loaded = models.load(models.save(model, tmp_path / "raw"))
    assert torch.equal(logits(loaded), logits(model))


def with_another_activation(model):
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU):
            model.set_submodule(name, nn.GELU())


def with_another_eps(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.3


def first_conv(model, padding=None):
    convs = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    return next(m for m in convs if padding in (None, m.padding))


def with_another_forward(model):
    whole = model.forward
    model.forward = lambda x: whole(x) * 2


def with_another_class(model):
    forward = type(model).forward
    body = {"forward": lambda self, x: forward(self, x) + 1, "__module__": type(model).__module__}
    model.__class__ = type(type(model).__name__, (type(model),), body)


CHANGED = {
    "activation": with_another_activation,
    "eps": with_another_eps,
    "stride": lambda m: setattr(first_conv(m), "stride", (1, 1)),
    "padding": lambda m: setattr(first_conv(m), "padding", (2, 2)),
    "padding mode": lambda m: setattr(first_conv(m, (1, 1)), "padding_mode", "circular"),
    "forward": with_another_forward,
    "class": with_another_class,
    "hook": lambda m: first_conv(m).register_forward_hook(lambda module, args, out: out * 2),
    "hook before": lambda m: m.register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
    "hook on the model": lambda m: m.register_forward_hook(lambda module, args, out: out * 2),
}

# For every run of the tests: what a file says in its settings, in its code, and beside both.
PLAIN = ("eps", "padding mode", "class", "hook on the model")
WITHOUT_NORMS = "torchvision/squeezenet1_1"


@pytest.mark.parametrize(
    ("name", "change"),
    [("test_resnet", c) for c in PLAIN]
    + [pytest.param("test_resnet", c, marks=pytest.mark.full) for c in CHANGED if c not in PLAIN]
    + [pytest.param(WITHOUT_NORMS, c, marks=pytest.mark.full) for c in CHANGED if c != "eps"],
)
def test_a_model_that_was_changed_after_it_was_made_never_comes_back_with_other_scores(
    name, change, tmp_path, caplog
):
    model = models.load(name, pretrained=False, num_classes=3, input_size=64)
    plain = models.save(model, tmp_path / "plain")
    assert "changed" not in caplog.text
    assert torch.equal(logits(models.load(plain)), logits(model))
    CHANGED[change](model)
    before = weights(model)
    path = models.save(model, tmp_path / "model")
    assert same(weights(model), before)
    assert "with its weights alone" in caplog.text
    with pytest.raises(LearnerError, match="into=model"):
        models.load(path)
    again = models.load(name, pretrained=False, num_classes=3, input_size=64, seed=9)
    CHANGED[change](again)
    assert torch.equal(logits(models.load(path, into=again)), logits(model))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: first_conv(m).register_forward_hook(lambda module, args, out: None),
        lambda m: setattr(m, "drop_rate", 0.5),
        lambda m: setattr(m, "note", "mine"),
        lambda m: surgery.freeze_to(m, "head"),
        lambda m: m.train(),
        lambda m: m.half(),
    ],
    ids=["a hook that listens", "dropout", "a note", "freezing", "training mode", "half precision"],
)
def test_what_changes_no_score_is_no_change(change, tmp_path, caplog):
    model = models.load("test_resnet", pretrained=False, num_classes=3, input_size=64)
    change(model)
    loaded = models.load(models.save(model, tmp_path / "model"))
    assert "changed" not in caplog.text
    assert same(weights(loaded), weights(model))


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
    extra = {
        "score": np.float64(0.75),
        "counts": np.arange(3),
        "frozen_to": "stage3",
        "when": (1, 2),
    }
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


@functools.cache
def resnet(num_classes, seed):
    return models.load("resnet18", pretrained=False, num_classes=num_classes, input_size=64, seed=seed)


def trained(num_classes=1000):
    return copy.deepcopy(resnet(num_classes, 7))


def another(num_classes=1000):
    return copy.deepcopy(resnet(num_classes, 1))


@pytest.mark.parametrize(
    "prefix",
    few(
        ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module."], "", "module._orig_mod."
    ),
)
def test_prefixes_of_wrappers_do_not_matter_on_either_side(prefix):
    source = trained()
    model = another()
    report = models.load_weights(model, {prefix + key: value for key, value in source.state_dict().items()})
    assert torch.equal(logits(model), logits(source))
    assert (report.skipped, report.missing, report.unexpected) == ([], [], [])
    assert len(report.loaded) == len(source.state_dict())


def test_weights_without_a_prefix_go_into_a_model_that_has_one():
    class Lit(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = another()

    source, wrapper = trained(), Lit()
    models.load_weights(wrapper, source.state_dict())
    assert torch.equal(logits(wrapper.model), logits(source))


def test_a_head_of_another_size_is_skipped_and_reported():
    source, model = trained(num_classes=10), another(num_classes=3)
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
        report = models.load_weights(another(), state)
    assert (report.missing, report.unexpected) == (["layer1.0.conv1.weight"], ["extra.weight"])
    assert "layer1.0.conv1.weight" in caplog.text


@pytest.mark.parametrize("spoil", ["names", "another architecture", "a part", "a shape", "no tensors"])
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_copied(spoil):
    model, state = another(), trained().state_dict()
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
    source, model = trained(), another()
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


def renamed(state, change):
    return {change(name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.replace("stem.", "stem._orig_mod."),
        lambda name: name.replace(".0.", ".module.0."),
        lambda name: "model." + name.replace(".1.", ".1.module._orig_mod."),
        lambda name: f"student.{name}",
        lambda name: name.replace("body.", "body._fsdp_wrapped_module._checkpoint_wrapped_module."),
    ],
)
def test_what_wrappers_put_into_names_does_not_matter_wherever_it_stands(change):
    source, model = tiny_net(seed=1), tiny_net(seed=2)
    report = models.load_weights(model, renamed(source.state_dict(), change))
    assert same(weights(model), weights(source))
    assert (report.missing, report.unexpected, report.chosen) == ([], [], "")


def test_a_part_that_was_compiled_takes_plain_weights():
    source, model = tiny_net(seed=1), tiny_net(seed=2)
    body = model.body
    model.body = nn.Module()
    model.body._orig_mod = body  # as torch.compile names it
    models.load_weights(model, source.state_dict())
    assert torch.equal(body[0].weight, source.body[0].weight)


def lightning(raw, averaged):
    """One state with both, as a trainer's module holds a network and its average."""
    return {"state_dict": renamed(raw, "model.{}".format) | renamed(averaged, "ema_model.module.{}".format)}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (lambda raw, averaged: {"net": raw, "swa_net": averaged, "epoch": 3}, "swa_net"),
        (lambda raw, averaged: {"averaged": averaged, "weights": raw}, "averaged"),
        (lambda raw, averaged: {"trainer": {"model": raw, "ema": averaged}, "optimizer": {}}, "trainer.ema"),
        (lightning, "state_dict.ema_model"),
        (
            lambda raw, averaged: {
                **renamed(raw, "module.{}".format),
                **renamed(averaged, "shadow.{}".format),
            },
            "shadow",
        ),
    ],
)
def test_of_raw_and_averaged_weights_the_averaged_are_taken_and_it_is_said(file, name, tmp_path, caplog):
    raw, averaged, model = tiny_net(seed=1), tiny_net(seed=2), tiny_net(seed=3)
    torch.save(file(raw.state_dict(), averaged.state_dict()), tmp_path / "both.pth")
    report = models.load_weights(model, tmp_path / "both.pth")
    assert same(weights(model), weights(averaged))
    assert f"the averaged weights '{name}'" in str(report)
    assert f"averaged weights '{name}'" in models.info(model).weights
    assert name in caplog.text


def test_of_two_sets_that_no_name_tells_apart_it_is_said_which_was_taken():
    first, second, model = (tiny_net(seed=k) for k in (1, 2, 3))
    report = models.load_weights(model, {"student": first.state_dict(), "teacher": second.state_dict()})
    assert same(weights(model), weights(first))
    assert "'student' (not 'teacher'" in report.chosen
    part = {"model": {"fc.weight": second.fc.weight.detach()}, "other": first.state_dict()}
    assert models.load_weights(model, part).chosen == ""
    assert same(weights(model), weights(first)), "the set that fits was not taken"


UNFIT = {
    "int8": (lambda t: (t * 10).to(torch.int8), "whole numbers"),
    "bool": (lambda t: t > 0, "true or false"),
    "complex": (lambda t: t.to(torch.complex64), "complex"),
    "int32": (lambda t: t.to(torch.int32), "whole numbers"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "floating point of 8 bits"),
    "NaN": (lambda t: torch.where(t == t.max(), torch.nan, t), "NaN"),
    "infinity": (lambda t: torch.where(t == t.max(), torch.inf, t), "infinite"),
    "minus infinity": (lambda t: torch.where(t == t.max(), -torch.inf, t), "infinite"),
    "too large": (lambda t: t.double() + 1e300, r"1e\+300, too large for the model's torch.float32"),
}


@pytest.mark.parametrize(("spoil", "words"), UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("name", ["body.0.weight", "last.1.running_var"])
def test_weights_of_another_kind_are_refused_and_nothing_is_copied(spoil, words, name, tmp_path):
    source, model = tiny_net(seed=1), tiny_net(seed=2)
    before, state = weights(model), weights(source)
    state[name] = spoil(state[name])
    with pytest.raises(LearnerError, match=words):
        models.load_weights(model, state)
    path = models.save(source, tmp_path / "model")
    safetensors.torch.save_file(state, path, metadata={"tlutils": json.dumps(about_of(path))})
    with pytest.raises(LearnerError, match=words):
        models.load(path, into=model)
    assert same(weights(model), before)


@pytest.mark.parametrize("least", [-1e-3, -7.0, -1e30])
def test_negative_variances_are_refused(least):
    model = tiny_net(seed=2)
    before, state = weights(model), weights(tiny_net(seed=1))
    state["body.1.running_var"][0] = least
    with pytest.raises(LearnerError, match="negative variances"):
        models.load_weights(model, state)
    assert same(weights(model), before)


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("name", ["stem.0.weight", "body.1.running_mean", "fc.bias"])
@pytest.mark.parametrize("make", [lambda t: t.to("meta"), lambda t: t.to_sparse()], ids=["meta", "sparse"])
def test_tensors_without_plain_values_are_refused_in_words(name, make, tmp_path):
    model = tiny_net(seed=2)
    before, state = weights(model), weights(tiny_net(seed=1))
    state[name] = make(state[name])
    torch.save(state, tmp_path / "odd.pt")
    for source in (state, tmp_path / "odd.pt"):
        with pytest.raises(LearnerError, match=f"{name}.*Nothing was copied"):
            models.load_weights(model, source)
    assert same(weights(model), before)


def test_a_mask_may_hold_infinity_where_the_model_has_it():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf, 0.0]))

    model = Masked()
    assert not models.load_weights(model, Masked().state_dict()).missing


@pytest.mark.parametrize("place", [b"gr\xfcn/model", b"model-\xff", b"\xff\xfe/\xfd"])
def test_a_path_that_is_no_text_is_written_and_read(place, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + place))
    try:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    except OSError:
        pytest.skip("this file system takes only valid names")
    model = models.load("test_resnet", pretrained=False, num_classes=3, input_size=64)
    path = models.save(model, path)
    assert same(weights(models.load(path)), weights(model))
    assert same(weights(models.load(path, into=model)), weights(model))
    assert not models.load_weights(model, path).missing


def test_half_precision_weights_go_into_a_model_of_single_precision():
    source, model = tiny_net(seed=1), tiny_net(seed=2)
    models.load_weights(model, source.half().state_dict())
    assert torch.equal(model.fc.weight, source.fc.weight.float())


class Stubborn(nn.Linear):
    """Takes weights in a way of its own, which fails after the parts before it were copied."""

    def _load_from_state_dict(self, *args):
        raise KeyError("an older format")


class Hooked(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_load_state_dict_post_hook(self.fail)

    @staticmethod
    def fail(module, keys):
        raise RuntimeError("not today")


class Shared(nn.Linear):
    """Its bias is one number seen three times, which cannot be written."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.bias = nn.Parameter(torch.zeros(1).expand(sizes[1]))


@pytest.mark.parametrize("last", [Stubborn, Hooked, Shared])
@pytest.mark.parametrize("way", ["load_weights", "load"])
def test_a_load_that_fails_leaves_the_model_as_it_was(last, way, tmp_path):
    source, model = tiny_net(seed=1), tiny_net(seed=2)
    path = models.save(source, tmp_path / "model")
    model.fc = last(8, 3)
    before, facts = weights(model), models.info(model)
    with pytest.raises(LearnerError, match="The model is as it was"):
        if way == "load":
            models.load(path, into=model)
        models.load_weights(model, source.state_dict())
    assert same(weights(model), before)
    assert models.info(model) == facts


def about_of(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["tlutils"])


NEVER = (
    None,
    True,
    -1,
    3.5,
    float("nan"),
    10**30,
    "",
    "x",
    [],
    [1, 2],
    ["a"],
    {},
    {"a": [1]},
    [[[]]],
    "../..",
)
HARMLESS = ("name", "extra", "notes", "weights", "pretrained", "classes", "fixed_size", "mean", "identity")


def test_metadata_that_cannot_be_true_is_refused_in_words_whatever_was_changed(tmp_path):
    """Each entry is deleted, and replaced by values of every kind; no raw error, and no wrong facts."""
    net = tiny_net()
    path = models.save(net, tmp_path / "model", classes=["a", "b", "c"])
    about, tensors = about_of(path), safetensors.torch.load_file(path)

    def refused(changed):
        text = changed if isinstance(changed, str) else json.dumps(changed)
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt", "tlutils": text})
        try:
            models.info(models.load(path, into=net)).summary()
        except LearnerError as error:
            return "cannot be used" in str(error) or "model" in str(error)
        return False

    assert not refused(about)
    for text in (
        "",
        "null",
        "1",
        "1.5",
        '"1"',
        "true",
        "[]",
        "{",
        "NaN",
        "[" * 100_000,
        '{"version": 2}',
        json.dumps(about)[:-9],
    ):
        assert refused(text), text[:20]
    for key in ("version", "info", "options", "loose"):
        for value in ("x", 3.5, [1], True):
            assert refused(about | {key: value}), (key, value)
    for value in ("x", 1, None, [True]):
        assert refused(about | {"changed": value}), value
    for key in about["info"]:
        inside = dict(about["info"])
        for value in NEVER:
            result = refused(about | {"info": inside | {key: value}})
            assert result or key in HARMLESS, (key, value)
        del inside[key]
        refused(about | {"info": inside})


class Shifting(nn.Module):
    """Computes with tensors that are neither parameters nor buffers."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.shift, self.net = torch.full((3, 1, 1), factor), tiny_net()
        self.net.body.gain = torch.tensor(factor)

    def forward(self, x):
        return self.net(x - self.shift) * self.net.body.gain


def test_tensors_that_are_no_buffers_come_back_too(tmp_path):
    model = models.describe(Shifting(2.0).eval(), input_size=16)
    path = models.save(model, tmp_path / "shifting")
    again = models.load(path, into=Shifting())
    assert torch.equal(logits(again), logits(model))
    again.net.body.gain = "none"
    with pytest.raises(LearnerError, match="no tensor 'net"):
        models.load(path, into=again)
    average = AveragedModel(model)
    models.load(models.save(average, tmp_path / "average"), into=(again := Shifting()))
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize(
    "held", [[torch.ones(3)], {"a": torch.ones(3)}, np.ones(3)], ids=["list", "dict", "array"]
)
def test_what_a_file_does_not_keep_is_said(held, tmp_path, caplog):
    model = tiny_net()
    model.body.held = held
    models.save(model, tmp_path / "model")
    assert "body.held" in caplog.text


def test_quantised_lazy_and_empty_models_are_refused_in_words(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to move quantisation to a package of its own
        quantised = torch.ao.quantization.quantize_dynamic(tiny_net(), {nn.Linear}, dtype=torch.qint8)
        static = nn.Sequential(nn.Flatten(), torch.ao.nn.quantized.Linear(4, 2))
    for model, words in (
        (quantised, "quantised model"),
        (static, "quantised model"),
        (nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(2)), "once on a batch"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to("meta"), "no values yet"),
    ):
        with pytest.raises(LearnerError, match=words):
            models.save(model, tmp_path / "model")
        with pytest.raises(LearnerError, match=words):
            models.load_weights(model, tiny_net().state_dict())


def test_eight_threads_save_and_load_at_once(tmp_path):
    def work(seed):
        net = models.load("test_resnet", pretrained=False, num_classes=2, input_size=32, seed=seed % 4)
        models.save(net, tmp_path / "one for all", extra={"seed": seed})
        own = models.load(models.save(net, tmp_path / f"{seed}"))
        models.load(tmp_path / "one for all")
        return weights(net), weights(own)

    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(work, range(8)))
    for seed, (net, own) in enumerate(pairs):
        expected = models.load("test_resnet", pretrained=False, num_classes=2, input_size=32, seed=seed % 4)
        assert same(net, weights(expected)), seed
        assert same(own, net), seed
    assert len(list(tmp_path.iterdir())) == 9


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    net = tiny_net(seed=1)
    assert models.save(net, "~/kept") == tmp_path / "kept.safetensors"
    assert same(weights(models.load("~/kept", into=tiny_net())), weights(net))
    models.load_weights(other := tiny_net(), "~/kept.safetensors")
    assert same(weights(other), weights(net))
    with pytest.raises(LearnerError, match="Write the folder in full"):
        models.load("~nobody-of-that-name/kept.safetensors")


def test_a_tilde_is_the_home_folder_for_data_runs_and_tables_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for index in range(10):
        (tmp_path / "photos" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / "ab"[index % 2] / f"{index}.png")
    images = data.load("~/photos")
    assert images.classes == ["a", "b"]
    assert data.load_image("~/photos/a/0.png").size == (16, 16)
    history = train.fit(tiny_net(2), images, train.Recipe.probe(epochs=1), out="~/run")
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert history.to_csv("~/table.csv") == tmp_path / "table.csv"
    assert not Path("~").exists()
