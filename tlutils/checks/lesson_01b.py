"""Checks of the exercises in lesson 01b, attribution: those that make a map, and those that judge one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .common import Mistakes, attempt, gradient_of, judge


def _toy() -> tuple[nn.Module, Tensor]:
    """Return a small classifier of three classes and two of its images (2, 3, 8, 8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
        return model.requires_grad_(False), torch.randn(2, 3, 8, 8)


def check_occlusion(function: Callable[[nn.Module, Tensor, int, slice, slice], Tensor] | None) -> None:
    """Print whether a function gives how far the class score falls when a rectangle is covered.

    Args:
        function: The learner's `function(model, x, target, rows, columns)` for a batch x (N, 3, H, W), a
            class and two slices: the score before minus the score with these pixels at zero, (N,).

    Example:
        >>> from tlutils.checks import lesson_01b
        >>> def covered_score(model, x, target, rows, columns):
        ...     x = x.clone()
        ...     x[..., rows, columns] = 0
        ...     return model(x)[:, target]
        >>> lesson_01b.check_occlusion(covered_score)
        This is the score that is left. Take it from the score of the whole picture.
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
    todo = "Return one number per image, (N,): the score of the picture minus the score of the covered one."
    found = attempt(function, model, mine, target, rows, columns, todo=todo)
    if found is not None and not torch.equal(mine, x):
        print("You painted into the photograph itself, and the next square would find it covered: clone it.")
    elif found is not None:
        judge(found, right, mistakes, praise="the score before minus the score after, for each image.")


def check_saliency(function: Callable[[nn.Module, Tensor, int], Tensor] | None) -> None:
    """Print whether a function computes saliency (Simonyan et al. 2014), or which mistake it is.

    Args:
        function: The learner's `function(model, x, target)` for a batch x (N, 3, H, W) and a class: the
            largest |d score / d pixel| over the colours, (N, H, W).

    Example:
        >>> import torch
        >>> from tlutils.checks import lesson_01b
        >>> def gradient(model, x, target):
        ...     x = x.requires_grad_()
        ...     return torch.autograd.grad(model(x)[:, target].sum(), x)[0]
        >>> lesson_01b.check_saliency(gradient)
        This is the raw gradient: take its absolute value, and the strongest colour.
    """
    model, x = _toy()
    signed = gradient_of(lambda images: model(images)[:, 1], x)
    other = gradient_of(lambda images: model(images)[:, 0], x)
    probability = gradient_of(lambda images: model(images).softmax(1)[:, 1], x)
    mistakes = {
        "The signs are still there: a pixel that pulls the score down matters, too.": signed.amax(1),
        "You averaged over the colours. The papers take the strongest one.": signed.abs().mean(1),
        "You added up the colours. The papers take the strongest one.": signed.abs().sum(1),
        "The colours are still there: one number per pixel, (N, H, W), is asked for.": signed.abs(),
        "This is the raw gradient: take its absolute value, and the strongest colour.": signed,
        "This is of class 0; the target is the last argument.": other.abs().amax(1),
        "This is of the probability. Take the score before softmax: it is about this class alone.": (
            probability.abs().amax(1)
        ),
    }
    found = attempt(function, model, x.clone(), 1, todo="Return one number per pixel, (N, H, W).")
    judge(found, signed.abs().amax(1), mistakes, praise="the strongest absolute gradient over the colours.")


def check_integrated_gradients(
    function: Callable[[Callable[[Tensor], Tensor], Tensor, int], Tensor] | None,
) -> None:
    """Print whether a function computes integrated gradients (Sundararajan, Taly and Yan 2017).

    Right is what sums to the change of a small cubic score; any rule of numerical integration will do.

    Args:
        function: The learner's `function(gradient_of, x, steps)`: `gradient_of` maps a tensor to the gradient
            of a score there; the way leads from zero to x in `steps` points; the result has the shape of x.

    Example:
        >>> from tlutils.checks import lesson_01b
        >>> lesson_01b.check_integrated_gradients(lambda gradient_of, x, steps: x * gradient_of(x / 2))
        One gradient, half-way. Take it at many points between zero and x, and average.
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
    judge(found, right, mistakes, praise="the shares add up to the change of the score.", close=0.05)


def check_grad_cam(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether a function computes Grad-CAM (Selvaraju et al. 2017), or which mistake it is.

    Args:
        function: The learner's `function(activations, gradient)` for what the last stage gives and the
            gradient of the class score by it, both (N, C, h, w): a map (N, h, w), at least 0.

    Example:
        >>> from tlutils.checks import lesson_01b
        >>> lesson_01b.check_grad_cam(lambda activations, gradient: (activations * gradient).sum(1).relu())
        You multiplied place by place. Grad-CAM first averages the gradient over the places.
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
    found = attempt(function, maps.clone(), gradient.clone(), todo="Return one map per image, (N, h, w).")
    judge(
        found, (weights * maps).sum(1).relu(), mistakes,
        praise="weights from the mean gradient, a weighted sum of maps, and what is positive of it.",
    )  # fmt: skip


def check_deletion(
    function: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, int], Tensor | float] | None,
) -> None:
    """Print whether a function gives the area under the deletion curve (Petsiuk, Das and Saenko 2018).

    Args:
        function: The learner's `function(probability, x, heat, steps)`: `probability` is that of the class
            for a picture (C, H, W); in each of the steps an equal share of the pixels of x becomes zero,
            those first where heat (H, W) is strongest; the result is one number, by any rule of numerical
            integration.

    Example:
        >>> from tlutils.checks import lesson_01b
        >>> lesson_01b.check_deletion(lambda probability, x, heat, steps: x.fill_(0).sum())
        You painted into the photograph itself, and the next map would find it grey: clone it.
    """
    draw = torch.Generator().manual_seed(0)
    x, heat, steps = torch.rand(3, 10, 10, generator=draw), torch.randperm(100, generator=draw) / 100, 50
    x = (2 * x - 1).index_fill_(2, torch.tensor(0), -1)  # normalised: black is -1, the mean colour 0
    rank, heat = (-heat).argsort().argsort().view(10, 10), heat.view(10, 10)
    evidence, asked = heat.square() * x.sign(), []

    def probability(picture: Tensor) -> Tensor:
        """Return one for x and zero for grey: the more of the strong pixels are seen, the larger."""
        asked.append(picture.clone())
        seen = (evidence * picture).sum((-3, -2, -1)) / (evidence * x).sum()
        return seen.clamp(0, 1).square()

    def curve(covered: Callable[[int], Tensor], fill: float = 0.0) -> Tensor:
        """Return the probability (steps + 1,) when the pixels `covered(how many)` are filled."""
        return torch.stack(
            [probability(torch.where(covered(2 * step), fill, x)) for step in range(steps + 1)]
        )

    def area(values: Tensor) -> Tensor:
        return torch.trapezoid(values, dx=1 / steps)

    falling = curve(lambda count: rank < count)
    backwards = area(curve(lambda count: rank >= 100 - count))  # insertion has this very area
    black = area(curve(lambda count: rank < count, -1.0))
    piece = area(curve(lambda count: (rank < count) & (rank >= count - 2)))
    right = area(falling)
    asked.clear()
    mine = x.clone()
    todo = "Return one number, the area under the curve: small where the map is good."
    found = attempt(function, probability, mine, heat.clone(), steps, todo=todo)
    if found is None:
        return
    if not torch.equal(mine, x):
        print("You painted into the photograph itself, and the next map would find it grey: clone it.")
        return
    grey_first = bool(asked) and not asked[0].any()
    mistakes: Mistakes = {
        "You began with grey and let the strongest pixels appear: that is insertion."
        if grey_first
        else "The weakest pixels went first. Sort in descending order: the strongest go first.": backwards,
        "You covered with black. In a normalised picture the mean colour is zero.": black,
        "This is one minus the area. In deletion the area itself should be small.": 1 - right,
        "You added up the probabilities. Divide by their number: the shares run from 0 to 1.": (
            falling.sum(), falling[1:].sum(), steps * right,
        ),
        "Each step hid its own pixels alone. Those of the steps before stay hidden.": piece,
        "This is the curve. Its area is one number: the mean of its heights.": (
            falling, falling[1:], falling[:-1],
        ),
    }  # fmt: skip
    judge(found, right, mistakes, praise="the earlier the class is lost, the smaller the area.", close=0.03)


def check_rank_correlation(function: Callable[[Tensor, Tensor], Tensor | float] | None) -> None:
    """Print whether a function gives the rank correlation of the absolute values of two maps.

    Args:
        function: The learner's `function(before, after)` for two maps (H, W): Spearman's correlation of their
            absolute values, from -1 to 1.

    Example:
        >>> import torch
        >>> from tlutils.checks import lesson_01b
        >>> def correlation(before, after):
        ...     return torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]
        >>> lesson_01b.check_rank_correlation(correlation)
        This compares the values, with their signs. Compare the ranks of the absolute values.
    """
    draw = torch.Generator().manual_seed(0)
    before = torch.randn(6, 7, generator=draw)
    before, after = before.pow(3), (before + torch.randn(6, 7, generator=draw)).pow(5)

    def correlation(a: Tensor, b: Tensor) -> Tensor:
        return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1]

    def ranks(values: Tensor) -> Tensor:
        return values.flatten().argsort().argsort()

    mistakes = {
        "This compares the values: a few strong pixels decide. Compare the ranks.": (
            correlation(before.abs(), after.abs())
        ),
        "This compares the values, with their signs. Compare the ranks of the absolute values.": (
            correlation(before, after)
        ),
        "The signs took part: a pixel that speaks strongly *against* the class is important, too.": (
            correlation(ranks(before), ranks(after))
        ),
        "One argsort says which pixel comes first; the rank of each pixel is the argsort of that.": (
            correlation(before.abs().flatten().argsort(), after.abs().flatten().argsort())
        ),
        "One minus it would be a distance. Alike should be near one.": (
            1 - correlation(ranks(before.abs()), ranks(after.abs()))
        ),
    }
    right = correlation(ranks(before.abs()), ranks(after.abs()))
    todo = "Return one number for two maps: 1 when they order the pixels alike."
    found = attempt(function, before.clone(), after.clone(), todo=todo)
    judge(found, right, mistakes, praise="the order counts, not the scale.", close=1e-3)
