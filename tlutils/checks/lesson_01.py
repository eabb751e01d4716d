"""Checks of the exercises in lesson 01, feature visualization."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from .common import Mistakes, attempt, is_close, judge


def check_forward_hook(function: Callable[[nn.Module, nn.Module, Tensor], Tensor] | None) -> None:
    """Print whether a function returns what a module gives while the model runs, and leaves no hook behind.

    Judged by effect: the tensor is that of the module and not of the ReLU in place after it, and the hook is
    gone afterwards, also where the model raises an error.

    Args:
        function: The learner's `function(model, module, x)` for a module of the model and a batch (N, C, H,
            W).

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_forward_hook(lambda model, module, x: model(x))
        This is what the whole model gives. Keep what the hook is handed.
    """

    class Torn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("this model stops in the middle")

    def toy(end: nn.Module) -> nn.Sequential:
        front = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3), nn.ReLU(inplace=True)
        return nn.Sequential(*front, nn.Flatten(), end).requires_grad_(False)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, torn, x = toy(nn.Linear(32, 3)), toy(Torn()), torch.randn(2, 3, 8, 8)
    entered = model[:2](x)
    right = model[2](entered)
    mistakes: Mistakes = {
        "Nothing is below zero: the ReLU after it wrote into what you kept. Keep a copy, `clone()`.": (
            right.relu()
        ),
        "This is what goes into the module. The hook's third argument is what comes out.": entered,
        "This is what the whole model gives. Keep what the hook is handed.": model(x),
    }
    todo = "Return what the module gives, as a tensor: register a hook, run the model, remove the hook."
    found = attempt(function, model, model[2], x.clone(), todo=todo)
    if found is None or function is None:
        return
    with suppress(Exception):  # the torn model raises; what counts is whether the hook has gone
        function(torn, torn[2], x.clone())
    if model[2]._forward_hooks:
        print("The hook is still there, and runs whenever the model does: remove its handle.")
    elif is_close(found, right) and torn[2]._forward_hooks:
        print("Nearly: when the model raises an error, your hook stays. Remove its handle in `finally`.")
    else:
        judge(found, right, mistakes, praise="a copy, and the hook is gone, also after an error.")


def check_pca(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether a function projects features on their two principal components, or which mistake it is.

    Args:
        function: The learner's `function(features)` for a tensor (N, D): points (N, 2), where the sign of
            each column does not matter.

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_pca(lambda features: features[:, :2])
        These are two of the features. PCA looks for directions between the axes, too.
    """
    draw = torch.Generator().manual_seed(0)
    spread = torch.randn(12, 5, generator=draw) * torch.tensor([5.0, 3.0, 1.0, 0.6, 0.3])
    turned = torch.linalg.qr(torch.randn(5, 5, generator=draw)).Q
    features = spread @ turned + torch.tensor([4.0, -6.0, 8.0, 2.0, 5.0])
    centred = features - features.mean(0)
    left, _, rows = torch.linalg.svd(centred, full_matrices=False)  # a direction each row
    widest = torch.linalg.svd(features, full_matrices=False).Vh[:2].T
    right = centred @ rows[:2].T
    scaled = centred / features.std(0)
    answers = {
        "You did not centre the features: the first direction points at their mean. Subtract it first.": (
            features @ widest,
            centred @ widest,
        ),
        "The directions are right, and the mean is still there: subtract it before you turn the features.": (
            features @ rows[:2].T
        ),
        "`svd` gives the directions as the *rows* of its third result; you took columns.": (
            centred @ rows[:, :2]
        ),
        "This is the first result of `svd`: both directions with the same spread. Use the third one.": (
            left[:, :2]
        ),
        "These are the directions of *least* variance. `eigh` sorts upwards, `svd` downwards.": (
            centred @ rows[-2:].T,
            centred @ rows[-2:].flip(0).T,
        ),
        "The two directions are swapped: the widest comes first.": right.flip(1),
        "You gave each feature the same spread first. PCA takes them as they are.": (
            scaled @ torch.linalg.svd(scaled, full_matrices=False).Vh[:2].T
        ),
        "These are two of the features. PCA looks for directions between the axes, too.": (
            centred[:, :2],
            features[:, :2],
        ),
        "These are the directions. Multiply the centred features by them.": (
            rows[:2],
            rows[:2].T,
        ),
        "These are all directions. The plane has two.": centred @ rows.T,
    }
    mistakes: Mistakes = {
        text: tuple(map(_upright, wrong)) if isinstance(wrong, tuple) else _upright(wrong)
        for text, wrong in answers.items()
    }
    found = attempt(function, features.clone(), todo="Return a place in the plane for each image, (N, 2).")
    if found is None:
        return
    with suppress(TypeError, ValueError, RuntimeError):  # else it is no array, and `judge` says so
        found = _upright(torch.as_tensor(found))
    judge(found, _upright(right), mistakes, praise="the cloud from its widest side.", close=1e-4)


def _upright(points: Tensor) -> Tensor:
    """Return points (N, k) with the largest entry of each column above zero; others as they are."""
    if points.ndim != 2 or not points.numel():
        return points
    return points * points.gather(0, points.abs().argmax(0, keepdim=True)).sign()


def check_top_places(function: Callable[[Tensor, int], Tensor | list[tuple[int, int, int]]] | None) -> None:
    """Print whether a function finds where a channel responds most, one place in each image.

    Args:
        function: The learner's `function(maps, count)` for one channel's activation maps (N, h, w): the
            `count` images with the largest maximum, the strongest first, as (image, row, column), (count, 3).

    Example:
        >>> from tlutils.checks import lesson_01
        >>> def best(maps, count):
        ...     flat = maps.flatten().argsort(descending=True)[:count]
        ...     return [(int(i) // 20, int(i) % 20 // 5, int(i) % 5) for i in flat]
        >>> lesson_01.check_top_places(best)
        One image appears twice: first the strongest place of each image, then the best images.
    """
    draw = torch.Generator().manual_seed(0)
    maps = 0.1 * torch.rand(6, 4, 5, generator=draw) - 1  # most are below zero
    for image, row, column, peak in [(1, 3, 4, 2.0), (1, 3, 3, 1.9), (4, 0, 2, 3.0), (2, 2, 0, 1.0)]:
        maps[image, row, column] = peak
    maps[5] += 1.5  # a high mean, and no peak
    height, width = maps.shape[1:]

    def rows(images: Tensor, places: Tensor, across: int = width) -> Tensor:
        return torch.stack([images, places // across, places % across], 1)

    value, place = maps.flatten(1).max(1)
    order, by_mean = value.argsort(descending=True)[:3], maps.mean((1, 2)).argsort(descending=True)[:3]
    right, every = rows(order, place[order]), maps.flatten().argsort(descending=True)[:3]
    weak = value.argsort()[:3]
    mistakes: Mistakes = {
        "One image appears twice: first the strongest place of each image, then the best images.": rows(
            every // (height * width), every % (height * width)
        ),
        "These are the weakest images. Sort downwards.": rows(weak, place[weak]),
        "You sorted the images by their mean. A channel that finds one small thing has a low mean.": rows(
            by_mean, place[by_mean]
        ),
        "The strongest comes first: turn the order round.": right.flip(0),
        "Row and column are swapped.": right[:, [0, 2, 1]],
        "A place number divided by the *width* gives the row; you divided by the height.": rows(
            order, place[order], height
        ),
        "These are in the order of the images. The strongest comes first.": right[order.argsort()],
        "These are the images. Say where in them, too: (image, row, column).": order,
        "The place is still one number: divide it by the width for row and column.": torch.stack(
            [order, place[order]], 1
        ),
        "These are all images. Keep the first `count`.": rows(
            value.argsort(descending=True), place[value.argsort(descending=True)]
        ),
    }
    todo = "Return (image, row, column) for each of the best images, (count, 3), the strongest first."
    found = attempt(function, maps.clone(), 3, todo=todo)
    judge(
        found, right, mistakes, praise="each image is asked for its strongest place, and the best are kept."
    )


def check_nearest(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether a function finds each query's nearest neighbour by cosine similarity.

    Args:
        function: The learner's `function(known, queries)` for embeddings (N, D) and (M, D): the row number in
            `known` of each query's nearest, (M,).

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_nearest(lambda known, queries: (queries @ known.T).argmax(1))
        A long vector wins everywhere: divide each vector by its length first.
    """
    draw = torch.Generator().manual_seed(0)
    known = torch.randn(7, 4, generator=draw)
    own = torch.tensor([5, 2, 0, 3, 6])
    queries = known[own] + 0.05 * torch.randn(5, 4, generator=draw)  # each looks like one of them
    known = known * torch.tensor([1.0, 9, 3, 0.3, 8, 2, 0.5])[:, None]  # and none is as long as it
    unit, asked = (v / v.norm(dim=1, keepdim=True) for v in (known, queries))
    similar = asked @ unit.T  # (M, N)
    mistakes: Mistakes = {
        "A long vector wins everywhere: divide each vector by its length first.": (
            (queries @ known.T).argmax(1),
            (asked @ known.T).argmax(1),
        ),
        "This is the plain distance. Near means a small angle here: divide each by its length.": (
            torch.cdist(queries, known).argmin(1)
        ),
        "These are the least similar. The largest cosine is the nearest.": similar.argmin(1),
        "You asked for each known image. Ask for each query: the axis of `argmax` is the other one.": (
            similar.argmax(0),
            similar.T.argmax(1),
        ),
        "These are the similarities. Say which row has the largest.": (
            similar, similar.amax(1), 1 - similar,
        ),
    }  # fmt: skip
    todo = "Return one row number for each query, (M,)."
    found = attempt(function, known.clone(), queries.clone(), todo=todo)
    judge(found, own, mistakes, praise="the direction counts, not the length.")


def check_directions(function: Callable[[Tensor], Tensor | float] | None) -> None:
    """Print whether a function gives the participation ratio: how many directions a cloud of points fills.

    Args:
        function: The learner's `function(points)` for points (N, D): (sum of eigenvalues)² / (sum of their
            squares) of their covariance, one number from 1 to D.

    Example:
        >>> import torch
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_directions(lambda points: torch.linalg.matrix_rank(points).float())
        This counts the directions. One that is hardly used should hardly count.
    """
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(12, 4, generator=draw) * torch.tensor([4.0, 2.0, 1.0, 0.2])
    points = points @ torch.linalg.qr(torch.randn(4, 4, generator=draw)).Q + torch.tensor([3.0, -2.0, 5.0, 1])

    def ratio(values: Tensor) -> Tensor:
        return values.sum() ** 2 / values.square().sum()

    variances, spreads = torch.linalg.eigvalsh(torch.cov(points.T)), torch.linalg.svdvals(points)
    total, squares = variances.sum(), variances.square().sum()
    mistakes: Mistakes = {
        "The mean is still there, and is taken for a direction: subtract it first.": ratio(spreads.square()),
        "Singular values are lengths. The eigenvalues of the covariance are their squares.": (
            ratio(variances.sqrt()),
            ratio(spreads),
        ),
        "You took the spread along the axes. The directions lie between them: eigenvalues.": (
            ratio(points.var(0)),
            ratio(points.std(0)),
        ),
        "Upside down: the square of the sum goes above, the sum of the squares below.": squares / total**2,
        "You squared before you added above. There it is the sum that is squared.": torch.tensor(1.0),
        "The square above the line is missing: (the sum of all) squared.": total / squares,
        "This counts the directions. One that is hardly used should hardly count.": torch.tensor(4.0),
        "This is the size of the cloud. A larger cloud fills no more directions.": total,
        "This measures by the largest alone. Divide the square of the sum by the sum of the squares.": (
            total / variances.max()
        ),
    }
    found = attempt(function, points.clone(), todo="Return one number, between 1 and the number of features.")
    judge(
        found, total**2 / squares, mistakes,
        praise="one for a cloud along a line, D where D directions share alike.", close=1e-4,
    )  # fmt: skip
