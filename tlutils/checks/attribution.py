"""Checks of the exercises in lesson 01b that make a map."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from .answers import Mistakes, attempt, gradient_of, tell


def _toy() -> tuple[nn.Module, Tensor]:
    """Return a small classifier of three classes and two of its images (2, 3, 8, 8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
        return model.requires_grad_(False), torch.randn(2, 3, 8, 8)


def check_occlusion(function: Callable[[nn.Module, Tensor, int, slice, slice], Tensor] | None) -> None:
    """Print whether `function(model, x, target, rows, columns)` is how far the score of each image falls (N,)
    when these rows and columns of x (N, 3, H, W) are covered with zero.
    """
    model, x = _toy()
    rows, columns, target = slice(2, 7), slice(0, 4), 2
    covered, outside = x.clone(), torch.zeros_like(x)
    covered[..., rows, columns] = 0
    outside[..., rows, columns] = x[..., rows, columns]
    before, after = model(x), model(covered)
    falls = before - after  # (N, classes)
    right = falls[:, target]
    mistakes = {
        "The sign is turned round: it is the score before covering minus the score after.": -right,
        "This is the probability. Take the score before softmax: it is about this class alone.": (
            before.softmax(1) - after.softmax(1)
        )[:, target],
        "This is of every class: keep the one of the target.": falls,
        "This is of class 0; the target is an argument.": falls[:, 0],
        "This is the score that is left. Take it from the score of the whole picture.": after[:, target],
        "You covered everything *but* the square.": (before - model(outside))[:, target],
        "You cut off at zero. A square that speaks against the class has a fall below zero: keep it.": (
            right.relu()
        ),
        "The sign is gone: whether covering takes away or adds is what we want to know.": right.abs(),
        "One number for the whole batch: keep one for each image.": right.mean(),
        "You added up the images: keep one number for each.": right.sum(),
    }
    mine = x.clone()
    todo = "Return one number an image, (N,): the score of the picture minus the score of the covered one."
    found = attempt(function, model, mine, target, rows, columns, todo=todo)
    if found is not None and not torch.equal(mine, x):
        print("You painted into the photograph itself, and the next square would find it covered: clone it.")
    elif found is not None:
        tell(found, right, mistakes, praise="the score before minus the score after, for each image.")


def check_saliency(function: Callable[[nn.Module, Tensor, int], Tensor] | None) -> None:
    """Print whether `function(model, x, target)` is the saliency (N, H, W), or which mistake it is."""
    model, x = _toy()
    signed = gradient_of(lambda images: model(images)[:, 1], x)
    other = gradient_of(lambda images: model(images)[:, 0], x)
    probability = gradient_of(lambda images: model(images).softmax(1)[:, 1], x)
    mistakes = {
        "The signs are still there: a pixel that pulls the score down matters, too.": signed.amax(1),
        "You averaged over the colours. The papers take the strongest one.": signed.abs().mean(1),
        "You added up the colours. The papers take the strongest one.": signed.abs().sum(1),
        "The colours are still there: one number a pixel, (N, H, W), is asked for.": signed.abs(),
        "This is the raw gradient: take its absolute value, and the strongest colour.": signed,
        "This is of class 0; the target is the last argument.": other.abs().amax(1),
        "This is of the probability. Take the score before softmax: it is about this class alone.": (
            probability.abs().amax(1)
        ),
    }
    found = attempt(function, model, x.clone(), 1, todo="Return one number a pixel, (N, H, W).")
    if found is not None:
        tell(
            found, signed.abs().amax(1), mistakes, praise="the strongest absolute gradient over the colours."
        )


def check_relu_rule(
    function: Callable[[Tensor, Tensor], Tensor] | None, rule: Literal["guided backprop", "deconvnet"]
) -> None:
    """Print whether `function(signal, gradient)` is what a ReLU sends back by this rule.

    `signal` is what went into the ReLU, `gradient` what comes back to it; both have one shape.
    """
    signal = torch.tensor([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    gradient = torch.tensor([-1.0, 2.0, 3.0, -4.0, 5.0, 6.0])
    rules = {
        "guided backprop": gradient.relu() * (signal > 0),
        "deconvnet": gradient.relu(),
        "plain backprop": gradient * (signal > 0),
    }
    right = rules.pop(rule)
    mistakes: Mistakes = {
        **{f"{rule}: this is the rule of {name}.": sent for name, sent in rules.items()},
        f"{rule}: do not multiply by the signal. It only says whether the gate is open.": (
            gradient.relu() * signal.relu()
        ),
        f"{rule}: this is the way forward. Send the *gradient* back.": signal.relu(),
        f"{rule}: a negative gradient is dropped, not turned round.": (
            gradient.abs(),
            gradient.abs() * (signal > 0),
        ),
        f"{rule}: nothing was dropped.": gradient,
        f"{rule}: this says where something passes. Return the gradient there, and zero elsewhere.": (
            right > 0
        ),
    }
    todo = f"{rule}: return what is sent back, in the shape of the gradient."
    found = attempt(function, signal.clone(), gradient.clone(), todo=todo)
    if found is not None:
        tell(found, right, mistakes, praise=f"so does {rule} treat each ReLU.")


def check_smooth(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether `function(gradients)` is SmoothGrad's map (H, W) of n gradients (n, C, H, W)."""
    gradients = torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    mean = gradients.mean(0)
    mistakes: Mistakes = {
        "Average first, then take the absolute value: noise cancels only while it has its signs.": (
            gradients.abs().mean(0).amax(0)
        ),
        "This is the mean of saliency maps. Average the gradients first: noise cancels only with signs.": (
            gradients.abs().amax(1).mean(0)
        ),
        "The sum grows with the number of copies: take the mean.": gradients.sum(0).abs().amax(0),
        "The signs are still there at the end: take the absolute value after the mean.": mean.amax(0),
        "You averaged over the colours, too. Take the strongest.": mean.abs().mean(0),
        "You averaged over the colours and took the strongest copy. The copies come first.": (
            gradients.mean(1).abs().amax(0)
        ),
        "The colours are still there: take the strongest absolute value.": (mean, mean.abs()),
        "One colour each copy is left: average over the copies, the first axis.": gradients.abs().amax(1),
    }
    found = attempt(function, gradients.clone(), todo="SmoothGrad: return one map, (H, W).")
    if found is not None:
        tell(found, mean.abs().amax(0), mistakes, praise="what the noisy copies agree about.")


def check_integrated(function: Callable[[Callable[[Tensor], Tensor], Tensor, int], Tensor] | None) -> None:
    """Print whether `function(gradient_of, x, steps)` are integrated gradients from zero to x, in x's shape.

    Right are those whose sum is the change of a small cubic score; any rule of numbers will do.
    """
    draw = torch.Generator().manual_seed(0)
    x, a, c = (torch.randn(3, 4, 5, generator=draw) for _ in range(3))
    a, steps = a / 4, 100

    def slope(point: Tensor) -> Tensor:
        """The gradient of (a · point)³ + c · point."""
        return 3 * (a * point).sum().square() * a + c

    right = x * (a * (a * x).sum().square() + c)
    mistakes = {
        "One gradient, at the end of the way. Take it at many points between zero and x, and average.": (
            x * slope(x)
        ),
        "One gradient, half-way. Take it at many points between zero and x, and average.": x * slope(x / 2),
        "This is the mean gradient. Multiply it by x, how far each number has come.": right / x,
        "The shares are too large: you added the gradients up. Take their mean.": steps * right,
        "Keep the signs: only with them the shares add up to the change of the score.": right.abs(),
        "You added up at the end: keep one share for each number of x.": right.sum(),
        "You added up over the colours. Keep them here: one share for each number of x.": right.sum(0),
    }
    todo = "Integrated gradients: return one share for each number of x, in its shape."
    found = attempt(function, slope, x.clone(), steps, todo=todo)
    if found is not None:
        tell(found, right, mistakes, praise="the shares add up to the change of the score.", close=0.05)


def check_grad_cam(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether `function(maps, gradient)` is Grad-CAM's map (N, h, w), or which mistake it is.

    Both arguments are (N, C, h, w): what the last stage gives, and the gradient of the class score by it.
    """
    draw = torch.Generator().manual_seed(0)
    maps, gradient = torch.rand(2, 3, 4, 5, generator=draw), torch.randn(2, 3, 4, 5, generator=draw)
    weights = gradient.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    mistakes = {
        "The ReLU is missing: keep what speaks for the class.": (weights * maps).sum(1),
        "Sum over the channels; a mean only changes the scale, but then two layers cannot be compared.": (
            (weights * maps).mean(1).relu()
        ),
        "You multiplied place by place. Grad-CAM first averages the gradient over the places.": (
            (gradient * maps).sum(1).relu()
        ),
        "ReLU comes after the sum: a channel that speaks against the class must count against it.": (
            (weights * maps).relu().sum(1)
        ),
        "The channels are still there: add the weighted maps up.": (weights * maps).relu(),
        "Each image has its own weights: average over the places alone, not over the batch.": (
            (gradient.mean((0, 2, 3), keepdim=True) * maps).sum(1).relu()
        ),
    }
    found = attempt(function, maps.clone(), gradient.clone(), todo="Return one map an image, (N, h, w).")
    if found is not None:
        tell(
            found, (weights * maps).sum(1).relu(), mistakes,
            praise="weights from the mean gradient, a weighted sum of maps, and what is positive of it.",
        )  # fmt: skip


def check_cam(function: Callable[[Tensor, nn.Linear, int], Tensor] | None) -> None:
    """Print whether `function(maps, head, target)` is CAM's map (N, h, w), or which mistake it is.

    maps (N, C, h, w) are what the last stage gives; head is the linear layer on their averages.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        maps, head, target = torch.rand(2, 3, 4, 5), nn.Linear(3, 4).requires_grad_(False), 2
    every = torch.einsum("kc,nchw->nkhw", head.weight, maps)  # (N, classes, h, w)
    right, weighted = every[:, target], head.weight[target].view(3, 1, 1) * maps
    others = tuple(every[:, other] for other in range(4) if other != target)
    mistakes: Mistakes = {
        "This is the plain mean of the maps, the same for every class: weigh each with `head.weight`.": (
            maps.mean(1)
        ),
        "This is the plain sum of the maps, the same for every class: weigh each with `head.weight`.": (
            maps.sum(1)
        ),
        "These are the weights of another class: row `target` of `head.weight` belongs to this one.": others,
        "You added the bias. It belongs to no place: the map shares out what the picture gave.": (
            right + head.bias[target]
        ),
        "You cut off at zero. CAM keeps its signs: what speaks against the class is in the map, too.": (
            right.relu()
        ),
        "Add the weighted maps up; a mean over the channels makes the map weaker the more there are.": (
            weighted.mean(1)
        ),
        "You divided by the number of places, as the gradient does. CAM takes the weights as they are.": (
            right / 20
        ),
        "This is the score, one number an image. Do not average over the places: they are the map.": (
            right.mean((1, 2)),
            head(maps.mean((2, 3)))[:, target],
        ),
        "These are the maps of every class: keep the one of the target.": (
            every,
            every + head.bias.view(4, 1, 1),
        ),
        "The channels are still there: add the weighted maps up.": weighted,
    }
    found = attempt(function, maps.clone(), head, target, todo="Return one map an image, (N, h, w).")
    if found is not None:
        tell(found, right, mistakes, praise="its mean over the places is the score, without bias.")
