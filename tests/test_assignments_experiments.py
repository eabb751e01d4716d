"""An experiment that was not run, or whose numbers were made up, is seen; one that was run passes."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tlutils import checks
from tlutils.checks import assignment_01, assignment_02, assignment_03, assignment_04, assignment_05


def says(check, *inputs):
    try:
        check(*inputs)
    except checks.Mistake as mistake:
        return str(mistake)
    return ""


def finetuned():
    """The table of an experiment, its last network, and images of which that gets 8 of 10 right."""
    images = torch.eye(2).repeat(5, 1)
    labels = images.argmax(1)
    labels[:2] = 1 - labels[:2]
    sizes = {"head": 10, "all": 90, "scratch": 90}
    table = [
        {"strategy": name, "seed": seed, "parameters": sizes[name], "val": 0.5 if name == "scratch" else 0.8}
        for seed in range(2)
        for name in ("scratch", "head", "all")
    ]
    return table, nn.Identity(), [(images, labels)]


def every(**values):
    return lambda table: [row.update(values) for row in table]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda table: None, ""),
        (lambda table: table.clear(), "no run"),
        (lambda table: table.pop(0), "the same seeds"),
        (lambda table: table.append(dict(table[0])), "the same seeds"),
        (lambda table: table.__delitem__(slice(0, 3)), "two at least"),
        (every(seed=0), "the same seeds"),
        (lambda table: table[0].update(val=80), "between 0 and 1"),
        (every(parameters=90), "fewer parameters"),
        (lambda table: table[-1].update(val=0.97), "comes from a run"),
        (lambda table: [row.update(val=0.5) for row in table[:-1]], "with every seed that we tried"),
    ],
)
def test_finetuning(change, word):
    table, model, loader = finetuned()
    change(table)
    said = says(assignment_01.check_experiment, table, model, loader)
    assert word in said
    assert bool(word) == bool(said)


def probes():
    rng = np.random.default_rng(0)
    y_train, y_val = np.arange(40) % 2, np.arange(30) % 2
    features = {
        name: tuple(rng.normal(0, 1, (len(y), 6)) + gap * y[:, None] for y in (y_train, y_val))
        for name, gap in (("pretrained", 3), ("random", 0.5), ("pixels", 0))
    }
    results = {name: np.ones(30) for name in features}
    return results, features, y_train, y_val


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda results: None, ""),
        (lambda results: results.pop("random"), "A control is missing: random"),
        (lambda results: results.pop("pixels"), "A control is missing: pixels"),
        (lambda results: results.update(pixels=np.ones(29)), "30 validation images"),
        (lambda results: results.update(random=np.full(30, 0.8)), "each 0 or 1"),
        (lambda results: results.update(random=100), "each 0 or 1"),
        (lambda results: results.update(pretrained=np.arange(30) % 2), "another one on the same features"),
        (lambda results: results.update(pretrained=np.zeros(30)), "another one on the same features"),
    ],
)
def test_probing(change, word):
    results, *rest = probes()
    change(results)
    said = says(assignment_02.check_experiment, results, *rest)
    assert word in said
    assert bool(word) == bool(said)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"fooled": lambda x: x["image"]}, "was not changed"),
        ({"target": lambda x: 0}, "was asked for"),
        ({"fooled": lambda x: x["fooled"] - 5}, "not a small change"),
        ({"drawn": lambda x: -x["drawn"]}, "does not see the class"),
        ({"drawn": lambda x: x["drawn"] * 20}, "no photograph has"),
        ({"maps": lambda x: x["maps"][0]}, "a number for each pixel"),
        ({"maps": lambda x: -x["maps"]}, "none is negative"),
        ({"maps": lambda x: x["image"]}, "a number for each pixel"),
    ],
)
def test_visualizing(change, word):
    head = nn.Linear(48, 2, bias=False)
    head.weight.data = torch.stack([torch.ones(48), -torch.ones(48)])
    image = torch.full((1, 3, 4, 4), 0.5) * torch.tensor([1.0, -1, 1, -1]) + 0.01
    x = {
        "model": nn.Sequential(nn.Flatten(), head),
        "image": image,
        "fooled": image - 0.05,
        "target": 1,
        "drawn": torch.full((1, 3, 4, 4), -0.9),
        "maps": torch.ones(1, 4, 4),
    }
    changed = x | {name: value(x) for name, value in change.items()}
    said = says(assignment_03.check_experiment, *changed.values())
    assert word in said
    assert bool(word) == bool(said)


def measured():
    rng = np.random.default_rng(0)
    table = [
        {"data": data, "labels": labels, "seed": seed, "strategy": strategy, "val": 0.6 + 0.2 * rng.random()}
        for data, few in (("scenes", (3, 10)), ("elpv-defects", (5, 20)))
        for labels in few
        for seed in range(5)
        for strategy in ("early", "late")
    ]
    return table, {(row["data"], row["labels"]): "a tie" for row in table}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda table, verdicts: None, ""),
        (lambda table, verdicts: table.clear(), "no run"),
        (lambda table, verdicts: table.pop(), "missing or doubled"),
        (lambda table, verdicts: table.append(dict(table[0])), "missing or doubled"),
        (lambda table, verdicts: table[0].update(seed=9), "missing or doubled"),
        (lambda table, verdicts: table.__delitem__(slice(20, 40)), "Four cells"),
        (lambda table, verdicts: table[0].update(val=60), "between 0 and 1"),
        (lambda table, verdicts: [row.update(val=0.7) for row in table], "All runs are alike"),
        (lambda table, verdicts: [row.update(val=row["val"] / 3) for row in table], "more than this"),
        (lambda table, verdicts: verdicts.popitem(), "A cell has no verdict"),
    ],
)
def test_deciding(change, word):
    table, verdicts = copy.deepcopy(measured())
    change(table, verdicts)
    said = says(assignment_04.check_experiment, table, verdicts)
    assert word in said
    assert bool(word) == bool(said)


def reported():
    """An experiment on twenty photographs with two images each, of which the probe gets 6 of 8 right."""
    groups = np.repeat([f"p{k:02d}" for k in range(20)], 2)
    sides = np.repeat(["train", "val", "test"], [24, 8, 8])
    part = SimpleNamespace(images=torch.eye(2).repeat(4, 1), labels=np.tile([0, 1], 4), groups=groups[:8])
    part.labels[:2] = 1 - part.labels[:2]
    names = ("majority", "pixels", "random", "probe", "partial", "finetune")
    table = [
        {"strategy": name, "seed": seed, "right": np.arange(8) >= place}
        for place, name in enumerate(names)
        for seed in range(2)
    ]
    return {
        "sides": sides,
        "groups": groups,
        "table": table,
        "val": part,
        "chosen": "probe",
        "predict": torch.Tensor.numpy,
        "test": part,
        "line": "probe: 0.750 [0.000, 1.000] on 4 photographs",
    }


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x: None, ""),
        (lambda x: x["table"].clear(), "no run"),
        (lambda x: x["sides"].__setitem__(0, "test"), "on two sides"),
        (lambda x: x["sides"].__setitem__(24, "train"), "on two sides"),
        (lambda x: x["table"].__delitem__(slice(0, 2)), "missing: majority"),
        (lambda x: x["table"].__delitem__(slice(2, 6)), "missing: pixels, random"),
        (lambda x: x["table"].pop(), "the same seeds"),
        (lambda x: x["table"].append(dict(x["table"][0])), "the same seeds"),
        (lambda x: x["table"].__delitem__(slice(1, None, 2)), "two at least"),
        (lambda x: x["table"][0].update(right=0.8), "for each validation image"),
        (lambda x: x["table"][0].update(right=np.full(8, 0.5)), "for each validation image"),
        (lambda x: x["table"][0].update(right=np.ones(7)), "for each validation image"),
        (lambda x: [row.update(right=np.ones(8)) for row in x["table"]], "right on the same images"),
        (lambda x: x.update(chosen="wide"), "no strategy 'wide'"),
        (lambda x: x.update(chosen="partial"), "comes from a run"),
        (lambda x: x.update(line=x["line"].replace("0.750", "0.950")), "comes from a run"),
        (lambda x: x.update(predict=lambda images: 1 - images.numpy()), "comes from a run"),
    ],
)
def test_reporting(change, word):
    experiment = reported()
    change(experiment)
    said = says(assignment_05.check_experiment, *experiment.values())
    assert word in said
    assert bool(word) == bool(said)
