"""Checks of the exercises in lesson 01, feature visualization."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from .common import Mistakes, attempt, is_close, judge, judge_number


def check_energy_explained(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether a function gives the share of each filter's energy that its fit explains.

    Args:
        function: The learner's `function(filters, fits)` for two tensors (K, C, h, w): shares (K,) between
            0 and 1.

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_energy_explained(lambda filters, fits: fits.square().sum((1, 2, 3)))
        This is the energy of the fit itself. Divide by the filter's.
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
    found = attempt(function, filters, fits, todo="Return one number per filter, (K,), between 0 and 1.")
    judge(found, right, mistakes, praise="one for a perfect fit, zero for a fit that explains nothing.")


def check_dead_channels(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether a function says which channels are zero at every place of every image.

    Args:
        function: The learner's `function(activations)` for a tensor (N, C, h, w) after a ReLU: True for a
            dead channel, (C,).

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_dead_channels(lambda activations: activations.amax((0, 2, 3)) > 0)
        Your True are the channels that are alive. Dead means: nowhere above zero.
    """
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
        "This is how many there are. Say which: one True or False per channel.": right.sum(),
        "These are their numbers. Say it for each channel: one True or False, (C,).": right.nonzero()[:, 0],
        "You asked over the channels. The channels are the second axis; go over all the others.": (
            maps.amax((1, 2, 3)) <= 0
        ),
    }
    found = attempt(function, maps, todo="Return one True or False per channel, (C,): dead or not.")
    judge(found, right, mistakes, praise="not above zero at any place of any image.")


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


def check_receptive_field(answer: int | None) -> None:
    """Print whether `answer` is the side of the receptive field of 3×3 with stride 2, then 3×3, in pixels.

    Args:
        answer: The learner's number; None where nothing was answered.

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_receptive_field(5)
        That is right for stride 1. Here the second one's neighbours lie two pixels apart.
    """
    hint = "Draw one row of pixels, and what three neighbouring units see of it."
    judge_number(
        answer,
        7,
        {
            5: "That is right for stride 1. Here the second one's neighbours lie two pixels apart.",
            6: "Two squares of three pixels overlap: count the pixels from the first to the last.",
            9: "Areas do not multiply along a side. Draw one row: what do three neighbours see together?",
            3: "That is what one unit of the first convolution sees. The second sees three such units.",
            49: "That is the area. The question is for one side.",
        },
        todo=hint,
        praise="three units, two pixels apart, each three pixels wide: 3 + 2 + 2.",
        hint=hint,
    )


def check_cosine_similarity(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether a function computes the cosine similarity of two vectors, or which mistake it is.

    Args:
        function: The learner's `function(a, b)` for two tensors (D,): one number.

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_cosine_similarity(lambda a, b: a @ b / a.norm())
        You divided by one length. Divide by both.
    """
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
    if is_close(found, right) and longer is not None and not is_close(longer, right):
        print("The result changes when one vector is made longer. Divide by both lengths.")
    else:
        judge(found, right, mistakes, praise="the direction counts, not the length.")


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


def check_neighbours_kept(function: Callable[[Tensor, Tensor], Tensor | float] | None) -> None:
    """Print whether a function gives the share of nearest neighbours that a map keeps.

    An image counts when the image with the nearest features is also the one at the nearest point.

    Args:
        function: The learner's `function(features, points)` for features (N, D) and their points (N, 2): one
            number between 0 and 1.

    Example:
        >>> import torch
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_neighbours_kept(lambda features, points: torch.tensor(1.0))
        Each image is its own nearest, so all agree. Leave it out: infinity on the diagonal.
    """
    draw = torch.Generator().manual_seed(0)
    centres = 20 * torch.eye(3).repeat_interleave(5, 0)  # three groups of five, far apart
    features = centres + torch.randn(15, 3, generator=draw)
    places = torch.tensor([[0.0, 0.0], [30.0, 0.0], [0.0, 40.0]]).repeat_interleave(5, 0)
    points = places + features[:, :2] - centres[:, :2] + 0.5 * torch.randn(15, 2, generator=draw)
    away = points + torch.tensor([300.0, 0.0]) * (torch.arange(15) >= 10)[:, None]
    between, seen = torch.cdist(features, features), torch.cdist(points, points)
    itself = torch.full((15,), torch.inf).diag()
    same = (between + itself).argmin(1) == (seen + itself).argmin(1)
    right = same.float().mean()
    farthest = (between.argmax(1) == seen.argmax(1)).float().mean()
    mistakes: Mistakes = {
        "Each image is its own nearest, so all agree. Leave it out: infinity on the diagonal.": (
            torch.tensor(1.0)
        ),
        "This is how many. Divide by all: a share.": same.sum(),
        "This says it for each image: take the mean.": (same, same.float()),
        "These are the neighbours that were lost.": 1 - right,
        "You compared those farthest away. A map of t-SNE promises nothing about them.": farthest,
    }
    todo = "Return one number between 0 and 1: how often the nearest features are the nearest point."
    found = attempt(function, features.clone(), points.clone(), todo=todo)
    if found is None:
        return
    moved = attempt(function, features.clone(), away, todo=todo)
    distant = isinstance(moved, Tensor | float) and not is_close(found, torch.as_tensor(moved))
    if not distant or is_close(found, farthest):
        judge(found, right, mistakes, praise="who is beside whom, wherever the groups lie.")
    else:
        print(
            "We moved one group far away, all its neighbours with it, and your number changed. How far apart "
            "two groups lie means little on this map: compare nearest neighbours, not distances."
        )


def check_participation_ratio(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether a function gives the participation ratio: how many directions a cloud of points fills.

    Args:
        function: The learner's `function(eigenvalues)` for the eigenvalues (D,) of a covariance matrix:
            (sum of eigenvalues)² / (sum of their squares), from 1 to D.

    Example:
        >>> from tlutils.checks import lesson_01
        >>> lesson_01.check_participation_ratio(lambda eigenvalues: (eigenvalues > 0).sum().float())
        This counts those above zero. A direction that is hardly used should hardly count.
    """
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
    judge(
        found, 64 / squares, mistakes,
        praise="one when a single direction has it all, D when D directions share alike.",
    )  # fmt: skip
