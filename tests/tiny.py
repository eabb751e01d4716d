"""A data set and a network small enough to train in a blink, for the tests of training."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from tlutils import models, runtime, train
from tlutils.train import Recipe

SIDE = 16


@dataclass(eq=False)
class TinySplit:
    """Noise with a patch whose colour tells the class, drawn from its number: nothing lies on disk."""

    name: str
    labels: list[int]
    classes: list[str]
    offset: int = 0
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def paths(self) -> list[str]:
        return [f"{self.name}/{i}.png" for i in range(len(self))]

    @property
    def images_read(self) -> int:
        return len(self.reads)

    @property
    def fingerprint(self) -> str:
        return f"tiny-{self.offset}-{''.join(map(str, self.labels))}"

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        self.reads.append(i)
        pixels = np.random.default_rng(1000 * self.offset + i).integers(
            0, 120, (SIDE, SIDE, 3), dtype=np.uint8
        )
        pixels[4:12, 4:12, self.labels[i]] += 90
        return Image.fromarray(pixels), self.labels[i]


class Untouchable:
    """A test split: whoever looks at it fails."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"training asked the test split for {name}")

    def __len__(self) -> int:
        raise AssertionError("training asked for the size of the test split")


@dataclass
class TinyData:
    train: TinySplit
    val: TinySplit
    classes: list[str]
    test: Any = field(default_factory=Untouchable)
    name: str = "tiny"


def tiny_data(*, train: int = 24, val: int = 12, classes: int = 3) -> TinyData:
    """Images of `classes` classes in turn."""
    names = ["red", "green", "blue"][:classes]
    splits = [
        TinySplit(name, [i % classes for i in range(n)], names, offset)
        for offset, (name, n) in enumerate((("train", train), ("val", val)))
    ]
    return TinyData(splits[0], splits[1], names)


class TinyNet(nn.Module):
    """Two convolutions with BatchNorm, dropout, and a head."""

    def __init__(self, classes: int = 3, *, norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = block(3, 6, norm)
        self.body = block(6, 8, norm)
        self.last = block(8, 8, norm)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.pool(self.last(self.body(self.stem(x))))))


def block(inputs: int, outputs: int, norm: bool) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs) if norm else nn.Identity(), nn.ReLU())


class Between(TinyNet):
    """Does something of its own with the maps of its stem, (B, 6, H, W)."""

    def __init__(self) -> None:
        super().__init__(norm=False)
        self.layer: nn.Module = nn.Identity()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.last(self.body(self.between(self.stem(x))))))


class GroupNormed(Between):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GroupNorm(2, 6)


class InstanceNormed(Between):
    """Keeps statistics of all images, which it uses in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.InstanceNorm2d(6, track_running_stats=True)


class Dropping(Between):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Dropout(0.4)


class FunctionalNorm(Between):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.mean, self.var, training=self.training)


class NormOfItsOwn(Between):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean((0, 2, 3), keepdim=True)) / (0.1 + x.std()) if self.training else x


class MovingCentre(Between):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = self.mean.lerp(x.detach().mean((0, 2, 3)), 0.1)
        return x - self.mean.view(1, 6, 1, 1)


class Attending(Between):
    """A bias of its keys adds the same to all scores of a query, which changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 18)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.layer(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).view(x.shape)


class LeavesALayerOut(Between):
    def __init__(self) -> None:
        super().__init__()
        self.never = nn.Linear(6, 6)


def odd_net(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network of some kind, its weights drawn from `seed`."""
    with runtime.seeded(seed):
        net = kind()
    return models.describe(net.eval(), input_size=(3, SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3)


def tiny_net(classes: int = 3, *, seed: int = 0, norm: bool = True, dropout: float = 0.0) -> nn.Module:
    """A `TinyNet` with weights drawn from `seed`."""
    return odd_net(partial(TinyNet, classes, norm=norm, dropout=dropout), seed)


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights and buffers."""
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two copies are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


FAST = Recipe.finetune(epochs=3, lr=1e-2, head_lr=2e-2, batch_size=7, keep="last")


def trained(recipe, dataset=None, net=None, **options):
    """Return the weights and history after a fit."""
    net = net or tiny_net(dropout=0.2)
    history = train.fit(net, dataset or tiny_data(), recipe, **options)
    return weights(net), history


def recorded(net):
    """Return a list that gets (inputs, output) of each forward pass of `net` in training."""
    seen = []

    def note(module, inputs, output):
        if module.training:
            seen.append((inputs[0].detach().clone(), output))

    net.register_forward_hook(note)
    return seen


def near(one, other, tolerance):
    return all(torch.allclose(one[n].float(), other[n].float(), atol=tolerance, rtol=0) for n in one)
