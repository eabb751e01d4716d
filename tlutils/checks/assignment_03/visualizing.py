"""Checks of a saliency map, of an image that fools, and of an image of a class, in plain PyTorch.

Each check makes the right answer and those of the usual mistakes on a small network, and compares.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import runtime
from ..common import Mistake, answer, is_close, require

CLASSES = 5


def _network() -> nn.Module:
    """Return a small network in eval mode, with a BatchNorm that has seen images."""
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Tanh(),
    ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES))
    with torch.no_grad():
        model(torch.randn(32, 3, 8, 8) * 2 + 1)
        model[-1].weight.mul_(4)  # type: ignore[operator]
    return model.eval()


def _gradient(model: nn.Module, x: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(value(model(x)).sum(), x)[0]


def _own(labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from logits to those of the images' own labels."""
    return lambda logits: logits.gather(1, labels[:, None])


def _faults_left(model: nn.Module, start: nn.Module, x: Tensor, given: Tensor) -> dict[str, bool]:
    """Return what a function may have done to what it was given."""
    moved = any(
        not torch.equal(a, b)
        for a, b in zip(start.state_dict().values(), model.state_dict().values(), strict=True)
    )
    return {
        "The image that arrived was changed: begin with a copy, x.clone().": not torch.equal(x, given)
        or x.requires_grad,
        "The network was changed. Its weights stay, and it stays in eval mode: the image is what "
        "moves.": moved,
    }


def check_saliency(saliency: Callable[[Any, Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function makes saliency maps, or raise the mistake.

    Args:
        saliency: The learner's `function(model, images, labels)`, which returns maps (images, height, width).
        seed: The network and the images of the check are drawn from it.

    Raises:
        Mistake: If the maps are those of another value, or were put together in another way.

    Example:
        >>> import torch
        >>> from tlutils.checks import assignment_03
        >>> def of_the_loss(model, images, labels):
        ...     images = images.clone().requires_grad_()
        ...     torch.nn.functional.cross_entropy(model(images), labels).backward()
        ...     return images.grad.abs().amax(1)
        >>> assignment_03.check_saliency(of_the_loss)
        Traceback (most recent call last):
        tlutils.checks.Mistake: That is the gradient of the loss, which mixes all classes. Take the score
        (logit) of the image's own label.
    """
    with runtime.seeded(seed):
        model = _network()
        images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 3, 1, 4])
        labels = (model(images).argmax(1) + 1 + labels % 2) % CLASSES  # labels that are not what it predicts
        start, given = copy.deepcopy(model), images.clone()
        found = answer(saliency, model, images, labels, todo="Return maps (images, height, width).")
        own = _gradient(start, given, _own(labels))
        predicted = _gradient(start, given, lambda logits: logits.amax(1))
        chances = _gradient(start, given, lambda logits: logits.softmax(1).gather(1, labels[:, None]))
        loss = _gradient(start, given, lambda logits: F.cross_entropy(logits, labels, reduction="none"))
        every = _gradient(start, given, lambda logits: logits)
        training = _gradient(copy.deepcopy(start).train(), given, _own(labels))

        def gives(gradient: Tensor) -> bool:
            sizes = gradient.abs()
            return any(is_close(found, s) for s in (sizes.amax(1), sizes.amax(1) / len(images)))

        require(
            {
                **_faults_left(model, start, images, given),
                "The maps hold the graph of the network: return images.grad, or detach().": isinstance(
                    found, Tensor
                )
                and found.requires_grad,
                "That is the gradient itself: a map has one number for each pixel. Absolute value, then the "
                "largest of "
                "the three channels.": is_close(found, own) or is_close(found, own.abs()),
                "The signs were left: a pixel that lowers the score matters, too. abs() comes "
                "first.": is_close(found, own.amax(1)),
                "The largest of the channels was taken before the absolute value.": is_close(
                    found, own.amax(1).abs()
                ),
                "The mean over channels, not the largest: colours wash each other out.": is_close(
                    found, own.abs().mean(1)
                )
                or is_close(found, own.mean(1).abs()),
                "The sum over channels, not the largest.": is_close(found, own.abs().sum(1)),
                "The largest was taken over the wrong axis: channels are axis 1 of (images, channels, "
                "height, width).": (
                    is_close(found, own.abs().amax(0)) or is_close(found, own.abs().amax(-1))
                ),
                "That is the gradient of the predicted class: the label says which class is asked "
                "about.": gives(predicted),
                "That is the gradient of the probability, which vanishes where the network is sure, and has "
                "the other "
                "classes in it. Take the score (logit).": gives(chances),
                "That is the gradient of the loss, which mixes all classes. Take the score (logit) of the "
                "image's own "
                "label.": gives(loss),
                "That is the gradient of all scores together: pick the label's.": gives(every),
                "The network ran in training mode: an image's map then depends on the others.": gives(
                    training
                ),
                "The numbers are not the saliency maps of these images.": not is_close(
                    found, own.abs().amax(1)
                ),
            },
            praise="the score's gradient, without its sign, the largest of the channels.",
        )


def check_fool(fool: Callable[[Any, Any, int, float], Any], *, seed: int = 0) -> None:
    """Print that a function changes an image until another class is predicted, or raise the mistake.

    Args:
        fool: The learner's `function(model, image, target, rate)`, which returns the changed image.
        seed: The network and the image of the check are drawn from it.

    Raises:
        Mistake: If the network is not fooled, or more was changed than the exercise says.

    Example:
        >>> from tlutils.checks import assignment_03
        >>> assignment_03.check_fool(lambda model, image, target, rate: image.clone())
        Traceback (most recent call last):
        tlutils.checks.Mistake: The network still says what it said before: nothing was changed.
    """
    with runtime.seeded(seed):
        model, rate = _network(), 0.5
        image = torch.randn(1, 3, 8, 8)
        target = int(model(image).argmin())
        start, given = copy.deepcopy(model), image.clone()
        found = answer(
            fool, model, image, target, rate, todo="Return the changed image (1, 3, height, width)."
        )
        if not isinstance(found, Tensor) or found.shape != image.shape:
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise Mistake(f"{what} came back. Return the changed image, (1, 3, height, width).")
        path = _fooling(start, given, target, rate)
        right = is_close(found, path[0], 1e-4)
        mistakes = {} if right else _fooling_mistakes(start, given, target, rate)
        says = int(start(found).argmax())
        require(
            {
                **_faults_left(model, start, image, given),
                "The image holds the graph of every step: detach() it.": found.requires_grad,
                "The network still says what it said before: nothing was changed.": torch.equal(found, given),
                **{text: is_close(found, wrong, 1e-4) for text, wrong in mistakes.items()},
                "The network says another class than the target: raise the target's score until it is the "
                "largest.": (says != target),
                "The network is fooled, and more was changed than needed: stop at the first step after "
                "which it says "
                "the target.": any(is_close(found, later, 1e-4) for later in path[1:]),
                "The network is fooled, but not by the steps of the exercise: rate times the gradient of "
                "the target's "
                "score, divided by its length.": not right,
            },
            praise="the smallest number of steps, each of the same length, towards the target.",
        )


def _fooling(model: nn.Module, x: Tensor, target: int, rate: float, most: int = 30) -> list[Tensor]:
    """Return the image at the first step at which it fools, and at later ones."""
    found: list[Tensor] = []
    for _ in range(most):
        if found or int(model(x).argmax()) == target:
            found.append(x)
        step = _gradient(model, x, lambda logits: logits[:, target])
        x = x + rate * step / step.norm()
    return [*found, x]


def _fooling_mistakes(model: nn.Module, image: Tensor, target: int, rate: float) -> Mapping[str, Tensor]:
    """Return what to say of a mistake, and the image that it leads to."""

    def climb(
        value: Callable[[Tensor], Tensor], *, sign: int = 1, unit: bool = True, kept: bool = False
    ) -> Tensor:
        x, total = image, torch.zeros_like(image)
        for _ in range(30):
            if int(model(x).argmax()) == target:
                break
            step = _gradient(model, x, value)
            total = total + step
            step = total if kept else step
            x = x + sign * rate * (step / step.norm() if unit else step.sign() if unit is None else step)
        return x

    return {
        "The gradient is not divided by its length: steps are then as long as the gradient happens to "
        "be.": climb(lambda logits: logits[:, target], unit=False),
        "The steps go down: the target's score is to rise, so add the gradient.": climb(
            lambda logits: logits[:, target], sign=-1
        ),
        "The gradients of earlier steps are still there: a new leaf, or grad = None, before each "
        "backward().": climb(lambda logits: logits[:, target], kept=True),
        "That lowers the score of the class that was predicted. Raise the target's.": climb(
            lambda logits: logits.amax(1), sign=-1
        ),
        "That raises the score of the class that is predicted already. Raise the target's.": climb(
            lambda logits: logits.amax(1)
        ),
        "That follows the gradient of the probability, or of the loss, and not of the score.": climb(
            lambda logits: logits.softmax(1)[:, target]
        ),
    }


def check_class_image(
    class_image: Callable[[Any, int, Any, int, float, float], Any], *, seed: int = 0
) -> None:
    """Print that a function makes an image of a class by the steps of the exercise, or raise the mistake.

    Args:
        class_image: The learner's `function(model, target, start, steps, rate, penalty)`, which
            returns the image.
        seed: The network and the first image of the check are drawn from it.

    Raises:
        Mistake: If the steps are others.

    Example:
        >>> from tlutils.checks import assignment_03
        >>> assignment_03.check_class_image(lambda model, target, start, steps, rate, penalty: start.clone())
        Traceback (most recent call last):
        tlutils.checks.Mistake: The first image came back: nothing was changed.
    """
    with runtime.seeded(seed):
        model, target, steps, rate, penalty = _network(), seed % CLASSES, 6, 2.0, 0.02
        start = torch.rand(1, 3, 8, 8) - 0.3
        kept, given = copy.deepcopy(model), start.clone()
        todo = "Return the image (1, 3, height, width)."
        found = answer(class_image, model, target, start, steps, rate, penalty, todo=todo)

        def climb(
            *,
            of: Callable[[Tensor], Tensor] | None = None,
            way: int = 1,
            l2: float = penalty,
            root: bool = False,
            unit: bool = True,
            clip: tuple[float, float] | None = (-1, 1),
            kept_gradients: bool = False,
            count: int = steps,
        ) -> Tensor:
            x, total = given, torch.zeros_like(given)
            for _ in range(count):
                step = _gradient(kept, x, of or (lambda logits: logits[:, target]))
                step = step - (l2 * x / x.norm() if root else 2 * l2 * x)
                total = total + step
                step = total if kept_gradients else step
                x = x + way * rate * (step / step.norm() if unit else step)
                x = x.clamp(*clip) if clip else x
            return x

        right = is_close(found, climb(), 1e-4)
        mistakes = (
            {}
            if right
            else {
                "The first image came back: nothing was changed.": given,
                "Clipping was forgotten: no photograph has pixels beyond -1 and 1. clamp(-1, 1) after each "
                "step.": climb(clip=None),
                "Clipped once, at the end: after each step, so that no gradient is taken at an impossible "
                "image.": climb(clip=None).clamp(-1, 1),
                "Clipped to 0 and 1: this network's pixels are from -1 to 1.": climb(clip=(0, 1)),
                "The gradient of the probability: it rises as well when other classes fall. Take the score "
                "(logit).": climb(of=lambda logits: logits.softmax(1)[:, target]),
                "The gradient of the loss lowers all other classes. Take the target's score.": climb(
                    of=lambda logits: logits.log_softmax(1)[:, target]
                ),
                "The steps go down: the score is to rise.": climb(way=-1),
                "The penalty is missing.": climb(l2=0),
                "The penalty has the wrong sign: it is subtracted, so that large pixels cost.": climb(
                    l2=-penalty
                ),
                "The penalty is the length of the image, not its square: penalty * (x ** 2).sum().": climb(
                    root=True
                ),
                "The penalty is half of what it should be: the square's gradient has a factor of 2.": climb(
                    l2=penalty / 2
                ),
                "The gradient is not divided by its length.": climb(unit=False),
                "The gradients of earlier steps are still there: a new leaf, or grad = None, before each "
                "backward().": climb(kept_gradients=True),
                "A step is missing.": climb(count=steps - 1),
                "A step too many.": climb(count=steps + 1),
                "All scores together: pick the target's.": climb(of=lambda logits: logits),
            }
        )
        require(
            {
                **_faults_left(model, kept, start, given),
                "The image holds the graph of every step: detach() it.": isinstance(found, Tensor)
                and found.requires_grad,
                **{text: is_close(found, wrong, 1e-4) for text, wrong in mistakes.items()},
                "The image is not what these steps lead to.": not right,
            },
            praise="up the score, against the square of the pixels, and always an image.",
        )


def check_experiment(
    model: nn.Module, image: Tensor, fooled: Tensor, target: int, drawn: Tensor, maps: Tensor
) -> None:
    """Print that an experiment on a real network shows what it should, or raise the mistake.

    Args:
        model: The network.
        image: The photograph (1, 3, height, width).
        fooled: The changed photograph.
        target: The class that it is to be taken for.
        drawn: The image of the class `target`.
        maps: The saliency map of the photograph (1, height, width).

    Raises:
        Mistake: If the network is not fooled, the change is a large one, or no class was drawn.

    Example:
        >>> import torch
        >>> from tlutils.checks import assignment_03
        >>> x = torch.zeros(1, 3, 4, 4)
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5))
        >>> assignment_03.check_experiment(network, x, x, 2, x, x[:, 0])
        Traceback (most recent call last):
        tlutils.checks.Mistake: The photograph was not changed.
    """
    with torch.no_grad():
        said = int(model(fooled).argmax())
        rank = int((model(drawn)[0] > model(drawn)[0, target]).sum())
    change = float((fooled - image).norm() / image.norm())
    require(
        {
            "The photograph was not changed.": torch.equal(image, fooled),
            f"The network takes the changed photograph for class {said}, and {target} was asked for.": said
            != target,
            f"The photograph changed by {change:.0%} of its length: that is not a small change.": change
            > 0.5,
            "The network does not see the class in the image that was drawn of it.": rank > 0,
            "The drawn image has pixels that no photograph has.": float(drawn.abs().max()) > 1 + 1e-5,
            "The map needs a number for each pixel, and none is negative.": tuple(maps.shape)
            != (1, *image.shape[2:])
            or float(maps.min()) < 0,
        },
        praise="measured again, the network is fooled, and sees the class that was drawn.",
    )
