"""Checks of the exercises in lesson 01c that climb: class and favourite images, fooling, dreams."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .answers import Mistakes, attempt, tell


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


def check_pull(function: Callable[[Tensor, Tensor, float, float], Tensor] | None) -> None:
    """Print whether `function(picture, gradient, rate, weight)` is one step up score minus L2 penalty.

    picture (N, 3, H, W) lies in [0, 1], gradient is that of the score, and the penalty is `weight` times the
    mean of (picture - 1/2)² over all numbers of each image.
    """
    draw = torch.Generator().manual_seed(0)
    picture = 0.3 + 0.4 * torch.rand(3, 3, 4, 4, generator=draw)
    gradient, rate, weight = torch.randn(3, 3, 4, 4, generator=draw), 0.02, 100.0
    pull = weight * 2 * (picture - 0.5) / 48  # the derivative of the penalty; 48 numbers an image
    right = picture + rate * (gradient - pull)
    mistakes: Mistakes = {
        "The pull has the wrong sign: it drives the pixels away from grey.": (
            picture + rate * (gradient + pull)
        ),
        "You went down. The score should rise and the penalty fall: add the step.": (
            picture - rate * (gradient - pull)
        ),
        "This is the step alone. Add it to the picture.": (rate * (gradient - pull), gradient - pull),
        "The pull is missing: this is the plain climb.": picture + rate * gradient,
        "You took the penalty itself. The step needs its derivative, 2 (x - 1/2) for each square.": (
            picture + rate * (gradient - weight * (picture - 0.5).square().mean((1, 2, 3), keepdim=True)),
            picture + rate * (gradient - weight * (picture - 0.5).square() / 48),
        ),
        "You pulled towards black. Mid-grey is 1/2.": (
            picture + rate * (gradient - weight * 2 * picture / 48)
        ),
        "The derivative of a square has a factor of two.": picture + rate * (gradient - pull / 2),
        "The penalty is a mean: divide its derivative by how many numbers an image has.": (
            picture + rate * (gradient - 48 * pull)
        ),
        "You divided by the places alone. The mean is over the three colours, too.": (
            picture + rate * (gradient - 3 * pull)
        ),
        "You divided by the numbers of the whole batch. Each image has its own penalty.": (
            picture + rate * (gradient - pull / 3)
        ),
        "The weight is missing from the pull.": picture + rate * (gradient - pull / weight),
        "The rate is missing: multiply the whole step by it.": picture + gradient - pull,
        "Multiply the pull by the rate, too: it is part of the gradient.": picture + rate * gradient - pull,
    }
    todo = "L2: return pictures, (N, 3, H, W), one step further."
    found = attempt(function, picture.clone(), gradient.clone(), rate, weight, todo=todo)
    if found is not None:
        tell(found, right, mistakes, praise="up the score, and gently back to grey.")


Due = Callable[[int], bool]


def check_blur(
    function: Callable[[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor, float, int], Tensor]
    | None,
) -> None:
    """Print whether `function(gradient_of, blur, picture, rate, steps)` climbs, and blurs each tenth result.

    `gradient_of` and `blur` map pictures (N, 3, H, W) to such.
    """
    draw = torch.Generator().manual_seed(0)
    picture, weights = (torch.rand(1, 3, 6, 7, generator=draw) for _ in range(2))
    rate, steps = 0.05, 20

    def never(k: int) -> bool:
        return False

    def always(k: int) -> bool:
        return True

    def first(k: int) -> bool:
        return k % 10 == 1

    def tenth(k: int) -> bool:
        return k % 10 == 0

    def slope(images: Tensor) -> Tensor:
        return weights * (2 - images)

    def blur(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)

    def climbed(*, before: Due = never, gradient: Due = never, after: Due = never, sign: int = 1) -> Tensor:
        """Return the picture after all steps, with what is blurred in step k, counted from one."""
        images = picture
        for k in range(1, steps + 1):
            images = blur(images) if before(k) else images
            upwards = blur(slope(images)) if gradient(k) else slope(images)
            images = images + sign * rate * upwards
            images = blur(images) if after(k) else images
        return images

    mistakes: Mistakes = {
        "You blurred the gradient. Blur the picture: what has settled in it is to be smoothed away.": (
            climbed(gradient=always), climbed(gradient=tenth), climbed(gradient=first),
        ),
        "Nothing was blurred. `blur` returns a new picture: keep it.": climbed(),
        "You blurred after every step. Then nothing fine can grow: every tenth.": climbed(after=always),
        "You blurred once, at the end. Blur on the way, after every tenth step.": blur(climbed()),
        "You blurred at the first step. Count from one: after steps 10, 20, and so on.": (
            climbed(after=first), climbed(before=first),
        ),
        "The picture is blurred after the step, not before it.": climbed(before=tenth),
        "You went down. Towards the class is up: add the step.": climbed(after=tenth, sign=-1),
        "This is after one step. Climb all `steps` of them.": picture + rate * slope(picture),
    }  # fmt: skip
    todo = "Blur: return pictures, (N, 3, H, W), after all steps."
    found = attempt(function, slope, blur, picture.clone(), rate, steps, todo=todo)
    if found is not None:
        tell(found, climbed(after=tenth), mistakes, praise="grain grows for ten steps, and is smoothed away.")


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
