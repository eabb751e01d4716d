"""Checks of the exercises in lesson 01."""

from collections.abc import Callable

import torch
from torch import Tensor

from .answers import alike, attempt, tell


def check_explained(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether `function(filters, fits)` is the share of energy that each fit explains (K,).

    Both arguments are (K, C, h, w); the share is one of the filter's energy.
    """
    draw = torch.Generator().manual_seed(0)
    filters = torch.randn(5, 3, 3, 3, generator=draw) * torch.tensor([1.0, 2, 3, 4, 5]).view(-1, 1, 1, 1)
    shapes = filters + 4 * torch.randn(5, 3, 3, 3, generator=draw)
    along = (filters * shapes).sum((1, 2, 3), keepdim=True) / shapes.square().sum((1, 2, 3), keepdim=True)
    fits = along * shapes  # as near to the filter as this shape gets
    left, energy, fitted = (v.square().sum((1, 2, 3)) for v in (filters - fits, filters, fits))
    right = 1 - left / energy
    mistakes = {
        "This is the share that is left over. The share explained is one minus it.": left / energy,
        "You divided lengths. Energy is the sum of the squares, without a root.": 1 - (left / energy).sqrt(),
        "You divided lengths of fit and filter. Energy is the sum of the squares.": (fitted / energy).sqrt(),
        "One number for all filters: keep one for each, (K,).": right.mean(),
        "You added up all filters first: keep one share for each, (K,).": 1 - left.sum() / energy.sum(),
        "You divided by the energy of the fit. The share is one of the filter's energy.": 1 - left / fitted,
        "This is the energy of the fit itself. Divide by the filter's.": fitted,
        "This is the energy that is left. Divide by the filter's, and take it from one.": left,
        "The weights are still there: add up their squares in each filter, over colours and places.": (
            1 - (filters - fits).square() / filters.square()
        ),
    }
    found = attempt(function, filters, fits, todo="Return one number a filter, (K,), between 0 and 1.")
    if found is not None:
        tell(found, right, mistakes, praise="one for a perfect fit, zero for a fit that explains nothing.")


def check_dead(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether `function(maps)` says which channels (C,) of maps (N, C, h, w) are dead."""
    maps = torch.arange(1, 1 + 3 * 5 * 2 * 4, dtype=torch.float32).view(3, 5, 2, 4)
    maps[:, 0] = 0  # dead
    maps[0, 1] = 0  # silent on the first image alone
    maps[:, 2, 0] = 0  # half of the places
    maps[:, 4] = 0  # dead
    right = maps.amax((0, 2, 3)) <= 0
    silent = maps.amax((2, 3)) <= 0  # (N, C)
    mistakes = {
        "Your True are the channels that are alive. Dead means: nowhere above zero.": ~right,
        "These are silent on *some* image. Dead means silent on every one.": silent.any(0),
        "These are zero at *some* place. Dead means zero at every place of every image.": (
            (maps <= 0).flatten(2).any(2).any(0)
        ),
        "The images are still there: ask once more, whether a channel is silent on all of them.": silent,
        "This is the share of zeros. A channel is dead when that share is one.": (
            (maps <= 0).float().mean((0, 2, 3))
        ),
        "This is how many there are. Say which: one True or False a channel.": right.sum(),
        "These are their numbers. Say it for each channel: one True or False, (C,).": right.nonzero()[:, 0],
        "You asked over the channels. The channels are the second axis; go over all the others.": (
            maps.amax((1, 2, 3)) <= 0
        ),
    }
    found = attempt(function, maps, todo="Return one True or False a channel, (C,): dead or not.")
    if found is not None:
        tell(found, right, mistakes, praise="not above zero at any place of any image.")


def check_receptive_field(answer: int | None) -> None:
    """Print whether `answer` is the side of what 3×3 with stride 2, then 3×3 convolutions see, in pixels."""
    mistakes = {
        5: "That is right for stride 1. Here the second one's neighbours lie two pixels apart.",
        6: "Two squares of three pixels overlap: count the pixels from the first to the last.",
        9: "Areas do not multiply along a side. Draw one row: which pixels do three neighbours see together?",
        3: "That is what one unit of the first convolution sees. The second sees three such units.",
        49: "That is the area. The question is for one side.",
    }
    hint = "Draw one row of pixels, and what three neighbouring units see of it."
    if answer is None:
        print(f"Not answered yet. {hint}")
    elif answer == 7:
        print("Right: three units, two pixels apart, each three pixels wide: 3 + 2 + 2.")
    else:
        print(mistakes.get(answer if isinstance(answer, int) else 0, f"Not yet. {hint}"))


def check_similar_channels(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether `function(a, b)` is the cosine similarity of two vectors, or which mistake it is."""
    a, b, right = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0]), torch.tensor(0.96)
    mistakes = {
        "Return one number. A sum over the entries is missing.": a * b,
        "Both lengths are right, but a sum over the entries is missing. Return one number.": a * b / 25,
        "That is the dot product: it grows with the length of the vectors. Divide by both lengths.": (a @ b),
        "You divided by one length. Divide by both.": a @ b / 5,
        "That is the distance. Near means a small angle here: divide the dot product by both lengths.": (
            (a - b).norm()
        ),
        "That is one minus the cosine. Alike should be near one.": torch.tensor(0.04),
        "That is the angle itself. Its cosine is asked for.": torch.tensor(0.96).acos(),
    }
    todo = "Return one number for two vectors: 1 when they point the same way."
    found = attempt(function, a, b, todo=todo)
    if found is None:
        return
    longer = attempt(function, 2 * a, b, todo=todo)
    if alike(found, right) and longer is not None and not alike(longer, right):
        print("The result changes when one vector is made longer. Divide by both lengths.")
    else:
        tell(found, right, mistakes, praise="the direction counts, not the length.")


def check_directions(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether `function(eigenvalues)` is the number of directions that a cloud fills."""
    values = torch.tensor([4.0, 2.0, 1.0, 1.0, 0.0])
    squares = values.square().sum()
    mistakes = {
        "Upside down: the square of the sum goes above, the sum of the squares below.": squares / 64,
        "You squared before you added above. There it is the sum that is squared.": torch.tensor(1.0),
        "The square above the line is missing: (the sum of all) squared.": 8 / squares,
        "You took a root below. It is the plain sum of the squares.": 64 / squares.sqrt(),
        "This counts those above zero. A direction that is hardly used should hardly count.": (
            torch.tensor(4.0)
        ),
        "This is the sum, the size of the cloud. A larger cloud fills no more directions.": values.sum(),
        "This measures by the largest alone. Divide the square of the sum by the sum of the squares.": (
            torch.tensor(2.0)
        ),
    }
    found = attempt(function, values, todo="Return one number, between 1 and the number of eigenvalues.")
    if found is not None:
        tell(
            found, 64 / squares, mistakes,
            praise="one when a single direction has it all, D when D directions share alike.",
        )  # fmt: skip
