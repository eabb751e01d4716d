"""Lesson 04: what it writes out is what the library does."""

import copy
from math import ceil, cos, pi
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_net
from torch import nn
from torch.nn import functional as F

from tlutils import data, metrics, models, runtime, train

LESSON = Path(__file__).parent.parent / "notebooks" / "04_full_finetuning.ipynb"


@pytest.fixture(scope="module")
def written():
    """What the lesson writes out: its loop and CKA."""
    names = {"np": np, "torch": torch, "nn": nn, "F": F, "runtime": runtime, "copy": copy}
    names |= {"ceil": ceil, "cos": cos, "pi": pi}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.startswith(
            ("def fresh", "def factor", "def finetune_by_hand")
        ):
            exec(cell.source, names)
        elif "def cka(" in cell.source:
            exec(cell.source[cell.source.index("def cka(") :], names)
    return names


def test_the_cka_of_the_lesson_is_that_of_the_library(written):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)) + 2
    y = x[:, :4] + rng.normal(size=(50, 4))
    assert written["cka"](x, y) == pytest.approx(metrics.cka(x, y))


class Images:
    """Images of noise in memory, as a split."""

    def __init__(self, number):
        rng = np.random.default_rng(0)
        self.images = [
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)) for _ in range(number)
        ]
        self.labels, self.classes = [i % 3 for i in range(number)], ["a", "b", "c"]
        self.fingerprint = f"noise {number}"

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def test_the_loop_of_the_lesson_and_train_fit_reach_the_same_weights(written):
    net = models.describe(tiny_net(), input_size=(3, 32, 32), mean=0.5, std=0.25)
    (head,) = (name for name, module in net.named_modules() if isinstance(module, nn.Linear))
    images, by_hand, by_fit = Images(11), copy.deepcopy(net), copy.deepcopy(net)
    prepare = data.transform_for(net)
    x, y = torch.stack([prepare(image) for image, _ in images]), torch.tensor(images.labels)
    same = {"epochs": 2, "lr": 1e-3, "head_lr": 1e-2, "seed": 5}
    written["finetune_by_hand"](by_hand, by_hand.get_submodule(head), x, y, **same, batch=4)
    recipe = train.Recipe.finetune(batch_size=4, freeze_batchnorm=True, weight_decay=0, keep="last", **same)
    train.fit(by_fit, SimpleNamespace(train=images, val=Images(0), classes=images.classes), recipe)
    for name, value in by_fit.state_dict().items():
        assert torch.allclose(by_hand.state_dict()[name], value, atol=1e-5), name
    moved = [n for n, p in by_hand.named_parameters() if not torch.equal(p, net.get_parameter(n))]
    assert any(n.startswith(head) for n in moved)
    assert len(moved) > 2
