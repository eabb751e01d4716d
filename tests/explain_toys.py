"""Small models and a look at their state, for the tests of tlutils.explain."""

from collections import OrderedDict
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn


class Linear(nn.Module):
    """Scores that are plain weighted sums of the pixels, so that every attribution can be derived by hand."""

    def __init__(self, side=8, classes=3):
        super().__init__()
        self.fc = nn.Linear(3 * side * side, classes)
        self.side = side

    def forward(self, x):
        return self.fc(x.flatten(1))

    def weight_of(self, target):
        return self.fc.weight[target].detach().view(3, self.side, self.side)


class Net(nn.Module):
    """Two convolutions, an average and a head; `spelling` is how it writes its ReLUs, same weights."""

    def __init__(self, spelling="modules", classes=5, seed=0, dropout=0.0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.drop = nn.Dropout(dropout)
            self.fc = nn.Linear(12, classes)
            nn.init.normal_(self.bn1.running_mean, std=0.3)
        self.spelling = spelling
        inplace = spelling == "inplace"
        self.relu1 = nn.ReLU(inplace)
        self.relu2 = self.relu1 if spelling == "shared" else nn.ReLU(inplace)

    def act(self, x, module):
        match self.spelling:
            case "functional":
                return F.relu(x)
            case "inplace functional":
                return F.relu(x, inplace=True)
            case "method":
                return x.relu()
            case "inplace method":
                return x.relu_()
            case "clamp":
                return x.clamp(min=0)
            case "statement":  # what it returns is dropped: the tensor itself has changed
                x.relu_()
                return x
            case "hardtanh":
                return F.hardtanh(x, 0.0, 1e6)
        return module(x)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)), self.relu1)
        x = self.act(self.conv2(x), self.relu2)
        return self.fc(self.drop(self.pool(x).flatten(1)))


SPELLINGS = (
    "modules", "inplace", "shared", "functional",
    "inplace functional", "method", "inplace method", "statement",
    "clamp", "hardtanh",
)  # fmt: skip


def images(count=2, side=24, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64).to(dtype)


def state(model):
    """Everything about a model that an explanation must leave as it was."""
    return OrderedDict(
        modes=[m.training for m in model.modules()],
        flags=[p.requires_grad for p in model.parameters()],
        grads=[p.grad is None for p in model.parameters()],
        hooks=[
            len(hooks)
            for m in model.modules()
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
        ],
        values=[t.detach().clone() for t in model.state_dict().values()],
        generator=torch.get_rng_state(),
        recording=torch.is_grad_enabled(),
    )


def same(before, after):
    return before.keys() == after.keys() and all(_same(before[key], after[key]) for key in before)


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@contextmanager
def unchanged(model):
    """Fail unless the block leaves model, flags, modes, hooks, gradients and generator as they were."""
    before = state(model)
    yield
    after = state(model)
    for key in before:
        assert _same(before[key], after[key]), f"{key} changed"
