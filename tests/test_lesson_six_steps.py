"""What lesson 00 writes out by hand does the same as the tools that later lessons import."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tlutils import data, models, probe, surgery

LESSON = Path(__file__).parent.parent / "notebooks" / "00_six_steps.ipynb"


@pytest.fixture(scope="module")
def written_out():
    """The functions of the lesson, as the learner has them after running its cells."""
    names = {"torch": torch, "np": np, "nn": nn, "F": F}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code":
            parts = ast.parse(cell.source).body
            defined = [part for part in parts if isinstance(part, ast.FunctionDef | ast.ClassDef)]
            exec(compile(ast.Module(defined, type_ignores=[]), cell.id, "exec"), names)
    return names


def test_the_gallery_shows_both_kinds_of_wafer_of_both_classes(written_out):
    cells, wafers = data.load("elpv-defects"), data.load("elpv-wafers")
    splits = wafers.train, wafers.val, wafers.test
    kind = {p: k for split in splits for p, k in zip(split.paths, split.labels, strict=True)}
    for rows in written_out["gallery"](cells.train).values():
        assert 2 <= sum(kind[cells.train.paths[i]] for i in rows) <= 4


def test_freezing_by_hand_holds_what_freeze_to_holds(written_out):
    by_hand, by_tool = (models.load("resnet18", pretrained=False, input_size=64) for _ in range(2))
    backbone, _ = surgery.split_at(by_hand, "head")
    written_out["freeze"](backbone)
    surgery.freeze_to(by_tool, "head")
    flags = [[p.requires_grad for p in model.parameters()] for model in (by_hand, by_tool)]
    assert flags[0] == flags[1]
    assert written_out["trainable"](by_hand) == by_tool.fc.weight.numel() + by_tool.fc.bias.numel()


def test_batchnorm_frozen_by_hand_is_what_freeze_batchnorm_freezes(written_out):
    by_hand, by_tool = (models.load("resnet18", pretrained=False, input_size=64) for _ in range(2))
    surgery.freeze_batchnorm(by_tool)
    written_out["freeze_batchnorm"](by_hand.train())
    by_tool.train()
    for way in (
        lambda m: [p.requires_grad for p in m.parameters()],
        lambda m: [x.training for x in m.modules()],
    ):
        assert way(by_hand) == way(by_tool)
    before = by_hand.bn1.running_mean.clone()
    by_hand(torch.rand(4, 3, 64, 64)).sum().backward()
    assert torch.equal(by_hand.bn1.running_mean, before)
    assert by_hand.bn1.weight.grad is None
    assert by_hand.conv1.weight.grad is not None


def test_the_head_trained_by_hand_agrees_with_the_solved_probe(written_out):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    features = rng.normal(size=(400, 8)).astype(np.float32)
    features[:, 0] += 1.5 * labels
    rows = rng.permutation(400)
    x, y = torch.from_numpy(features[rows]), torch.from_numpy(labels[rows])
    train, val = (x[:300], y[:300]), (x[300:], y[300:])
    torch.manual_seed(0)
    head, history = written_out["train_head"](train, val, 2)
    solved = probe.fit_probe(x[:300].numpy(), y[:300].numpy())
    with torch.no_grad():
        by_hand = head(x[300:]).argmax(1).numpy()
    assert (by_hand == solved.predict(x[300:].numpy())).mean() > 0.95
    assert history["val"][-1] == pytest.approx((by_hand == y[300:].numpy()).mean())
