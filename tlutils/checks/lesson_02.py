"""Checks of the exercises in lesson 02, linear probing."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import attempt, judge_effects


def check_nearest_neighbour(nearest: Callable[[np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether a function finds the row that points most nearly the same way, or which mistake it is.

    Each row of the small bank that it is tried on is what one mistake would choose.

    Args:
        nearest: The learner's `nearest(query, bank)` for a query (D,) and a bank (n, D): the index of the row
            with the largest cosine similarity.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_02
        >>> def nearest(query, bank):
        ...     return np.argmin(np.linalg.norm(bank - query, axis=1))
        >>> lesson_02.check_nearest_neighbour(nearest)
        That row is the nearest in distance. Cosine compares directions, so lengths must be divided out.
    """
    query = np.array([1.0, 0.0, 0.0])
    bank = np.array([[-1.0, 0.0, 0.0], [4.0, 4.0, 0.0], [0.8, 0.5, 0.0], [9.0, 1.0, 0.0], [-2.0, -1.0, 0.0]])
    answers = {
        0: "That is the *least* similar row: large cosine means alike.",
        1: "That row is neither close in direction nor near. Check along which axis you sum.",
        4: "That row is alike after standardising, as `alike` of round 1 does it. Cosine alone: leave "
        "both as they are.",
        2: "That row is the nearest in distance. Cosine compares directions, so lengths must be divided out.",
    }
    todo = "Divide the dot products by both lengths, and return the number of the row with the largest."
    given = attempt(nearest, query.copy(), bank.copy(), todo=todo)
    if given is None or nearest is None:
        return
    try:
        found = np.asarray(given)
        answer = int(found)
    except (TypeError, ValueError) as error:
        print(f"Your function gave no row number ({error}). Return one integer, for example with np.argmax.")
        return
    if answer != found or found.dtype == bool:
        print(f"{found} came back, which is not a row number. Return one integer, as np.argmax does.")
        return
    if answer != 3:
        print(answers.get(answer, f"Row {answer} does not exist in a bank of {len(bank)} rows."))
    elif int(np.asarray(nearest(query, np.array([[10.0, 9.0, 0.0], [0.1, 0.0, 0.0]])))) != 1:
        print("A long row wins over one that points the same way: divide by the length of each row.")
    else:
        print("Right: the row that points the same way wins, however long it is.")


def _by(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    std = like.std(axis=0)
    return (x - like.mean(axis=0)) / np.where(std > 0, std, 1)


def check_standardise(standardise: Callable[[np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether a function standardises new features by the known ones alone, or which mistake it is.

    The last feature never varies among the known ones: any floor under its standard deviation will do that
    keeps it from coming back a thousand times as large as the others.

    Args:
        standardise: The learner's `standardise(known, new)` for features (n, D) and (m, D): the new ones,
            (m, D), with the known ones' mean taken off and divided by their standard deviation.

    Example:
        >>> from tlutils.checks import lesson_02
        >>> lesson_02.check_standardise(lambda known, new: (new - new.mean(0)) / new.std(0))
        You used the new images' own mean and standard deviation. A single new image has none: what then?
    """
    rng = np.random.default_rng(0)
    known, new = rng.normal(3, [1, 20, 1, 0], size=(12, 4)), rng.normal(4, 2, size=(5, 4))
    inputs = known.copy(), new.copy()
    todo = "Return the new features, (m, D). Whose mean and whose standard deviation?"
    with np.errstate(all="ignore"):
        found = attempt(standardise, *inputs, todo=todo)
    if found is None:
        return
    try:
        mine = np.asarray(found, dtype=float)
    except (TypeError, ValueError):
        print(f"A {type(found).__name__} arrived. {todo}")
        return
    if mine.shape != new.shape:
        print(f"Yours has shape {mine.shape}; expected one row per new image, {new.shape}.")
        return

    def is_like(wanted: np.ndarray) -> bool:
        return np.allclose(mine[:, :3], wanted[:, :3], rtol=1e-3, atol=1e-3)

    std = known.std(axis=0)
    right = _by(new, known)
    with np.errstate(all="ignore"):
        divided_by = np.abs((new - known.mean(axis=0)) / mine).mean(axis=0)[:3]
    added = [divided_by - known[:, :3].std(axis=0, ddof=ddof) for ddof in (0, 1)]
    mistakes = {
        "It writes into the arrays that it was given: whoever called still needs them. Make new ones.": not (
            np.array_equal(inputs[0], known) and np.array_equal(inputs[1], new)
        ),
        "You used the new images' own mean and standard deviation. A single new image has none: what then?": (
            is_like(_by(new, new))
        ),
        "The new images took part in the mean and the standard deviation. They must not: they are unseen "
        "yet.": is_like(_by(new, np.vstack([known, new]))),
        "One mean for all features: take it along the rows, axis 0; each feature has its own.": is_like(
            (new - known.mean()) / known.std()
        ),
        "The mean is taken off, and nothing is divided.": is_like(new - known.mean(axis=0)),
        "Divided by the variance: the standard deviation is its square root.": is_like(
            (new - known.mean(axis=0)) / np.where(std > 0, std, 1) ** 2
        ),
        "Divided, and no mean is taken off.": is_like(new / np.where(std > 0, std, 1)),
        "Something was added to every standard deviation, so no feature comes out with 1. Lift only what "
        "hardly varies, as `spread` of round 1 does.": any(
            extra.min() > 1e-3 and np.ptp(extra) < 1e-4 for extra in added
        ),
        "Not yet. For each feature: subtract the known mean, divide by the known standard deviation.": not (
            is_like(right) or is_like(_by(new, known) * np.sqrt(11 / 12))
        ),
        "A feature that never varies was divided by 0. Leave it undivided, or use `spread` of round 1.": (
            not np.isfinite(mine).all()
        ),
        "A feature that never varies was divided by next to nothing: finite, and larger than all others "
        "together. Leave it undivided, or use `spread` of round 1.": bool(np.abs(mine[:, 3]).max() > 1000),
    }
    judge_effects(mistakes, praise="new images are measured with the ruler that was made on the known ones.")


def check_softmax_step(softmax_step: Callable[..., Any] | None) -> None:
    """Print whether a function takes one step of softmax regression, or which mistake it is.

    Args:
        softmax_step: The learner's `softmax_step(W, b, z, y, lr, penalty)` for weights (C, D), biases (C,),
            features (N, D) and labels (N,), as NumPy arrays: new weights and biases after one gradient step.

    Example:
        >>> from tlutils.checks import lesson_02
        >>> lesson_02.check_softmax_step(lambda W, b, z, y, lr, penalty: (W, b))
        Nothing moved: subtract the learning rate times the gradient.
    """
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(9, 4)), np.arange(9) % 3
    weight, bias, lr, penalty = rng.normal(size=(3, 4)), rng.normal(size=3), 0.5, 0.3
    inputs = weight.copy(), bias.copy()
    todo = (
        "Return new weights (C, D), whose gradient is the gap's transpose times z, over N, and biases (C,)."
    )
    found = attempt(softmax_step, *inputs, z.copy(), y.copy(), lr, penalty, todo=todo)
    if found is None:
        return
    if not isinstance(found, tuple | list) or len(found) != 2:
        print(f"Two arrays were expected: new weights {weight.shape} and new biases {bias.shape}.")
        return
    shapes = [np.shape(part) for part in found]
    if shapes != [weight.shape, bias.shape]:
        print(
            f"Shapes {shapes[0]} and {shapes[1]} came back; expected {weight.shape} and {bias.shape}. "
            "The gradient of W is (probabilities - truth)ᵀ z / N + penalty · W: transpose the gap, not z."
        )
        return
    logits = z @ weight.T + bias
    truth = np.eye(3)[y]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def step(gap: np.ndarray, of_weight: float = penalty, of_bias: float = 0.0) -> tuple[Any, Any]:
        along = gap.T @ z / len(z) + of_weight * weight
        return weight - lr * along, bias - lr * (gap.mean(axis=0) + of_bias * bias)

    def is_like(wanted: tuple[Any, Any]) -> bool:
        return all(np.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))

    gap = chances - truth
    right = step(gap)
    mistakes = {
        "It changes the arrays that it was given. Return new ones.": not (
            np.array_equal(inputs[0], weight) and np.array_equal(inputs[1], bias)
        ),
        "Nothing moved: subtract the learning rate times the gradient.": is_like((weight, bias)),
        "That walks uphill: the gradient is subtracted.": is_like(
            (2 * weight - right[0], 2 * bias - right[1])
        ),
        "The gap is the wrong way round: predicted probability minus truth.": is_like(step(-gap)),
        "That is the sum over images; the loss is a mean, so divide by their number.": is_like(
            step(gap * len(z))
        ),
        "The penalty is missing: its gradient is the penalty times W.": is_like(step(gap, 0.0)),
        "Half the penalty: the gradient of half a square has no half.": is_like(step(gap, penalty / 2)),
        "Twice the penalty: the half in the formula takes the 2 away.": is_like(step(gap, 2 * penalty)),
        "The penalty holds the biases, too. It is about W alone.": is_like(step(gap, penalty, penalty)),
        "The softmax is missing: logits are not probabilities.": is_like(step(logits - truth)),
        "A sigmoid for each class is not a softmax: the probabilities of an image sum to 1.": is_like(
            step(1 / (1 + np.exp(-logits)) - truth)
        ),
        "The softmax runs over the images. For each image it runs over the classes, axis 1.": is_like(
            step(np.exp(logits) / np.exp(logits).sum(axis=0) - truth)
        ),
        "The softmax runs over everything at once. For each image it runs over the classes, axis 1.": is_like(
            step(np.exp(logits) / np.exp(logits).sum() - truth)
        ),
        "W is right, and the biases did not move: their gradient is the gap's mean over images, axis 0.": (
            is_like((right[0], bias))
        ),
        "W is right, and the biases go by the sum over the images: take the gap's mean, axis 0.": is_like(
            (right[0], bias - lr * gap.sum(axis=0))
        ),
        "W is right, and the biases are not: their gradient is the gap's mean over the images, axis 0.": (
            np.allclose(found[0], right[0], atol=1e-6) and not is_like(right)
        ),
        "Not yet. Gradient of W: (probabilities - truth)ᵀ z / N + penalty · W.": not is_like(right),
    }
    judge_effects(mistakes, praise="one step down the bowl whose bottom fit_probe goes to at once.")


def check_minibatches(train_head: Callable[..., Any] | None) -> None:
    """Print whether a function trains a head by one step of SGD for each minibatch, or which mistake it is.

    Args:
        train_head: The learner's `train_head(head, z, y, lr, penalty, batches)` for an `nn.Linear`, features
            (N, D) and labels (N,) as tensors, and a list of tensors of row numbers: the head, trained.

    Example:
        >>> from tlutils.checks import lesson_02
        >>> lesson_02.check_minibatches(lambda head, *others: head)
        Nothing moved: for each batch, backward() makes gradients and step() takes them.
    """
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(14, 4)), rng.permutation(14) % 3
    lr, penalty, head = 0.3, 0.2, nn.Linear(4, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(rng.normal(size=(3, 4))))
        head.bias.copy_(torch.tensor(rng.normal(size=3)))
    start = copy.deepcopy(head)
    z, y = torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
    batches = list(torch.tensor(rng.permutation(14)).split(5))
    todo = "For each batch of rows: gradients to zero, loss, backward, step. Return the head."
    found = attempt(train_head, head, z, y, lr, penalty, list(batches), todo=todo)
    if found is None:
        return
    if found is not head:
        print(f"Return the head that was given, trained. A {type(found).__name__} came back.")
        return

    def trained(
        steps: int = len(batches),
        *,
        rows: slice | None = None,
        size: Callable[[Tensor], Tensor] = lambda weight: weight.square().sum(),
        factor: float = 0.5,
        of_bias: float = 0.0,
        summed: bool = False,
        adds_up: bool = False,
        logits: Callable[[Tensor], Tensor] = lambda told: told,
        make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    ) -> nn.Linear:
        """The head after training as it is done, or with a mistake."""
        own = copy.deepcopy(start)
        optimizer = make(own.parameters(), lr=lr)
        for batch in (rows or one for one in batches[:steps]):
            if not adds_up:
                optimizer.zero_grad()
            loss = F.cross_entropy(logits(own(z[batch])), y[batch], reduction="sum" if summed else "mean")
            of_all = factor * size(own.weight) + of_bias / 2 * own.bias.square().sum()
            (loss + penalty * of_all).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return own

    def is_like(*wanted: nn.Linear) -> bool:
        return any(
            torch.allclose(head.weight, one.weight, atol=1e-5)
            and torch.allclose(head.bias, one.bias, atol=1e-5)
            for one in wanted
        )

    mistakes = {
        "Nothing moved: for each batch, backward() makes gradients and step() takes them.": is_like(
            trained(0)
        ),
        "That stopped after the first batch: does return stand inside the loop?": is_like(trained(1)),
        "Gradients add up from batch to batch: zero_grad() before each backward().": is_like(
            trained(adds_up=True)
        ),
        "Every step saw all rows. A batch is z[rows] and y[rows].": is_like(
            *(trained(rows=slice(None), factor=factor) for factor in (0.5, 0, 1))
        ),
        "The penalty is missing.": is_like(trained(factor=0)),
        "Twice the penalty: the formula has half of it, times the square.": is_like(trained(factor=1)),
        "Half the penalty: weight_decay already is the penalty, not its half.": is_like(trained(factor=0.25)),
        "The penalty holds the bias, too, as weight_decay for all parameters does. It is about W alone.": (
            is_like(trained(of_bias=1))
        ),
        "That is the sum over a batch's images; the loss is their mean.": is_like(trained(summed=True)),
        "cross_entropy takes logits: it has the softmax inside.": is_like(
            trained(logits=lambda told: told.softmax(1))
        ),
        "That walks uphill.": is_like(trained(make=partial(torch.optim.SGD, maximize=True))),
        "The penalty is on the length itself: the formula has its square, weight.square().sum().": is_like(
            *(trained(size=torch.norm, factor=factor) for factor in (0.5, 1))
        ),
        "The penalty is on the mean: the formula has the sum of the squares.": is_like(
            *(trained(size=lambda weight: weight.square().mean(), factor=factor) for factor in (0.5, 1))
        ),
        "Adam divides each gradient by its size. Plain SGD was asked for.": is_like(
            *(trained(make=make) for make in (torch.optim.Adam, torch.optim.AdamW))
        ),
        "That has momentum: a step here goes by the gradient of its own batch.": is_like(
            trained(make=partial(torch.optim.SGD, momentum=0.9))
        ),
        "Not yet. Plain SGD, one step for each batch: are the rate and the formula as given?": not is_like(
            trained()
        ),
    }
    judge_effects(mistakes, praise="memory holds a batch at a time, and the loop is that of every network.")
