"""Checks of the exercises in lesson 01c, synthesis: climbing a score, matching features."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from .common import Mistakes, attempt, judge

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
