"""Checks of the exercises in lesson 01c."""

from collections.abc import Callable

import torch
from torch import Tensor

from .answers import attempt, tell


def check_excitement(function: Callable[[Tensor, int], Tensor] | None) -> None:
    """Print whether `function(maps, channel)` is a channel's mean in each image, or which mistake it is."""
    maps = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4).square() / 1000
    mistakes = {
        "One number for the whole batch: keep one for each image, or they cannot be told apart.": (
            maps[:, 1].mean()
        ),
        "The batch comes first: `maps[:, channel]` is the channel of every image.": maps[1].mean((1, 2)),
        "You averaged over all channels: pick one first.": maps.mean((1, 2, 3)),
        "This is the strongest place alone; the mean over all places is asked for.": maps[:, 1].amax((1, 2)),
        "This is the sum: it grows with the size of the picture. Take the mean.": maps[:, 1].sum((1, 2)),
        "The places are still there: average over height and width.": maps[:, 1],
    }
    todo = "Return one number an image: how strongly the channel responds on average."
    found = attempt(function, maps.clone(), 1, todo=todo)
    if found is not None:
        tell(
            found, maps[:, 1].mean((1, 2)), mistakes,
            praise="the mean over height and width of one channel, for each image.",
        )  # fmt: skip


def check_fooling_step(function: Callable[[Tensor, Tensor, float], Tensor] | None) -> None:
    """Print whether `function(picture, gradient, size)` is one step of fooling, for each of N pictures.

    picture (N, 3, H, W) in [0, 1]; a step moves it along its gradient by `size`, root mean square.
    """
    draw = torch.Generator().manual_seed(0)
    picture, size = torch.rand(2, 3, 4, 4, generator=draw), 0.2
    gradient = (1 + torch.randn(2, 3, 4, 4, generator=draw)) * torch.tensor([1.0, 5.0]).view(-1, 1, 1, 1)
    mean_square = gradient.square().mean((1, 2, 3), keepdim=True)
    step = size * gradient / mean_square.sqrt()
    spread, largest = gradient.std((1, 2, 3), keepdim=True), gradient.abs().amax((1, 2, 3), keepdim=True)
    whole = gradient.square().sum((1, 2, 3), keepdim=True).sqrt()
    steps = {
        "The step is as long as the gradient happens to be. Divide by its root mean square.": size * gradient,
        "You went down. Towards the class is up: add the step.": -step,
        "One length for the whole batch: divide each picture's gradient by its own.": (
            size * gradient / gradient.square().mean().sqrt()
        ),
        "You divided by the whole length. Then a pixel of a large picture hardly moves: take the mean.": (
            size * gradient / whole
        ),
        "You divided by the mean square. The root is missing.": size * gradient / mean_square,
        "You divided by the spread around the mean. Here the mean counts: root of the mean square.": (
            size * gradient / spread
        ),
        "You divided by the largest. Then most pixels hardly move: root of the mean square.": (
            size * gradient / largest
        ),
        "You took the sign alone. It works, and is called the fast gradient sign method; here the step keeps "
        "the gradient's direction.": size * gradient.sign(),
    }
    mistakes = {text: (picture + wrong).clamp(0, 1) for text, wrong in steps.items()} | {
        "Some pixels are darker than black or brighter than white: cut off at 0 and 1.": picture + step,
        "This is the step alone. Add it to the picture.": step,
    }
    todo = "Return pictures, (N, 3, H, W): one step further."
    found = attempt(function, picture.clone(), gradient.clone(), size, todo=todo)
    if found is not None:
        tell(
            found,
            (picture + step).clamp(0, 1),
            mistakes,
            praise="a small step, equally long for each picture.",
        )


def check_missed(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether `function(found, wanted)` is the share of `wanted` that is missed, for each image (N,).

    Both are what leaves a stage, (N, C, h, w).
    """
    draw = torch.Generator().manual_seed(0)
    wanted = torch.randn(2, 3, 4, 4, generator=draw) * torch.tensor([1.0, 3.0]).view(-1, 1, 1, 1)
    maps = wanted + torch.randn(2, 3, 4, 4, generator=draw)
    off, length, own = ((v).square().sum((1, 2, 3)) for v in (maps - wanted, wanted, maps))
    right = off / length
    mistakes = {
        "This is the squared distance. Divide by that of what is wanted, or no two stages compare.": off,
        "This is the mean squared error. Divide by the mean square of what is wanted.": off / 48,
        "The squares are missing: the lengths are squared, above and below.": right.sqrt(),
        "You divided by what was found. Divide by what is *wanted*: that stays the same during the search.": (
            off / own
        ),
        "You divided by the length without its square.": off / length.sqrt(),
        "One number for the whole batch: keep one for each image.": right.mean(),
        "You added up all images first: keep one number for each.": off.sum() / length.sum(),
        "Upside down: what is missed goes above.": length / off,
        "This is what was kept. Missed is one minus it.": 1 - right,
        "You took absolute values. The formula has squares.": (
            (maps - wanted).abs().sum((1, 2, 3)) / wanted.abs().sum((1, 2, 3))
        ),
    }
    todo = "Return one number an image, (N,): 0 when all is found."
    found = attempt(function, maps.clone(), wanted.clone(), todo=todo)
    if found is not None:
        tell(found, right, mistakes, praise="zero when all is found, one for a picture that gives nothing.")


def check_dream(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether `function(maps)` is DeepDream's objective (N,), the mean square of maps (N, C, h, w)."""
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    right = maps.square().mean((1, 2, 3))
    mistakes = {
        "This is the mean. What a stage gives below zero would be pulled up, too: square first.": (
            maps.mean((1, 2, 3))
        ),
        "You squared the mean. Square each number, then average.": maps.mean((1, 2, 3)).square(),
        "These are absolute values. Squares make what is strong count more than what is weak.": (
            maps.abs().mean((1, 2, 3))
        ),
        "The sum grows with the picture, and a dream runs through several sizes: take the mean.": (
            maps.square().sum((1, 2, 3))
        ),
        "One number for the whole batch: keep one for each image.": maps.square().mean(),
        "The root is not asked for: the squared length.": right.sqrt(),
        "The channels are still there: average over them, too.": maps.square().mean((2, 3)),
        "You subtracted the mean. DeepDream wants more of all of it.": maps.var((1, 2, 3), correction=0),
    }
    found = attempt(function, maps.clone(), todo="Return one number an image, (N,): how much the stage sees.")
    if found is not None:
        tell(found, right, mistakes, praise="the more a stage sees, the more it counts.")


def check_gram(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether `function(maps)` is the Gram matrix (N, C, C) of maps (N, C, h, w), mean over places."""
    maps = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).view(2, 3, 2, 4).sin()
    flat = maps.flatten(2)  # (N, C, places)
    whole = flat @ flat.mT / flat.shape[2]
    centred = flat - flat.mean(2, keepdim=True)
    mistakes = {
        "This is the sum over the places. Take the mean, so that a large picture has the same texture.": (
            flat @ flat.mT
        ),
        "This compares places with places. Channels with channels are asked for: (N, C, C).": (
            flat.mT @ flat / flat.shape[1]
        ),
        "You subtracted the means: that is the covariance. A Gram matrix keeps them.": (
            centred @ centred.mT / flat.shape[2]
        ),
        "One matrix for the whole batch: keep one for each image.": whole.mean(0),
        "You divided by the channels, too. The mean is over the places alone.": whole / flat.shape[1],
    }
    found = attempt(function, maps.clone(), todo="Return one matrix an image, (N, C, C).")
    if found is not None:
        tell(found, whole, mistakes, praise="which channels are strong together, wherever that is.")


def check_jitter(
    function: Callable[[Callable[[Tensor], Tensor], Tensor, tuple[int, int]], Tensor] | None,
) -> None:
    """Print whether `function(gradient_of, picture, shift)` is the gradient taken on a shifted picture
    (N, 3, H, W) and shifted back to where it belongs; `shift` is (down, right) in pixels.
    """
    draw = torch.Generator().manual_seed(0)
    picture, weights = (torch.rand(1, 3, 6, 7, generator=draw) for _ in range(2))
    down, right = shift = (2, 4)

    def slope(images: Tensor) -> Tensor:
        """The gradient of a score that is not the same everywhere, as a network's is not."""
        return weights * images.square()

    def rolled(images: Tensor, *by: int) -> Tensor:
        return images.roll(by, (2, 3))

    there = slope(rolled(picture, down, right))
    mistakes = {
        "The gradient belongs to the shifted picture: shift it back.": there,
        "You shifted twice the same way. Back is minus the shift.": rolled(there, down, right),
        "You took the gradient of the picture where it was. Shift it first.": slope(picture),
        "You shifted the gradient alone. The picture goes first, and the gradient comes back.": (
            rolled(slope(picture), -down, -right)
        ),
        "Down and right are swapped: height is axis 2, width axis 3.": (
            rolled(slope(rolled(picture, right, down)), -right, -down)
        ),
        "On the way back, down and right are swapped.": rolled(there, -right, -down),
        "You shifted along the first two axes, images and colours. Height is axis 2, width axis 3.": (
            slope(picture.roll(shift, (0, 1))).roll((-down, -right), (0, 1))
        ),
    }
    todo = "Return one gradient, (N, 3, H, W): taken on the shifted picture, shifted back."
    found = attempt(function, slope, picture.clone(), shift, todo=todo)
    if found is not None:
        tell(
            found,
            rolled(there, -down, -right),
            mistakes,
            praise="there and back, and each pixel gets its own.",
        )
