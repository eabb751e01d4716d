"""Checks of the exercises in lesson 01c, synthesis: climbing a score, matching features."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from .common import Mistakes, attempt, judge


def check_mean_activation(function: Callable[[Tensor, int], Tensor] | None) -> None:
    """Print whether a function gives the mean activation of a channel in each image, or which mistake it is.

    Args:
        function: The learner's `function(activations, channel)` for a tensor (N, C, h, w) and a channel's
            number: (N,).

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> lesson_01c.check_mean_activation(lambda values, channel: values[:, channel].amax((1, 2)))
        This is the strongest place alone; the mean over all places is asked for.
    """
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
    todo = "Return one number per image: how strongly the channel responds on average."
    found = attempt(function, maps.clone(), 1, todo=todo)
    judge(
        found, maps[:, 1].mean((1, 2)), mistakes,
        praise="the mean over height and width of one channel, for each image.",
    )  # fmt: skip


def check_l2_step(function: Callable[[Tensor, Tensor, float, float], Tensor] | None) -> None:
    """Print whether a function takes one step up a score that has an L2 penalty (Simonyan et al. 2014).

    The penalty is `weight` times the mean of (picture - 1/2)² over all values of each image.

    Args:
        function: The learner's `function(picture, gradient, rate, weight)` for pictures (N, 3, H, W) in [0,
            1] and the gradient of the score there: pictures, one step further.

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> lesson_01c.check_l2_step(lambda picture, gradient, rate, weight: picture + rate * gradient)
        The pull is missing: this is the plain climb.
    """
    draw = torch.Generator().manual_seed(0)
    picture = 0.3 + 0.4 * torch.rand(3, 3, 4, 4, generator=draw)
    gradient, rate, weight = torch.randn(3, 3, 4, 4, generator=draw), 0.02, 100.0
    pull = weight * 2 * (picture - 0.5) / 48  # the derivative of the penalty; 48 values per image
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
        "The penalty is a mean: divide its derivative by the number of values in an image.": (
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
    judge(found, right, mistakes, praise="up the score, and gently back to grey.")


Due = Callable[[int], bool]


def check_blur(
    function: Callable[[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor, float, int], Tensor]
    | None,
) -> None:
    """Print whether a function climbs a score and blurs each tenth result (Yosinski et al. 2015).

    Args:
        function: The learner's `function(gradient_of, blur, picture, rate, steps)`: `gradient_of` and `blur`
            map pictures (N, 3, H, W) to such; the result is the picture after all steps.

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> def climb(gradient_of, blur, picture, rate, steps):
        ...     for _ in range(steps):
        ...         picture = blur(picture + rate * gradient_of(picture))
        ...     return picture
        >>> lesson_01c.check_blur(climb)
        You blurred after every step. Then nothing fine can grow: every tenth.
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
    judge(found, climbed(after=tenth), mistakes, praise="grain grows for ten steps and is smoothed away.")


def check_fooling_step(function: Callable[[Tensor, Tensor, float], Tensor] | None) -> None:
    """Print whether a function takes one step of fooling for each picture, or which mistake it is.

    Args:
        function: The learner's `function(picture, gradient, size)` for pictures (N, 3, H, W) in [0, 1] and
            their gradients: each picture moved along its gradient by `size` (root mean square), cut off at 0
            and 1.

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> def step(picture, gradient, size):
        ...     return (picture + size * gradient).clamp(0, 1)
        >>> lesson_01c.check_fooling_step(step)
        The step is as long as the gradient happens to be. Divide by its root mean square.
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
    judge(
        found,
        (picture + step).clamp(0, 1),
        mistakes,
        praise="a small step, equally long for each picture.",
    )


def check_deepdream(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether a function is DeepDream's objective (Mordvintsev, Olah and Tyka 2015).

    Args:
        function: The learner's `function(activations)` for a tensor (N, C, h, w): the mean square of each
            image's, (N,).

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> lesson_01c.check_deepdream(lambda activations: activations.mean((1, 2, 3)))
        This is the mean. What a stage gives below zero would be pulled up, too: square first.
    """
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
    found = attempt(
        function, maps.clone(), todo="Return one number per image, (N,): how much the stage sees."
    )
    judge(found, right, mistakes, praise="the more a stage sees, the more it counts.")


def check_jitter(
    function: Callable[[Callable[[Tensor], Tensor], Tensor, tuple[int, int]], Tensor] | None,
) -> None:
    """Print whether a function takes the gradient on a shifted picture and shifts it back.

    Args:
        function: The learner's `function(gradient_of, picture, shift)`: `gradient_of` maps pictures
            (N, 3, H, W) to such, `shift` is (down, right) in pixels; the result is one gradient (N, 3, H, W).

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> def shifted_gradient(gradient_of, picture, shift):
        ...     return gradient_of(picture.roll(shift, (2, 3)))
        >>> lesson_01c.check_jitter(shifted_gradient)
        The gradient belongs to the shifted picture: shift it back.
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
    judge(
        found,
        rolled(there, -down, -right),
        mistakes,
        praise="there and back, and each pixel gets its own.",
    )


def check_inversion_loss(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether a function gives the share of the wanted features that is missed.

    Mahendran and Vedaldi 2015: ‖found - wanted‖² / ‖wanted‖².

    Args:
        function: The learner's `function(found, wanted)` for what leaves a stage, twice (N, C, h, w): one
            number per image (N,).

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> lesson_01c.check_inversion_loss(lambda found, wanted: (found - wanted).square().mean((1, 2, 3)))
        This is the mean squared error. Divide by the mean square of what is wanted.
    """
    draw = torch.Generator().manual_seed(0)
    wanted = torch.randn(2, 3, 4, 4, generator=draw) * torch.tensor([1.0, 3.0]).view(-1, 1, 1, 1)
    maps = wanted + torch.randn(2, 3, 4, 4, generator=draw)
    off, length, own = (v.square().sum((1, 2, 3)) for v in (maps - wanted, wanted, maps))
    right = off / length
    mistakes = {
        "This is the squared distance. Divide by the squared length of the wanted maps, as stages differ.": (
            off
        ),
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
    todo = "Return one number per image, (N,): 0 when all is found."
    found = attempt(function, maps.clone(), wanted.clone(), todo=todo)
    judge(found, right, mistakes, praise="zero when all is found, one for a picture that gives nothing.")


def check_gram_matrix(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether a function gives the Gram matrix of each image (Gatys, Ecker and Bethge 2015).

    Args:
        function: The learner's `function(activations)` for a tensor (N, C, h, w): the mean over places of the
            product of each pair of channels, (N, C, C).

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> lesson_01c.check_gram_matrix(lambda values: values.flatten(2) @ values.flatten(2).mT)
        This is the sum over the places. Take the mean, so that a large picture has the same texture.
    """
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
    found = attempt(function, maps.clone(), todo="Return one matrix per image, (N, C, C).")
    judge(found, whole, mistakes, praise="which channels are strong together, wherever that is.")


def check_style_transfer_loss(
    function: Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor], float], Tensor]
    | None,
) -> None:
    """Print whether a function is the loss of style transfer (Gatys, Ecker and Bethge 2016).

    Args:
        function: The learner's `function(found, content, style, weight)`. The first three are {"early": (N,
            C, h, w), "late": (N, D, k, l)}, the output of two stages for the picture in the making, the
            content image (used at "late") and the style image (used at "early"), which is larger; the result
            is one number per image (N,). None where nothing was written.

    Example:
        >>> from tlutils.checks import lesson_01c
        >>> def content_loss(found, content, style, weight):
        ...     missed = (found["late"] - content["late"]).flatten(1).square().sum(1)
        ...     return missed / content["late"].flatten(1).square().sum(1)
        >>> lesson_01c.check_style_transfer_loss(content_loss)
        This is the content alone.
    """
    draw = torch.Generator().manual_seed(0)

    def maps(size: int) -> dict[str, Tensor]:
        early, late = (2, 3, 2 * size, 2 * size), (2, 3, size, size)
        return {"early": torch.rand(early, generator=draw), "late": torch.randn(late, generator=draw)}

    found, photo, styled, weight = maps(2), maps(2), maps(3), 5.0

    def missed(values: Tensor, wanted: Tensor) -> Tensor:
        return (values - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)

    def together(values: Tensor) -> Tensor:
        flat = values.flatten(2)
        return flat @ flat.mT

    def gram(values: Tensor) -> Tensor:
        return together(values) / values[0, 0].numel()

    def texture(stage: str, example: Mapping[str, Tensor] = styled) -> Tensor:
        return missed(gram(found[stage]), gram(example[stage]))

    content, style = missed(found["late"], photo["late"]), texture("early")
    right = content + weight * style
    squares = (gram(found["early"]) - gram(styled["early"])).square().sum((1, 2))
    mistakes: Mistakes = {
        "Your Gram matrices are sums over the places; the style image has more: divide by their number.": (
            content + weight * missed(together(found["early"]), together(styled["early"]))
        ),
        "You took the content at the stage of the style. Content is what leaves the late stage.": (
            missed(found["early"], photo["early"]) + weight * style
        ),
        "You took the style at the stage of the content. Texture is in the early stage.": (
            content + weight * texture("late")
        ),
        "The stages are swapped: content is what leaves the late one, style what leaves the early one.": (
            missed(found["early"], photo["early"]) + weight * texture("late")
        ),
        "You took the style from the photograph. It is the style image's.": (
            content + weight * texture("early", photo)
        ),
        "You compared Gram matrices for the content, too. Content keeps its places: compare the features.": (
            texture("late", photo) + weight * style
        ),
        "The weight belongs to the style.": weight * content + style,
        "The weight is missing.": content + style,
        "This is the content alone.": content,
        "This is the style alone.": (style, weight * style),
        "Divide each distance by the squared length of what is wanted, or one of them drowns the other.": (
            (found["late"] - photo["late"]).square().sum((1, 2, 3)) + weight * squares,
            content + weight * squares,
        ),
        "One number for the whole batch: keep one for each image.": (right.mean(), right.sum()),
    }
    todo = "Return one number per image, (N,): the content that is missed, plus the weight times the style."
    given = (dict(found), dict(photo), dict(styled))
    answer = attempt(function, *given, weight, todo=todo)
    judge(answer, right, mistakes, praise="the places of one picture, the texture of another.")
