"""Small networks, each odd in a way that surgery has to bear or to name."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = (3, 64, 64)
"""The size of the images that they take."""


class OddNames(nn.Module):
    """A student's network: four blocks under odd names, a loop, and the rest written out in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.anfang = nn.Conv2d(3, 8, 3, padding=1)
        self.mitte = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.ende = nn.Linear(8 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3
        x = F.max_pool2d(F.relu(self.anfang(x)), 2)
        for layer in self.mitte:
            x = F.max_pool2d(F.relu(layer(x)), 2)
        x = F.dropout(torch.flatten(x, 1), 0.5, training=self.training)
        return self.ende(x)


class Chain(nn.Module):
    """Children in a row, behind a check that looks at the pixels."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.scores = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        if torch.isnan(x).any():
            raise ValueError("not a number in the image")
        return self.scores(self.flat(self.pool(self.second(self.first(x)))))


class Fork(Chain):
    """Takes another way for bright images."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.scores(self.flat(self.pool(self.second(x) if x.mean() > 0 else x)))


class Mismatch(Chain):
    """Its head expects more values than the pool gives."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.flat(self.pool(self.second(self.first(x)))))


class DropsStage(Chain):
    """Leaves a layer out at random while training."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if not self.training or torch.rand(()) < 0.5:
            x = self.second(x)
        return self.scores(self.flat(self.pool(x)))


class InPlace(nn.Module):
    """Its second stage begins by writing into what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.shrink = nn.Sequential(nn.Hardswish(inplace=True), nn.Conv2d(4, 4, 3, 2, 1))
        self.three = nn.Conv2d(4, 4, 3, 2, 1)
        self.scores = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.three(self.shrink(self.one(x))).mean((2, 3)))


class WrongOutput(Chain):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"out": self.first(x)}


class SharedBias(Chain):
    """Adds a bias that no image changes to its maps, twice; it comes from a layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.ones(1, 8, 64, 64))
        self.bias = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias(self.places)
        return self.scores(self.flat(self.pool(self.second(self.first(x) + bias) + bias)))


class Wide(nn.Module):
    """The same network with channels first, with channels last, or on tokens, for images of 64x128 pixels.

    The shape (8, 16, 32) of its maps with channels last does not tell where height and width are: they would
    fit 16x32 places just as well.
    """

    size = (3, 64, 128)

    def __init__(self, layout: str) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, 32, 8, stride=8)
            self.one = Mix(layout)
            self.two = Mix(layout)
            self.three = Mix(layout)
            self.scores = nn.Linear(32, 3)
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        if self.layout != "NCHW":
            x = x.permute(0, 2, 3, 1)
        if self.layout == "NLC":
            x = x.flatten(1, 2)
        x = self.three(self.two(self.one(x)))
        return self.scores(x.mean([i for i, letter in enumerate(self.layout) if letter in "HWL"]))


class Mix(nn.Module):
    """Adds a mixture of its channels to each position; the first channel is always silent."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.mix = nn.Linear(32, 32)
        with torch.no_grad():
            self.mix.weight[0] = self.mix.bias[0] = 0
        self.again = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1) if self.layout == "NCHW" else x
        y = (y + self.again(self.mix(y).relu())) * (torch.arange(32) > 0)
        return y.permute(0, 3, 1, 2) if self.layout == "NCHW" else y


class Windows(Mix):
    """Mixes channels on a flat list of positions, behind which nothing tells height from width."""

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.mix(x.flatten(0, 2)).relu()).view(x.shape)
