"""Whatever decides a result changes its fingerprint; what does not leaves it, in another process too."""

import copy
import functools
import importlib
import json
import os
import random
import re
import sys
import types
import warnings

import numpy as np
import processes
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune

from tlutils import fingerprint


class Layer(nn.Module):
    """A layer with settings of all kinds."""

    power = 1

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = F.relu
        self.config = {"scale": [1.0, {"deep": (1, 2)}]}
        self.table = np.ones(3)
        self.chain = [lambda x: x, functools.partial(F.leaky_relu, negative_slope=0.1)]
        self._hidden = Slotted(1)

    def forward(self, x):
        return self.helper(self.act(self.conv(x)))

    def helper(self, x):
        return x * LEVEL


LEVEL = 1.0


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def silence(module, args, output):
    return output * 0


def with_deep(model):
    model.config["scale"][1]["deep"] = (1, 3)


def with_class_setting(model):
    model.__class__ = type("Layer", (Layer,), {"power": 2, "__module__": __name__, "__qualname__": "Layer"})


def with_helper(model):
    body = {"helper": lambda self, x: x + 1, "__module__": __name__, "__qualname__": "Layer"}
    model.__class__ = type("Layer", (Layer,), body)


CHANGES = {
    "a deep setting": with_deep,
    "a setting of its class": with_class_setting,
    "a helper method": with_helper,
    "one number of an array": lambda m: m.table.__setitem__(1, 2),
    "a slot": lambda m: setattr(m._hidden, "value", 2),
    "a function in a list": lambda m: m.chain.__setitem__(0, lambda x: x + 1),
    "an argument of a partial": lambda m: m.chain[1].keywords.update(negative_slope=0.2),
    "a method of the instance": lambda m: setattr(m, "helper", lambda x: x),
    "a hook": lambda m: m.conv.register_forward_hook(silence),
    "a hook before": lambda m: m.register_forward_pre_hook(lambda module, args: args),
    "a weight": lambda m: m.conv.weight.data[0, 0, 0, 0].add_(1e-6),
    "a mask": lambda m: prune.l1_unstructured(m.conv, "weight", 0.5),
    "a parametrization": lambda m: parametrize.register_parametrization(m.conv, "weight", nn.Identity()),
    "a layer": lambda m: setattr(m, "extra", nn.ReLU()),
    "the type": lambda m: m.half(),
    "an attribute of a weight": lambda m: setattr(m.conv.weight, "scale", 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_model_is_made_of_takes_part(change):
    model = Layer()
    before = fingerprint.of(model)
    assert fingerprint.of(copy.deepcopy(model)) == before
    CHANGES[change](model)
    assert fingerprint.of(model) != before


def test_modes_and_flags_of_training_take_no_part():
    model = Layer()
    before = fingerprint.of(model)
    model.eval().requires_grad_(False)
    assert fingerprint.of(model) == before


def test_the_layout_in_memory_takes_no_part():
    for tensor in (
        torch.randn(2, 3, 4, 5),
        torch.arange(120).view(2, 3, 4, 5),
        torch.randn(2, 3, 4, 5).half(),
    ):
        for other in (tensor.to(memory_format=torch.channels_last), tensor.mT.contiguous().mT):
            assert other.stride() != tensor.stride()
            assert fingerprint.of(other) == fingerprint.of(tensor)
            assert fingerprint.of(nn.Parameter(other.float())) == fingerprint.of(nn.Parameter(tensor.float()))


def test_a_global_that_code_reads_takes_part_through_every_call(monkeypatch):
    def reads(x):
        return Layer.helper(None, x)

    for thing in (reads, Layer.helper, Layer(), functools.partial(reads, 1)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            before = fingerprint.of(thing)
        monkeypatch.setitem(globals(), "LEVEL", 2.0)
        assert fingerprint.of(thing) != before
        monkeypatch.undo()
        assert fingerprint.of(thing) == before


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A package of the learner's, with a module of settings that knows the package again."""
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "config.py").write_text(
        "import own_package\nSCALE = 1\nOTHER = 1\nclass Deep:\n    SCALE = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_package.config", "own_package"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("own_package.config")


def reader(expression, **known):
    """A function of a notebook that reads `expression`."""
    world = known | {"__name__": "__main__"}
    exec(f"def scaled(x):\n    return x * {expression}", world)
    return world["scaled"]


@pytest.mark.parametrize(
    ("expression", "through"),
    [
        ("config.SCALE", "config"),
        ("package.config.SCALE", "package"),
        ("package.config.package.config.Deep.SCALE", "package"),
        ("package.config.Deep.SCALE", "package"),
    ],
)
def test_a_setting_in_a_module_of_ones_own_takes_part(own_package, expression, through):
    config, package = own_package, sys.modules["own_package"]
    config.package = package
    scaled = reader(expression, **{through: {"config": config, "package": package}[through]})
    before = fingerprint.of(scaled)
    config.OTHER = 2
    assert fingerprint.of(scaled) == before
    config.Deep.SCALE = config.SCALE = 2
    assert fingerprint.of(scaled) != before


def cached(value):
    @functools.lru_cache
    def helper():
        return value

    return helper


def attributed(value):
    def helper(x):
        return x * helper.factor

    helper.factor = value
    return helper


class Refuses:
    """It cannot be pickled."""

    def __init__(self, value):
        self.value = value

    def __reduce_ex__(self, protocol):
        raise TypeError


class Drops(Refuses):
    """It can be pickled, without its value."""

    def __reduce_ex__(self, protocol):
        return Drops, (0,)


class RefusesWithSlots:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    __reduce_ex__ = Refuses.__reduce_ex__


def scripted(value):
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(double if value == 2 else treble)


def traced(value):
    factor = torch.full((3,), float(value))
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(lambda x: x * factor, torch.ones(3))


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2.0


def treble(x: torch.Tensor) -> torch.Tensor:
    return x * 3.0


def of_a_class(value):
    return type("Made", (type,), {"K": value, "__module__": __name__})("Of", (), {"__module__": __name__})


def module(value):
    made = types.ModuleType("settings_of_ones_own")
    made.SCALE = value
    return made


def tensor_of_a_class(value):
    class Marked(torch.Tensor):
        """No `pickle` finds it."""

    return torch.full((2,), float(value)).as_subclass(Marked)


def with_an_attribute(thing, value):
    thing.scale = value
    return thing


def nested(value):
    with warnings.catch_warnings(action="ignore"):  # they are a prototype
        return torch.nested.nested_tensor([torch.full((2,), float(value))])


class Grid(np.ndarray):
    """An array that may hold more than its numbers."""


HOLDERS = {
    "a regular expression": lambda value: re.compile("a" * value),
    "the mask of an array": lambda value: np.ma.masked_array([1, 2], mask=[value == 2, False]),
    "an attribute of an array": lambda value: with_an_attribute(np.ones(2).view(Grid), value),
    "an attribute of a tensor": lambda value: with_an_attribute(torch.ones(2), value),
    "a tensor of a class within a function": tensor_of_a_class,
    "a nested tensor": nested,
    "a cached function": cached,
    "an attribute of a function": attributed,
    "a view of a dict": lambda value: types.MappingProxyType({"k": value}),
    "the values of a dict": lambda value: {"k": value}.values(),
    "a view of bytes": lambda value: memoryview(bytes([value])),
    "an object that refuses to be pickled": Refuses,
    "an object that drops something": Drops,
    "an object with slots that refuses": RefusesWithSlots,
    "a scripted function": scripted,
    "a traced function": traced,
    "an attribute of a class's class": of_a_class,
    "a module that is held": module,
}


@pytest.mark.parametrize("held", HOLDERS)
def test_what_holds_a_value_goes_by_it(held):
    def make(value):
        holder = HOLDERS[held](value)
        return lambda x: holder(x)

    assert fingerprint.of(make(2)) == fingerprint.of(make(2))
    assert fingerprint.of(make(2)) != fingerprint.of(make(3))
    model = nn.Sequential(nn.ReLU())
    model[0].holder = HOLDERS[held](2)
    before = fingerprint.of(model)
    model[0].holder = HOLDERS[held](3)
    assert fingerprint.of(model) != before


@pytest.mark.parametrize(
    "expression", ["os.environ['SCALE_HERE']", "os.getenv('SCALE_HERE', '1')", "environ.get('SCALE_HERE')"]
)
def test_a_variable_of_the_environment_that_code_names_takes_part(monkeypatch, expression):
    scaled = reader(expression, os=os, environ=os.environ)
    before = fingerprint.of(scaled)
    monkeypatch.setenv("OTHER_HERE", "2")
    assert fingerprint.of(scaled) == before
    monkeypatch.setenv("SCALE_HERE", "2")
    assert fingerprint.of(scaled) != before


def test_a_quantised_layer_goes_by_its_packed_weights():
    def quantised(weight):
        model = nn.Sequential(nn.Linear(4, 4))
        with torch.no_grad():
            model[0].weight.fill_(weight)
            model[0].bias.zero_()
        with warnings.catch_warnings(action="ignore"):
            return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)

    assert fingerprint.of(quantised(1.0)) == fingerprint.of(quantised(1.0))
    assert fingerprint.of(quantised(1.0)) != fingerprint.of(quantised(2.0))


def test_a_scripted_part_goes_by_its_code_and_tensors():
    def scripted(module):
        with warnings.catch_warnings(action="ignore"):
            return nn.Sequential(torch.jit.script(module))

    for wrap in (lambda layer: layer, nn.Sequential, lambda layer: nn.Sequential(nn.Sequential(layer))):
        assert fingerprint.of(scripted(wrap(nn.ELU(0.1)))) == fingerprint.of(scripted(wrap(nn.ELU(0.1))))
        assert fingerprint.of(scripted(wrap(nn.ELU(0.1)))) != fingerprint.of(scripted(wrap(nn.ELU(0.2))))


@pytest.mark.parametrize(
    "make",
    [
        lambda: random.Random(0),
        lambda: np.random.default_rng(0),
        lambda: np.random.RandomState(0),
        lambda: torch.Generator(),
    ],
    ids=["Python", "NumPy", "NumPy, old", "torch"],
)
def test_a_generator_of_ones_own_is_found_and_a_draw_is_seen(make):
    model = nn.Sequential(nn.ReLU())
    model[0].noise = {"source": [make()]}
    before = fingerprint.of_settings(model)
    assert len(before.generators) >= 1
    source = model[0].noise["source"][0]
    source.random() if hasattr(source, "random") else torch.rand(1, generator=source)
    assert fingerprint.of_settings(model).generators != before.generators


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, lambda: torch.rand(1), lambda: random.choice("ab")]
)
def test_a_draw_from_a_global_generator_is_seen(draw):
    before = fingerprint.of_generators()
    assert fingerprint.of_generators() == before
    draw()
    assert fingerprint.of_generators() != before


def test_a_model_that_refers_to_itself_has_an_end():
    model = Layer()
    model.trainer = {"model": [model]}
    model.conv.register_forward_hook(model.forward)
    model.again = model.helper
    assert fingerprint.of(model) == fingerprint.of(model)


def test_places_name_module_and_setting():
    one, other = Layer(), Layer()
    other.conv.stride = (2, 2)
    other.chain[0] = lambda x: x - 1
    parts, changed = (fingerprint.of_settings(m).parts for m in (one, other))
    assert {p for p in parts if parts[p] != changed[p]} == {"conv:stride", ":chain 0 code"}


def things():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [
            Layer(),
            functools.partial(silence, None),
            {"a": {1, "b"}},
            Slotted(frozenset("xyz")),
            dis_set,
        ]


def dis_set(x):
    return x in {"several", "names", "whose order", "changes"}


def note(path):
    path.write_text(json.dumps([fingerprint.of(thing) for thing in things()]))


def test_fingerprints_are_the_same_in_another_process(tmp_path):
    assert processes.run(note, tmp_path / "there.json") == 0
    assert json.loads((tmp_path / "there.json").read_text()) == [fingerprint.of(t) for t in things()]
