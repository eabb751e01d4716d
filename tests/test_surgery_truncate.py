"""A network that ends early reads what its last stage gave, is saved and trained; or it stays as it was."""

import copy
import json

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from surgery_zoo import ZOO
from tiny import TinyNet, odd_net, same, tiny_data, tiny_net, weights
from torch import nn

from tlutils import data, features, models, probe, surgery, train
from tlutils.errors import LearnerError
from tlutils.inference import evaluating

OTHERS = ["test_convnext", "test_efficientnet", "timm/mobilenetv3_small_050"]  # beside test_resnet
SMALL = ["test_resnet", *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)]


def load(name, **options):
    model = models.load(name, pretrained=False, num_classes=3, **options)
    return model if models.info(model).fixed_size else models.describe(model, input_size=64)


def images_for(model):
    return torch.rand(2, *models.info(model).input_size, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def read(model, at, images):
    """What leaves a stage, averaged over places, as `features.extract` has it."""
    with evaluating(surgery.outputs(model, at)) as section:
        value = section(images)[at]
    if isinstance(value, tuple):  # after which no network ends
        return torch.empty(0)
    layout = section.known_stages[at].layout
    places = [axis for axis, letter in enumerate(layout) if letter in "HWL"]
    return value.mean(places) if places else value.flatten(1)


def check_ends_after(model, at, classes=4):
    """Truncate a model, and assert that its embedding is what the stage gave, and that nothing else moved."""
    images = images_for(model)
    before, wanted, state = weights(model), read(model, at, images), torch.get_rng_state()
    assert surgery.truncate(model, at, num_classes=classes, seed=3) is model
    assert torch.equal(state, torch.get_rng_state())
    got = read(model, surgery.stages(model).embedding, images)
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    (head,) = surgery.head_layers(model)
    now = weights(model)
    assert all(torch.equal(now[k], before[k]) for k in now if not k.startswith(f"{head}."))
    assert models.info(model).num_classes == classes
    assert all(type(model.get_submodule(name)) is nn.Identity for name in models.info(model).identity)
    with torch.no_grad():
        assert model.eval()(images).shape == (2, classes)


@pytest.mark.parametrize("name", SMALL)
def test_the_embedding_is_what_the_stage_gave(name):
    model = load(name)
    parameters = sum(p.numel() for p in model.parameters())
    check_ends_after(model, "stage2")
    assert sum(p.numel() for p in model.parameters()) < parameters / 2


@pytest.mark.full
@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_every_family_ends_early_or_says_why_not(entry):
    whole, side = entry.build()
    models.describe(whole, input_size=side)
    for at in [name for name in surgery.stages(whole).names if name.startswith("stage")][::-3]:
        model = copy.deepcopy(whole)
        before, refusal = (weights(model), str(model)), None
        try:
            check_ends_after(model, at)
        except LearnerError as error:
            refusal = str(error)
        if refusal is not None:
            assert "cannot end after" in refusal
            assert same(weights(model), before[0])
            assert str(model) == before[1]


def test_after_the_last_stage_only_the_head_is_new():
    model = tiny_net(dropout=0.3)
    modules = str(model).replace("out_features=3", "out_features=4")
    check_ends_after(model, surgery.stages(model).body[-1])
    assert str(model) == modules
    assert models.info(model).identity == ()


def test_ending_again_leaves_what_ending_there_at_once_does_with_a_head_from_the_seed():
    twice, once, other = load("test_resnet"), load("test_resnet"), load("test_resnet")
    surgery.truncate(surgery.truncate(twice, "stage3", num_classes=4), "stage1")
    surgery.truncate(once, "stage1", num_classes=4)
    assert same(weights(twice), weights(once))
    assert (
        set(models.info(twice).identity) == set(models.info(once).identity) == {"layer2", "layer3", "layer4"}
    )
    assert models.info(twice).notes == models.info(once).notes
    surgery.truncate(other, "stage1", num_classes=4, seed=1)
    assert not torch.equal(other.fc.weight, once.fc.weight)
    assert torch.equal(surgery.replace_head(other, 4, seed=0).fc.weight, once.fc.weight)


def test_what_is_frozen_in_mode_and_in_half_precision_stays_so():
    model = surgery.freeze_to(tiny_net(dropout=0.3), "stage2").train().bfloat16()
    frozen = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    surgery.truncate(model, "stage1")
    assert {name: p.requires_grad for name, p in model.named_parameters()}.items() <= frozen.items()
    assert not model.body[0].weight.requires_grad
    assert model.fc.weight.requires_grad
    assert all(module.training == modes[name] for name, module in model.named_modules())
    assert model.fc.weight.dtype is torch.bfloat16


class WithAnActivation(TinyNet):
    """Its own forward squashes what leaves any stage."""

    def forward(self, x):
        return self.fc(self.pool(torch.tanh(self.last(self.body(self.stem(x))))))


class Shortcut(TinyNet):
    def forward(self, x):
        x = self.body(self.stem(x))
        return self.fc(self.pool(nn.functional.avg_pool2d(x, 2) + self.last(x)))


class MaxPooled(TinyNet):
    def __init__(self):
        super().__init__()
        self.pool[0] = nn.AdaptiveMaxPool2d(1)


class Flat(TinyNet):
    def __init__(self):
        super().__init__()
        self.pool[0], self.fc = nn.Identity(), nn.Linear(32, 3)


def googlenet():
    return torchvision.models.googlenet(weights=None, init_weights=False, num_classes=3)


REFUSED = {
    "activation": (lambda: odd_net(WithAnActivation), "an activation, a shortcut"),
    "shortcut": (lambda: odd_net(Shortcut), "2 tensors leave it"),
    "another pooling": (lambda: odd_net(MaxPooled), "another pooling stays"),
    "no pooling": (lambda: odd_net(Flat), "flattens the places"),
    "class token": (lambda: load("test_vit"), "a class token"),
    "two heads": (lambda: timm.create_model("deit_tiny_distilled_patch16_224", depth=3), "it has 2 heads"),
    "fully connected": (lambda: load("torchvision/alexnet"), "flattens the places"),
    "dense": (lambda: load("torchvision/densenet121"), "an activation, a shortcut"),
    "auxiliary": (googlenet, r"it has 3 heads \(fc, aux1.fc2, aux2.fc2\)"),
}
SLOW = ("class token", "two heads", "fully connected", "dense", "auxiliary")


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.full) if k in SLOW else k for k in REFUSED]
)
def test_a_network_that_cannot_end_early_is_refused_and_stays_as_it_was(kind):
    make, words = REFUSED[kind]
    model = make().train()
    at = next(name for name in surgery.stages(model).names if name.startswith("stage"))
    model.requires_grad_(False)
    seen, before = [], (weights(model), str(model), torch.get_rng_state(), vars(models.info(model)))
    handle = model.get_submodule(surgery.stages(model)["stage1"].modules[0]).register_forward_hook(
        lambda module, args, out: seen.append(module)
    )
    with pytest.raises(LearnerError, match=rf"cannot end after '{at}'.*{words}.*probe beside"):
        surgery.truncate(model, at, num_classes=7)
    assert same(weights(model), before[0])
    assert str(model) == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert vars(models.info(model)) == before[3]
    assert all(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 1
    handle.remove()


def test_what_is_no_stage_to_end_after_and_no_number_of_classes_is_said():
    model = load("test_resnet")
    before = str(model)
    for at in ("pool", "head", "stem", "stage9", 2, ["stage1", "stage2"]):
        with pytest.raises(LearnerError, match="stage1, stage2, stage3, stage4"):
            surgery.truncate(model, at)
    with pytest.raises(LearnerError, match="lies within stage3, and at= names whole stages"):
        surgery.truncate(model, "layer3.0.conv1")
    for number in (0, True, 2.0):
        with pytest.raises(LearnerError, match="num_classes is"):
            surgery.truncate(model, "stage2", num_classes=number)
    assert str(model) == before


def test_a_wrapper_that_would_keep_the_old_parameters_is_refused():
    with pytest.raises(LearnerError, match="then wrap the model"):
        surgery.truncate(nn.DataParallel(tiny_net()), "stage2")


@pytest.mark.parametrize("name", SMALL)
def test_a_truncated_model_comes_back_from_its_file_to_the_last_bit(name, tmp_path, caplog):
    model = surgery.truncate(load(name), "stage2", num_classes=2)
    path = models.save(model, tmp_path / "short", classes=["ant", "bee"])
    loaded = models.load(path)
    assert "changed" not in caplog.text
    images = images_for(model)
    with torch.no_grad():
        assert torch.equal(loaded(images), model.eval()(images))
    assert str(loaded) == str(model.eval())
    assert models.info(loaded).identity == models.info(model).identity
    assert models.info(loaded).classes == ["ant", "bee"]
    assert "it ends after stage2" in models.info(loaded).summary()


def test_a_truncated_network_of_ones_own_class_comes_back_into_one(tmp_path):
    model = surgery.truncate(tiny_net(), "stage1", num_classes=2)
    path = models.save(model, tmp_path / "own")
    again = surgery.truncate(tiny_net(seed=5), "stage1", num_classes=2)
    assert same(weights(models.load(path, into=again)), weights(model))
    with pytest.raises(LearnerError, match=r"was truncated: its \w+ is an identity.*surgery.truncate"):
        models.load(path, into=tiny_net())


def read_about(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["tlutils"])


WRONG = [
    (["layer9"], "'layer9' an identity, which is no module of ResNet"),
    (["fc.weight"], "which is no module"),
    (["_modules"], "which is no module"),
    ([""], "which is no module"),
    (["fc"], "the stem or the head"),
    (["conv1"], "the stem or the head"),
    (["layer3", "layer4", "layer4.0"], "what that is in"),
    (["layer3"], "could not run"),
    ([], "fits? "),
    ("layer3", "expected names of modules"),
    ([3], "expected names of modules"),
    (None, "expected names of modules"),
]


def test_a_file_that_does_not_tell_which_modules_are_identities_is_refused(tmp_path):
    path = models.save(surgery.truncate(load("test_resnet"), "stage2"), tmp_path / "short")
    about, tensors = read_about(path), safetensors.torch.load_file(path)

    def refused(words, tensors, **facts):
        changed = json.dumps(about | {"info": about["info"] | facts})
        safetensors.torch.save_file(tensors, path, metadata={"tlutils": changed})
        with pytest.raises(LearnerError, match=words):
            models.load(path)

    for identity, words in WRONG:
        refused(words, tensors, identity=identity)
    refused("without one head", {name: t for name, t in tensors.items() if name != "fc.weight"})


def test_a_file_from_before_there_were_identities_still_loads(tmp_path):
    net = tiny_net()
    path = models.save(net, tmp_path / "whole")
    about, tensors = read_about(path), safetensors.torch.load_file(path)
    del about["info"]["identity"]
    safetensors.torch.save_file(tensors, path, metadata={"tlutils": json.dumps(about)})
    assert models.info(models.load(path, into=tiny_net(seed=2))).identity == ()


@pytest.mark.parametrize("from_stage", [pytest.param("head", marks=pytest.mark.full), "stage1", "all"])
def test_training_moves_what_it_should(from_stage):
    model = surgery.truncate(tiny_net(dropout=0.2), "stage1", num_classes=3)
    before = weights(model)
    recipe = train.Recipe.finetune if from_stage == "all" else train.Recipe.partial
    stages = {} if from_stage == "all" else {"from_stage": from_stage}
    train.fit(model, tiny_data(), recipe(**stages, epochs=1, lr=0.01, augment=False, keep="last"))
    moved = {
        name.split(".")[0] for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])
    }
    assert moved == {"head": {"fc"}, "stage1": {"body", "fc"}, "all": {"stem", "body", "fc"}}[from_stage]


@pytest.mark.full
def test_a_probe_of_the_stage_becomes_the_head():
    few = data.load("digits").train.subsample(4)
    model = models.load("test_resnet", pretrained=False, num_classes=10, input_size=32)
    known = features.extract(model, few, at="stage2")
    fitted = probe.fit_probe(known["stage2"], known.labels, classes=few.classes, penalties=[0.1])
    probe.install_head(surgery.truncate(model, "stage2"), fitted, few)
    again = features.extract(model, few, at="pool")
    assert torch.allclose(torch.tensor(again["pool"]), torch.tensor(known["stage2"]), rtol=1e-3, atol=1e-4)
    said, _ = features.make_predictor(model)(
        torch.stack([data.transform_for(model)(few.read(i)) for i in range(4)])
    )
    assert (said.argmax(1) == fitted.predict(known["stage2"][:4])).all()


@pytest.mark.full
def test_lite0_ends_after_any_stage_with_its_own_weights():
    model = models.load(models.DEFAULT)
    models.describe(model, input_size=64)
    check_ends_after(model, "stage5")
    assert models.info(model).identity == ("blocks.5", "blocks.6", "conv_head", "bn2")
    assert surgery.linear_head(model).in_features == 112
