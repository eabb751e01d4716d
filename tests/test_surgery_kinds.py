"""Models that keep state where nobody lists it: seen by what they do, by every member of each kind."""

import copy
import functools
import random
import threading
import types
import weakref
from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from families import few
from tiny import tiny_data, tiny_net
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import orthogonal, spectral_norm
from torch.optim.swa_utils import AveragedModel, update_bn

from tlutils import explain, features, inference, models, surgery, train
from tlutils.errors import LearnerError

X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Three convolutions and a head, with something between the second and the third."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(i, o, 3, 2, 1) for i, o in ((3, 4), (4, 8), (8, 8)))
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Any:
        x = self.between(self.norm(self.two(self.one(x).relu())).relu())
        return self.fc(self.three(x).relu().mean((2, 3)))


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return models.describe(kind(), input_size=32, mean=0.5, std=0.5)


def frozen(kind: type[nn.Module]) -> nn.Module:
    model = made(kind)
    return surgery.freeze_to(model, next(s for s in surgery.stages(model) if "three" in s.modules)).train()


# What an image gives depends on more than the image.


class NoiseFromTorch(Net):
    def between(self, x):
        return x + 0.1 * torch.randn_like(x)


class RareNoiseFromPython(Net):
    def between(self, x):
        return x * 2 if random.random() < 0.01 else x


class NoiseFromNumpy(Net):
    def between(self, x):
        return x * float(np.random.rand())  # noqa: NPY002


class NoiseOfItsOwn(Net):
    def __init__(self):
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)

    def between(self, x):
        return x * torch.rand(x.shape, generator=self.draws)


class CentredOverTheBatch(Net):
    def between(self, x):
        return x - x.mean(0, keepdim=True)


class StatisticsOfTheBatch(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)


class ScaledByTheBatch(Net):
    def between(self, x):
        return x / (1e-3 + x.amax())


class DividedByTheBatch(Net):
    def between(self, x):
        return x / len(x)


class RolledFromThreeOn(Net):
    def between(self, x):
        return x + x.roll(1, 0) if len(x) > 2 else x


class OneAloneIsSqueezed(Net):
    def between(self, x):
        return x.squeeze(0).mean(0, keepdim=True).expand(1, 8, -1, -1) if len(x) == 1 else x


class GivesItsPrototypes(Net):
    """Returns, beside the scores, a table with as many rows as any batch might have."""

    def forward(self, x):
        return super().forward(x), self.fc.weight.new_ones(10, 8)


class RemembersTheLast(Net):
    last: Any = 0.0

    def between(self, x):
        last, self.last = self.last, x.detach().mean(0, keepdim=True)
        return x + last


class RemembersALargerBatch(RemembersTheLast):
    """Only several images that follow more of them show it."""

    def between(self, x):
        last, self.last = self.last, len(x)
        return 2 * x if last > len(x) > 1 else x


class OneAloneIsRefused(Net):
    def between(self, x):
        return x.squeeze(0)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (NoiseFromTorch, "random-in-eval"),
        (RareNoiseFromPython, "random-in-eval"),
        (NoiseFromNumpy, "random-in-eval"),
        (NoiseOfItsOwn, "random-in-eval"),
        (CentredOverTheBatch, "batch-dependent"),
        (StatisticsOfTheBatch, "batch-dependent"),
        (ScaledByTheBatch, "batch-dependent"),
        (DividedByTheBatch, "batch-dependent"),
        (RolledFromThreeOn, "batch-dependent"),
        (OneAloneIsSqueezed, "batch-dependent"),
        (RemembersTheLast, "batch-dependent"),
        (RemembersALargerBatch, "batch-dependent"),
        (OneAloneIsRefused, "batch-dependent"),
        (GivesItsPrototypes, ""),
        (Net, ""),
    ],
)
def test_what_depends_on_more_than_the_image_is_named(kind, code):
    found = surgery.audit(made(kind))
    assert found.codes & {"random-in-eval", "batch-dependent"} == ({code} if code else set())
    if kind is StatisticsOfTheBatch:
        assert next(f for f in found if f.code == code).module == "norm"


class HoldsAGenerator(Net):
    def __init__(self):
        super().__init__()
        self.numpys, self.pythons, self.passes, self.table = (
            np.random.default_rng(0),
            random.Random(0),
            0,
            None,
        )

    def between(self, x):
        return x + float(self.numpys.normal())


class HoldsPythonsGenerator(HoldsAGenerator):
    def between(self, x):
        return x * self.pythons.random()


class DrawsATensor(HoldsAGenerator):
    def between(self, x):
        return x + torch.tensor([self.pythons.random() for _ in range(8)]).view(8, 1, 1)


class CountsItsPasses(HoldsAGenerator):
    def between(self, x):
        self.passes += 1
        return x * (1 + 0.3 * self.passes)


class WarmsUp(HoldsAGenerator):
    def between(self, x):
        self.passes = min(self.passes + 1, 3)
        return x * self.passes


@pytest.mark.parametrize(
    "kind",
    few(
        [HoldsAGenerator, HoldsPythonsGenerator, DrawsATensor, CountsItsPasses, WarmsUp],
        HoldsPythonsGenerator,
        DrawsATensor,
        WarmsUp,
    ),
)
def test_a_number_that_differs_from_pass_to_pass_is_not_kept_as_if_it_were_fixed(kind):
    model = made(kind).eval()
    for look in (
        surgery.stages,
        lambda m: surgery.split_at(m, "head"),
        lambda m: features.extract(m, tiny_data().val, at="head"),
    ):
        with pytest.raises(LearnerError, match="differ from pass to pass"):
            look(model)
    assert model.passes == 0


class OnlyCounts(HoldsAGenerator):
    def between(self, x):
        self.passes += 1
        return x


class MakesATableOnce(HoldsAGenerator):
    def between(self, x):
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[3])
        return x * self.table


@pytest.mark.parametrize("kind", [OnlyCounts, MakesATableOnce])
def test_what_a_model_notes_once_or_never_uses_is_no_hindrance(kind):
    model = made(kind).eval()
    prefix, suffix = surgery.split_at(model, "head")
    assert torch.equal(suffix(prefix(X)), model(X))


# `model.train()` reaches what `freeze_to` cannot hold.


class DropsInItsForward(Net):
    def between(self, x):
        return F.dropout(x, 0.2, self.training)


class LeaksAtRandom(Net):
    def between(self, x):
        return F.rrelu(x - 1, 0.1, 0.9, self.training)


class FlipsByADrawOfPython(Net):
    def forward(self, x):
        return super().forward(x.flip(3) if self.training and random.random() < 0.5 else x)


class CountsInItsForward(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def between(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3)))
        return x - self.mean.view(1, -1, 1, 1)


class NormsInItsForward(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("m", torch.zeros(8))
        self.register_buffer("v", torch.ones(8))

    def between(self, x):
        return F.batch_norm(x, self.m, self.v, training=self.training)


class CountsItsBorderInTraining(Net):
    def between(self, x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=self.training)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DropsInItsForward, "dropout-active"),
        pytest.param(*(LeaksAtRandom, "dropout-active"), marks=pytest.mark.full),
        (FlipsByADrawOfPython, "dropout-active"),
        (CountsInItsForward, "bn-drift"),
        pytest.param(*(NormsInItsForward, "bn-drift"), marks=pytest.mark.full),
        (CountsItsBorderInTraining, "mode-dependent"),
    ],
)
def test_what_goes_on_in_a_frozen_part_is_named(kind, code):
    model = frozen(kind)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert code in surgery.audit(model).codes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert surgery.audit(frozen(Net)).ok


class NoisyInTraining(Net):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x) if self.training else x)


class ScaledInTraining(Net):
    def forward(self, x):
        return super().forward(2 * x if self.training else x)


class CutsOutInTraining(Net):
    def forward(self, x):
        return super().forward(F.dropout2d(x, 0.5) if self.training else x)


@pytest.mark.parametrize("kind", [NoisyInTraining, ScaledInTraining, CutsOutInTraining])
def test_a_model_that_takes_other_steps_in_training_is_not_frozen_in_name_only(kind):
    model = surgery.replace_head(made(kind), 3)
    for act in (
        lambda: surgery.freeze_to(model, "head"),
        lambda: surgery.split_at(model, "head"),
        lambda: train.fit(model, tiny_data(), train.Recipe.probe(epochs=1)),
    ):
        with pytest.raises(LearnerError, match=r"cut off before the head.*training and evaluation differ"):
            act()
    with pytest.raises(LearnerError, match=r"^Nothing can be cut at .two., because training"):
        surgery.split_at(model, "two")
    assert all(p.requires_grad for p in model.parameters())


class DropsBeforeANorm(nn.Module):
    """The function stands before a norm that feeds the head, where no module could switch it off."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.norm, self.fc = (
            nn.Conv2d(3, 4, 3, 2),
            nn.Conv2d(4, 8, 3, 2),
            norm,
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x).relu()).relu().mean((2, 3))
        return self.fc(self.norm(F.dropout(x, 0.5, self.training)))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(8), nn.LayerNorm(8), nn.GroupNorm(2, 8)])
def test_a_function_that_drops_right_before_the_head_belongs_to_it(norm):
    model = models.describe(DropsBeforeANorm(norm), input_size=32)
    surgery.freeze_to(model, "head")
    prefix, _ = surgery.split_at(model.train(), "head")
    assert torch.equal(prefix.train()(X), prefix(X))
    assert "dropout-active" not in surgery.audit(model).codes


class KeepsNormsInEval(Net):
    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self


class KeepsAllButTheHeadInEval(Net):
    def train(self, mode=True):
        super().train(False)
        self.fc.train(mode)
        return self


class KeepsWhatItsListNames(Net):
    def __init__(self):
        super().__init__()
        self.still = ["norm"]

    def train(self, mode=True):
        super().train(mode)
        for name in self.still:
            self.get_submodule(name).training = False
        return self


@pytest.mark.parametrize("kind", [KeepsNormsInEval, KeepsAllButTheHeadInEval, KeepsWhatItsListNames])
def test_halves_have_the_modes_that_the_models_own_train_gives(kind):
    model = made(kind).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    whole = model(X)
    prefix, suffix = surgery.split_at(model, "head")
    assert torch.equal(suffix.train()(prefix.eval().train()(X)), whole)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# A plan is not kept longer than it is right.


class Settings:
    scale = 1.0


class Configured(Net):
    def __init__(self):
        super().__init__()
        self.act, self.settings, self.table = torch.relu, Settings(), {"scale": 1.0}
        self.two.weight.scale = 1.0

    def between(self, x):
        return self.act(x) * self.settings.scale * self.table["scale"] * self.two.weight.scale


CHANGES = {
    "a function": lambda m: setattr(m, "act", torch.sigmoid),
    "a function of Python": lambda m: setattr(m, "act", lambda x: x * x),
    "an object's attribute": lambda m: setattr(m.settings, "scale", 3.0),
    "an entry": lambda m: m.table.update(scale=0.5),
    "an attribute of a weight": lambda m: setattr(m.two.weight, "scale", 3.0),
    "a method": lambda m: setattr(m, "between", lambda x: x + 1),
    "the class": lambda m: setattr(m, "__class__", ScalesAlways),
    "the forward": lambda m: setattr(m, "forward", types.MethodType(lambda s, x: 3 * Net.forward(s, x), m)),
}


class ScalesAlways(Configured):
    def between(self, x):
        return 7 * x


@pytest.mark.parametrize(
    "change", few(CHANGES, "a function of Python", "an attribute of a weight", "the class", "the forward")
)
def test_halves_are_those_of_the_model_as_it_is_now(change):
    model = made(Configured).eval()
    known = surgery.stages(model)
    assert surgery.stages(model) is known
    old = model(X)
    CHANGES[change](model)
    assert not torch.equal(model(X), old)
    prefix, suffix = surgery.split_at(model, "stage2")
    assert torch.equal(suffix(prefix(X)), model(X))


class Nested(nn.Module):
    """Gives images that it changed to a network within, which is opened to see the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> Any:
        return self.net(2 * x)


def changes_images(module: nn.Module, args: Any) -> Any:
    return (args[0] * 5 - 3,)


HOOKS: dict[str, Any] = {
    "before the model": (Net, lambda m: m.register_forward_pre_hook(changes_images)),
    "after the model": (Net, lambda m: m.register_forward_hook(lambda module, args, out: 3 * out)),
    "with its settings": (
        Net,
        lambda m: m.register_forward_pre_hook(lambda module, args, settings: None, with_kwargs=True),
    ),
    "before what is opened": (Nested, lambda m: m.net.register_forward_pre_hook(changes_images)),
    "after what is opened": (Nested, lambda m: m.net.register_forward_hook(lambda *_: None)),
}


def test_another_thread_may_run_its_model_while_one_is_followed():
    followed, runs = made(Configured), made(Net).eval()
    surgery.stages(followed)
    done, errors, outputs = threading.Event(), [], []

    def run() -> None:
        while not done.is_set():
            try:
                outputs.append(runs(X))
                surgery.audit(runs)
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(20):
            surgery.stages(followed)
    finally:
        done.set()
        thread.join()
    assert not errors
    assert all(torch.equal(out, runs(X)) for out in outputs)


@pytest.mark.parametrize("hook", few(HOOKS, "with its settings", "after what is opened"))
def test_parts_that_would_leave_out_a_hook_are_refused(hook):
    kind, put = HOOKS[hook]
    model = surgery.replace_head(made(kind), 3).eval()
    within = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    within.register_forward_hook(lambda module, args, out: 2 * out)
    handle = put(model)
    data = tiny_data(classes=3)
    for cut in (
        lambda: surgery.split_at(model, "head"),
        lambda: surgery.outputs(model, "head"),
        lambda: features.extract(model, data.val, at="head"),
        lambda: train.fit(model, data, train.Recipe.probe(epochs=1)),
    ):
        with pytest.raises(LearnerError, match=r"forward hook.*\.remove\(\)"):
            cut()
    assert "hooks-left" in surgery.audit(model).codes
    handle.remove()
    prefix, suffix = surgery.split_at(model, "head")
    assert torch.equal(suffix(prefix(X)), model(X))


# Looking never changes a model.


class Held(nn.Module):
    """A block whose own function leads to its layers, kept as `keep` says."""

    def __init__(self, keep: Any) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4)
        self.run = keep(self)

    def inner(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.norm(self.conv(x)) * scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.run(x)


class Runner:
    def __init__(self, block: Any, depth: int = 0) -> None:
        self.block, self.inner = block, Runner(block) if depth else None
        self.calls = [0]

    def __call__(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        return self.inner(x) if self.inner else self.block.norm(self.block.conv(x))


class Unregistered:
    def __init__(self) -> None:
        self.layers = [nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4)]

    def __call__(self, x: Tensor) -> Tensor:
        return self.layers[1](self.layers[0](x))


def an_attribute(block: Any) -> Any:
    def run(x: Tensor) -> Tensor:
        return run.block.inner(x)

    run.block = block
    return run


def in_a_weak_reference(block: Any) -> Any:
    held = weakref.ref(block)
    return lambda x: held().inner(x)


def in_a_proxy(block: Any) -> Any:
    held = weakref.proxy(block)
    return lambda x: held.inner(x)


KEEPS: dict[str, Any] = {
    "a lambda": lambda block: lambda x: block.inner(x),
    "what a lambda's default is": lambda block: lambda x, held=block: held.inner(x),
    "what a lambda is told by name": lambda block: lambda x, *, held=(block,): held[0].inner(x),
    "a function's attribute": an_attribute,
    "a weak reference": in_a_weak_reference,
    "a proxy": in_a_proxy,
    "a dict of a kind of its own": lambda block: (lambda held: lambda x: held["it"].inner(x))(
        UserDict(it=block)
    ),
    "a default of a lambda": lambda block: functools.partial(lambda layer, x: layer.inner(x), block),
    "a partial": lambda block: functools.partial(block.inner, scale=2.0),
    "an object": Runner,
    "an object in an object": lambda block: Runner(block, 1),
    "layers in a list": lambda block: Unregistered(),
    "a scripted layer": lambda block: torch.jit.script(
        nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4))
    ),
}


def state(value: Any) -> list[Tensor]:
    """Every buffer that a block leads to, registered or not."""
    more = value.run.layers if isinstance(value.run, Unregistered) else []
    return [b.clone() for m in [value, *more] for b in m.buffers()]


ODDEST = (
    "what a lambda is told by name",
    "a weak reference",
    "a proxy",
    "an object in an object",
    "a scripted layer",
)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.jit
@pytest.mark.parametrize("keep", few(KEEPS, *ODDEST))
def test_looking_runs_no_layer_of_the_model_itself(keep):
    torch.manual_seed(0)
    block = Held(KEEPS[keep])
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    models.describe(model.train(), input_size=32)
    before, calls = state(block), getattr(block.run, "calls", [0])[0]
    surgery.stages(model)
    surgery.audit(model)
    surgery.replace_head(model, 7)
    assert all(torch.equal(a, b) for a, b in zip(before, state(block), strict=True))
    assert getattr(block.run, "calls", [0])[0] == calls
    prefix, suffix = surgery.split_at(model.eval(), "head")
    assert torch.equal(suffix(prefix(X)), model(X))


SOMEWHERE: dict[str, Any] = {}


class Global(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        SOMEWHERE["norm"] = self.norm


class RunsAGlobal(Global):
    def forward(self, x):
        return SOMEWHERE["norm"](x)


class WritesIntoAGlobal(Global):
    def forward(self, x):
        norm = SOMEWHERE["norm"]
        return F.batch_norm(x, norm.running_mean, norm.running_var, training=True)


@pytest.mark.parametrize("kind", [RunsAGlobal, WritesIntoAGlobal])
def test_what_cannot_be_copied_is_refused_in_words_and_left_as_it_was(kind):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), kind())
    before = [b.clone() for b in model.buffers()]
    with pytest.raises(LearnerError, match="of the model itself"), inference.twin(model.train()) as copied:
        inference.set_mode(copied, training=True)
        copied(X)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


# Flags that were set for good.


def frozen_places(model: nn.Module) -> list[str]:
    model.two.bias.requires_grad_(False)
    return ["two.bias"]


def frozen_base(model: nn.Module) -> list[str]:
    model.requires_grad_(False)
    model.register_parameter("adapter", nn.Parameter(torch.zeros(())))
    return [n for n, _ in model.named_parameters() if n != "adapter"]


def frozen_norm(model: nn.Module) -> list[str]:
    model.norm.requires_grad_(False)
    return ["norm.weight", "norm.bias"]


@pytest.mark.parametrize("by_hand", [frozen_places, frozen_base, frozen_norm])
def test_what_was_frozen_before_stays_frozen_unless_it_is_named(by_hand):
    model = made(Net)
    names = by_hand(model)

    def still() -> list[str]:
        return [n for n, p in model.named_parameters() if not p.requires_grad]

    for stage in ("head", "stage1", "stage2", "stage1"):
        surgery.freeze_to(model, stage)
        assert set(names) <= set(still())
    assert still() == names == list(surgery.prefrozen_parameters(model))
    surgery.freeze(model, "three")
    assert set(still()) == {*names, "three.weight", "three.bias"}
    assert set(still()) - set(names) or names == still()
    surgery.freeze_batchnorm(surgery.unfreeze(model))
    surgery.unfreeze(copy.deepcopy(model))
    surgery.unfreeze(model)
    assert still() == names
    surgery.unfreeze(model, names[0])
    assert still() == names[1:]
    surgery.unfreeze(model, "*")
    assert not still()


class LowRank(nn.Module):
    """A layer with an adapter, in the names that peft uses: the layer itself is frozen."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Conv2d(layer.in_channels, 2, 1, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Conv2d(2, layer.out_channels, 1, bias=False)})

    def forward(self, x):
        out = self.base_layer(x)
        low = nn.functional.adaptive_avg_pool2d(self.lora_A["default"](x), out.shape[2:])
        return out + self.lora_B["default"](low)


class Adapted(nn.Module):
    """What peft puts around a model: two wrappers that hand on its output and look up its attributes."""

    def __init__(self, model):
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = model

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model").model, name)

    def forward(self, *args, **kwargs):
        return self.base_model.model(*args, **kwargs)


class LowRankWeight(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2, 72) / 9), nn.Parameter(torch.zeros(len(weight), 2))

    def forward(self, weight):
        return weight + (self.b @ self.a).view(weight.shape)


class Beside(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        x = self.block(x)
        return x + self.up(self.down(x).relu())


class Scaled(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block, self.scale = block, nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x):
        return self.block(x) * self.scale


def low_rank(model: nn.Module) -> None:
    model.last[0] = LowRank(model.last[0])


def low_rank_of_the_weight(model: nn.Module) -> None:
    parametrize.register_parametrization(model.last[0], "weight", LowRankWeight(model.last[0].weight))


def beside_a_block(model: nn.Module) -> None:
    model.body = Beside(model.body)


def scaled(model: nn.Module) -> None:
    model.last = Scaled(model.last)


@pytest.mark.parametrize(
    "adapt",
    few([low_rank, low_rank_of_the_weight, beside_a_block, scaled], low_rank_of_the_weight, beside_a_block),
)
def test_adapters_train_and_what_they_adapt_stays_as_it_was(adapt):
    inner = models.describe(tiny_net().requires_grad_(False), mean=0.2, std=0.3)
    adapt(inner)
    inner.fc.requires_grad_(True)
    model = Adapted(inner)
    trains = {n for n, p in inner.named_parameters() if p.requires_grad}
    assert models.info(model).mean[0] == 0.2
    surgery.freeze_to(model, "head")
    assert {n for n, p in inner.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    surgery.unfreeze(model)
    assert {n for n, p in inner.named_parameters() if p.requires_grad} == trains
    before = {n: p.detach().clone() for n, p in inner.named_parameters()}
    train.fit(model, tiny_data(), train.Recipe.finetune(epochs=2, lr=0.1))
    assert {n for n, p in inner.named_parameters() if not torch.equal(p, before[n])} == trains


@pytest.mark.parametrize(
    "recipe", [train.Recipe.finetune(epochs=1), train.Recipe.partial("stage2", epochs=1)]
)
def test_training_leaves_frozen_what_was_frozen_before_and_says_so(recipe):
    model = tiny_net()
    name, fixed = "last.0.weight", model.last[0].weight
    fixed.requires_grad_(False)
    before = fixed.clone()
    history = train.fit(model, tiny_data(), recipe)
    assert torch.equal(fixed, before)
    assert any(name in notice and "stay so" in notice for notice in history.notices)


def test_a_model_that_was_frozen_as_a_whole_trains_what_is_asked_for():
    model = made(Net).requires_grad_(False)
    surgery.freeze_to(model, "head")
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]


def reset_each(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    model.train()(X)


@pytest.mark.parametrize("wrap", [AveragedModel, nn.DataParallel, lambda model: model])
@pytest.mark.parametrize("count", [lambda model: update_bn([X], model), reset_each])
def test_statistics_that_are_held_are_not_counted_again_by_an_average(wrap, count):
    model = frozen(Net)
    model(X)
    average = wrap(model)
    assert surgery.frozen_to(average) == surgery.frozen_to(model)
    before = {k: v.clone() for k, v in average.named_buffers()}
    count(average)
    assert all(torch.equal(v, before[k]) for k, v in average.named_buffers())
    mean = model.norm.running_mean.clone()
    count(surgery.unfreeze(model))
    assert not torch.equal(model.norm.running_mean, mean)


# One layer on both sides of a cut.


class TwiceALayer(Net):
    def between(self, x):
        return x

    def forward(self, x):
        x = self.three(self.norm(self.two(self.one(x).relu())))
        return self.fc(self.norm(x).mean((2, 3)))


class TwiceAWeight(Net):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x):
        x = self.two(self.one(x).relu()) * self.scale
        return self.fc((self.three(x.relu()) * self.scale).mean((2, 3)))


class TwiceABlock(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))

    forward = TwiceALayer.forward


class ALayerAndItsTransposedWeight(TwiceABlock):
    made: Any = staticmethod(lambda weight: weight.t())

    def __init__(self):
        super().__init__()
        self.norm = nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x):
        x = self.three(self.norm(self.two(self.one(x).relu())))
        return self.fc(F.linear(x.mean((2, 3)), self.made(self.norm.weight.flatten(1))))


class ALayerAndItsNormalisedWeight(ALayerAndItsTransposedWeight):
    made = staticmethod(lambda weight: F.normalize(weight, dim=1))


class ALayerAndItsBinaryWeight(ALayerAndItsTransposedWeight):
    made = staticmethod(lambda weight: weight.sign() * weight.abs().mean())


@pytest.mark.parametrize(
    "kind",
    [
        *(TwiceALayer, TwiceAWeight, TwiceABlock),
        *(ALayerAndItsTransposedWeight, ALayerAndItsNormalisedWeight, ALayerAndItsBinaryWeight),
    ],
)
def test_freezing_between_two_uses_of_a_weight_is_refused(kind):
    model = made(kind)
    before = next(s.name for s in surgery.stages(model) if "three" in s.modules)
    with pytest.raises(LearnerError, match=r"(norm|scale).* is used both before and after the cut"):
        surgery.freeze_to(model, before)
    assert all(p.requires_grad for p in model.parameters())
    assert surgery.frozen_to(surgery.freeze_to(model, "head")) == "head"


# Weights that are made at each pass.


class Centred(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight - weight.mean()


def halved(layer: nn.Module, *_: Any) -> None:
    layer.weight = 0.5 * layer.raw  # type: ignore[assignment, operator]


def own_hook(layer: nn.Module) -> nn.Module:
    layer.raw = nn.Parameter(layer.weight.detach().clone())
    del layer.weight
    halved(layer)
    layer.weight = layer.weight.detach()
    layer.register_forward_pre_hook(halved)
    return layer


def own_parametrization(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Centred())
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    prune.ln_structured(layer, "weight", 0.5, n=2, dim=0)
    return layer


@pytest.mark.parametrize(
    "wrap",
    few([own_hook, own_parametrization, pruned, spectral_norm, orthogonal], own_hook, pruned, orthogonal),
)
def test_weights_that_are_made_at_each_pass_are_seen_and_not_replaced(wrap):
    model = made(Net).train()
    model.one, model.two, model.fc = wrap(model.one), wrap(model.two), wrap(model.fc)
    assert not surgery.audit(model).codes & {"never-used", "not-tried"}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    model.eval()
    prefix, suffix = surgery.split_at(model, "stage2")
    assert torch.equal(suffix(prefix(X)), model(X))
    for change in (
        lambda: surgery.replace_stem(model, 1),
        lambda: surgery.replace_head(model, 3),
        lambda: surgery.truncate(model, "stage2"),
    ):
        before = model(X)
        with pytest.raises(LearnerError, match="is made at each pass"):
            change()
        assert torch.equal(model(X), before)


class Cosine(nn.Linear):
    """A head that compares directions, with a scale for each class."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes, bias=False)
        self.scale = nn.Parameter(torch.full((classes,), 4.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class Distances(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(x, self.weight).square()


class Tempered(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0.1


class Counting(nn.Linear):
    """Adds to each score what the other classes have: it cannot be told from outside how it grows."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores - scores.mean(1, keepdim=True)


@pytest.mark.parametrize("kind", [Cosine, Distances, Tempered])
@pytest.mark.parametrize("classes", [3, 9])
def test_a_head_of_a_class_of_its_own_stays_of_that_class(kind, classes):
    model = made(Net)
    model.fc = kind(8, 5)
    old = model.fc.weight
    surgery.replace_head(model, classes)
    assert type(model.fc) is kind
    assert model(X).shape == (4, classes)
    assert all(p.requires_grad for p in model.fc.parameters())
    assert not torch.equal(model.fc.weight[:3], old[:3])


class Shares(nn.Linear):
    """Gives shares that add up to 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Longest(nn.Linear):
    """Gives scores of one length."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(super().forward(x))


@pytest.mark.parametrize("kind", [Counting, Shares, Longest])
def test_a_head_that_cannot_be_made_for_other_classes_is_refused(kind):
    model = made(Net)
    model.fc = kind(8, 5)
    head = model.fc
    with pytest.raises(LearnerError, match=f"{kind.__name__}, which cannot be made"):
        surgery.replace_head(model, 3)
    assert model.fc is head


class WithAuxiliary(Net):
    """Gives the scores of two heads in both modes, as `how` says."""

    how = staticmethod(lambda main, other: (main, other))

    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(8, 5)

    def forward(self, x):
        x = self.norm(self.two(self.one(x).relu())).relu()
        return self.how(self.fc(self.three(x).relu().mean((2, 3))), self.aux(x.mean((2, 3))))


class InADict(WithAuxiliary):
    how = staticmethod(lambda main, other: {"logits": main, "aux": other})


class InAList(WithAuxiliary):
    how = staticmethod(lambda main, other: [main, [other]])


class KeptAsAnAttribute(WithAuxiliary):
    kept: Any = None

    def how(self, main, other):
        self.kept = other
        return main


class KeptInTrainingInADict(KeptAsAnAttribute):
    def how(self, main, other):
        if self.training:
            self.kept = {"early": other}
        return main


class KeptByAModuleWithin(KeptAsAnAttribute):
    def how(self, main, other):
        self.norm.kept = [other]
        return main


@pytest.mark.parametrize(
    "kind",
    [WithAuxiliary, InADict, InAList, KeptAsAnAttribute, KeptInTrainingInADict, KeptByAModuleWithin],
)
def test_auxiliary_heads_that_are_used_in_both_modes_are_replaced_too(kind):
    assert "never-used" not in surgery.audit(made(kind)).codes
    model = surgery.replace_head(made(kind), 3)
    assert (model.fc.out_features, model.aux.out_features) == (3, 3)


class ByHand(WithAuxiliary):
    def __init__(self):
        super().__init__()
        del self.aux
        self.others = nn.Parameter(torch.randn(5, 8))

    def aux(self, x):
        return F.linear(x, self.others)


class ByHandAndKept(ByHand):
    def how(self, main, other):
        self.kept = other
        return main


class ByHandAndKeptInTraining(ByHand):
    def how(self, main, other):
        self.kept = other if self.training else None
        return main


class ByHandAndKeptInEvaluation(ByHand):
    def how(self, main, other):
        self.kept = None if self.training else other
        return main


@pytest.mark.parametrize("kind", [ByHand, ByHandAndKept, ByHandAndKeptInTraining, ByHandAndKeptInEvaluation])
def test_an_auxiliary_head_that_is_no_layer_is_refused(kind):
    model = made(kind)
    with pytest.raises(LearnerError, match="other scores"):
        surgery.replace_head(model, 3)
    assert model.fc.out_features == 5


# What surgery cannot work on is told in words.


class TwoInputs(Net):
    def forward(self, x, mask):
        return super().forward(x) * mask


def exported() -> nn.Module:
    return torch.export.export(made(Net).eval(), (X,)).module()


UNUSABLE = {
    "lazy": lambda: nn.Sequential(
        nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5)
    ),
    "two inputs": TwoInputs,
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))),
    "traced": lambda: torch.jit.trace(made(Net).eval(), X),
    "exported": exported,
}


@pytest.mark.filterwarnings("ignore")  # of torch.jit
@pytest.mark.parametrize("form", UNUSABLE)
def test_a_model_that_surgery_cannot_use_is_told_in_words(form):
    model = UNUSABLE[form]()
    for act in (
        surgery.stages,
        surgery.audit,
        lambda m: surgery.split_at(m, "head"),
        lambda m: surgery.freeze_to(m, "head"),
        lambda m: surgery.freeze(m, "*"),
        lambda m: surgery.replace_head(m, 3),
        lambda m: surgery.replace_stem(m, 1),
        lambda m: surgery.truncate(m, "stage1"),
        lambda m: surgery.param_groups(m, 0.1),
    ):
        with pytest.raises(LearnerError, match=r"lazy|needs x and mask|scripted|[Ee]xported"):
            act(model)


class ByItsName(Net):
    def forward(self, *, images):
        return super().forward(images)


class ADict(Net):
    def forward(self, batch):
        return super().forward(batch["image"])


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Net()


CANNOT_RUN: dict[str, Any] = {
    **{form: UNUSABLE[form] for form in ("lazy", "two inputs", "exported")},
    "by its name": ByItsName,
    "a dict": ADict,
    "meta": on_meta,
}


@pytest.mark.filterwarnings("ignore")  # of torch.export
@pytest.mark.parametrize("form", CANNOT_RUN)
def test_running_and_training_say_it_too(form):
    model, images = CANNOT_RUN[form](), tiny_data()
    words = (
        r"lazy|needs (x and mask|images)|[Ee]xported|a batch alone|no values|could not run|cannot be followed"
    )
    for act in (
        lambda: train.predict(model, images.val),
        lambda: train.evaluate(model, images.val),
        lambda: train.fit(model, images, train.Recipe.finetune(epochs=1)),
        lambda: train.fit(model, images, train.Recipe.probe(epochs=1)),
        lambda: features.extract(model, images.val, at="head"),
        lambda: explain.grad_cam(model, X[:3]),
        lambda: explain.occlusion(model, X[:1]),
    ):
        with pytest.raises(LearnerError, match=words):
            act()


class Prompted(Net):
    def __init__(self):
        super().__init__()
        self.prompt = nn.Parameter(torch.randn(1, 8, 1, 1))

    def between(self, x):
        return x + self.prompt.expand(x.shape[0], -1, -1, -1)


class PromptedByLen(Prompted):
    def between(self, x):
        return x + self.prompt.expand(len(x), -1, -1, -1)


def test_the_number_of_images_can_be_followed_as_a_shape_and_len_is_told_so():
    model = made(Prompted).eval()
    prefix, suffix = surgery.split_at(model, "head")
    assert torch.equal(suffix(prefix(X)), model(X))
    with pytest.raises(LearnerError, match=r"x\.shape\[0\] can be followed"):
        surgery.stages(made(PromptedByLen))


# Compiled modules.


COMPILED = {
    "a layer": (Net, "two"),
    "what is opened": (Nested, "net"),
    "the head": (Net, "fc"),
}


@pytest.mark.filterwarnings("ignore")  # of torch.compile
@pytest.mark.parametrize("form", few(COMPILED, "what is opened", "the head"))
def test_a_compiled_part_is_seen_as_what_it_compiles(form):
    kind, name = COMPILED[form]
    model, plain = made(kind).eval(), made(kind).eval()
    setattr(model, name, torch.compile(getattr(model, name), backend="eager"))
    assert [s.num_params for s in surgery.stages(model)] == [s.num_params for s in surgery.stages(plain)]
    assert surgery.audit(model.train()).codes == surgery.audit(plain.train()).codes
    prefix, suffix = surgery.split_at(model.eval(), "head")
    assert torch.allclose(suffix(prefix(X)), plain.eval()(X), atol=1e-6)
    rows = features.extract(model, tiny_data().val, at="head")["head"]
    assert np.allclose(rows, features.extract(plain, tiny_data().val, at="head")["head"], atol=1e-5)
    assert surgery.replace_head(model, 3)(X).shape == (4, 3)


# What was found out about a model is used for others that are made alike, and for no others.


class Pooled(Net):
    """A network with settings that no shape of a weight shows."""

    def __init__(self, *, stride: int = 1, pool: Any = F.avg_pool2d, classes: int = 5) -> None:
        super().__init__()
        self.stride, self.pool, self.fc = stride, pool, nn.Linear(8, classes)

    def between(self, x: Tensor) -> Tensor:
        return self.pool(x, 2, self.stride)


def pooled(**settings: Any) -> nn.Module:
    return models.describe(Pooled(**settings), input_size=32)


def pools_by_method() -> nn.Module:
    net = pooled()
    net.between = types.MethodType(lambda self, x: F.max_pool2d(x, 4, 2), net)  # type: ignore[assignment]
    return net


def with_a_shared_bias() -> nn.Module:
    net = pooled()
    net.three.bias = net.two.bias  # type: ignore[union-attr]
    return net


# Made otherwise -> height of the maps that leave stage2, and the number of parameters.
OTHERS = {
    "another stride": (lambda: pooled(stride=2), 4, 1_053),
    "another function": (lambda: pooled(pool=functools.partial(F.avg_pool2d, padding=1)), 9, 1_053),
    "a method of its own": (pools_by_method, 3, 1_053),
    "a shared bias": (with_a_shared_bias, 7, 1_045),
    "other classes": (lambda: pooled(classes=2), 7, 1_026),
}


def test_models_that_differ_in_their_weights_alone_are_followed_once():
    first, second = pooled(), pooled()
    assert not torch.equal(first.one.weight, second.one.weight)
    assert surgery.stages(second) is surgery.stages(first)
    prefix, suffix = surgery.split_at(second.eval(), "head")
    assert torch.equal(suffix(prefix(X)), second(X))


@pytest.mark.parametrize("kind", OTHERS)
def test_models_that_differ_in_more_are_followed_anew(kind):
    make, height, parameters = OTHERS[kind]
    known, found = surgery.stages(pooled()), surgery.stages(make())
    assert (known["stage2"].map_size, sum(s.num_params for s in known)) == ((7, 7), 1_053)
    assert (found["stage2"].map_size, sum(s.num_params for s in found)) == ((height, height), parameters)
