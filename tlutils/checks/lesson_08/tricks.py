"""Mixup, early stopping, and views that are averaged and held out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common import Mistakes, attempt, is_close, judge, judge_effects


def check_mixup(mixup: Callable[[Tensor, Tensor, Tensor, Tensor], Any] | None) -> None:
    """Print whether a function blends images and their labels by the same shares, or what it did instead.

    There are as many images as columns and as classes, so a share that meets the wrong axis raises no error.

    Args:
        mixup: The learner's `mixup(x, goal, lam, order)`; it returns the blended images and labels.

    Example:
        >>> from tlutils.checks import lesson_08
        >>> def only_images(x, goal, lam, order):
        ...     lam = lam[:, None, None, None]
        ...     return lam * x + (1 - lam) * x[order], goal
        >>> lesson_08.check_mixup(only_images)
        The labels are as they came. An image that is a blend has a label that is the same blend.
    """
    rng = torch.Generator().manual_seed(0)
    x, goal = torch.rand(4, 2, 3, 4, generator=rng), torch.eye(4)[[0, 2, 1, 1]]
    lam, order = torch.tensor([0.9, 0.2, 0.7, 0.4]), torch.tensor([2, 0, 3, 1])
    todo = "Return two things: the blended images, and the blended labels."
    given = x.clone(), goal.clone()
    found = attempt(mixup, *given, lam.clone(), order.clone(), todo=todo)
    if found is None:
        return
    if not isinstance(found, tuple | list) or len(found) != 2:
        print(f"Not yet: one {type(found).__name__} arrived. {todo}")
        return
    back = order.argsort()

    def blend(values: Tensor, share: Tensor, partners: Tensor) -> Tensor:
        return share * values + (1 - share) * values[partners]

    def fault(part: Any, values: Tensor, what: str, own: Mistakes) -> str | None:
        """Say which mistake a part shows, or None where it is the right blend."""
        share = lam.view(-1, *[1] * (values.ndim - 1))
        right = blend(values, share, order)
        if is_close(part, right):
            return None
        columns = lam.expand_as(values)
        mistakes: Mistakes = {
            **own,
            f"The {what} are those of the partners alone: blend them with their own.": values[order],
            f"The {what} have the shares exchanged: lam belongs to the first one, 1 - lam to its "
            "partner.": blend(values, 1 - share, order),
            f"One share was taken for all {what}: lam has one for each image.": tuple(
                blend(values, one, order) for one in (*lam, lam.mean())
            ),
            f"Every share was a half for the {what}. Take those that arrived in lam.": blend(
                values, torch.tensor(0.5), order
            ),
            f"The {what} were added, and not blended: the shares of a blend are lam and 1 - lam.": (
                values + values[order],
                values + share * values[order],
                values + (1 - share) * values[order],
                share * values + values[order],
            ),
            f"For the {what}, lam met the last axis instead of the images: it gave each column a share. "
            "Bring it to the shape (n, 1, ..., 1).": blend(values, columns, order),
            f"Other partners were taken for the {what}: the partner of number k is number order[k].": (
                blend(values, share, back),
                blend(values, share, torch.arange(len(values)).flip(0)),
                blend(values, share, torch.arange(len(values)).roll(1)),
                blend(values, share, torch.arange(len(values)).roll(-1)),
            ),
        }
        seen = [
            text
            for text, wrong in mistakes.items()
            if any(is_close(part, one) for one in (wrong if isinstance(wrong, tuple) else (wrong,)))
        ]
        try:
            shape = tuple(torch.as_tensor(part).shape)
        except (TypeError, ValueError, RuntimeError):
            return f"Not yet. The {what} came back as {type(part).__name__}. {todo}"
        if not seen and shape != tuple(values.shape):
            return f"Not yet. The {what} have the shape {shape}; expected {tuple(values.shape)}."
        return [*seen, f"Not yet: the {what} are not lam of their own and 1 - lam of the partner's."][0]

    images, labels = found
    blended = blend(goal, lam[:, None], order)
    rounded = torch.nn.functional.one_hot(blended.argmax(1), 4)
    of_images = fault(images, x, "images", {"The images are as they came.": x})
    of_labels = fault(
        labels,
        goal,
        "labels",
        {
            "The labels are as they came. An image that is a blend has a label that is the same blend.": goal,
            "The blended label was rounded to one class: it has to keep both shares.": (
                rounded,
                blended.argmax(1),
            ),
        },
    )
    both = is_close(images, blend(x, 1 - lam.view(-1, 1, 1, 1), order)) and is_close(
        labels, blend(goal, 1 - lam[:, None], order)
    )
    changed = not (torch.equal(given[0], x) and torch.equal(given[1], goal))
    judge_effects(
        {
            "The shares are exchanged, in images and labels: lam belongs to the first one, 1 - lam to its "
            "partner.": both,
            "The images or labels that arrived were changed in place, so the partners are blended already. "
            "Make new ones.": changed,
            of_images or "": of_images is not None,
            of_labels or " ": of_labels is not None,
        },
        praise="what you see is what you are to say, in the same shares.",
    )


Losses = tuple[tuple[float, ...], int]


RUNS: tuple[Losses, ...] = (
    ((0.9, 0.7, 0.8, 0.6, 0.65, 0.64, 0.63, 0.3), 3),
    ((0.9, 0.8, 0.85, 0.84, 0.83, 0.2), 2),
    ((0.9, 0.5, 0.5, 0.5, 0.5, 0.4), 3),
    ((0.5, 0.6, 0.4, 0.5, 0.45, 0.3, 0.35), 3),
    ((0.8, 0.7, 0.6, 0.5), 2),
    ((0.9, 0.6, 0.8, 0.5, 0.7, 0.4, 0.6, 0.55), 2),
    ((0.4, 0.5, 0.6, 0.7, 0.1), 4),
)
"""Losses on held-out images, by epoch, and a patience: late miracles, equal losses, single bad epochs."""


def _stop(
    losses: Sequence[float],
    patience: int,
    *,
    equal: bool = False,
    before: bool = False,
    total: bool = False,
    last: bool = False,
) -> int:
    """Return the epoch to keep.

    With `equal` an equal loss is better; with `before` epochs are compared with the one before; with `total`
    bad epochs are never forgiven; with `last` the epoch where it stops is kept.
    """
    best, bad, epoch = 0, 0, 0
    for epoch in range(1, len(losses)):
        rival = losses[epoch - 1] if before else losses[best]
        if losses[epoch] < rival or (equal and losses[epoch] == rival):
            bad = bad if total else 0
        else:
            bad += 1
        if losses[epoch] < losses[best] or (equal and losses[epoch] == losses[best]):
            best = epoch
        if bad >= patience:
            break
    return epoch if last else best


def check_early_stop(early_stop: Callable[[list[float], int], int] | None) -> None:
    """Print whether a function finds the epoch that early stopping keeps, or which other rule it follows.

    Args:
        early_stop: The learner's `early_stop(losses, patience)`; it returns the number of an epoch, from 0.

    Example:
        >>> from tlutils.checks import lesson_08
        >>> lesson_08.check_early_stop(lambda losses, patience: losses.index(min(losses)))
        This is the best of all epochs. Training had stopped before some of them: patience was at its end.
    """
    todo = "Return the number of the epoch to keep, from 0."
    answers = []
    for losses, patience in RUNS:
        found = attempt(early_stop, list(losses), patience, todo=todo)
        if found is None:
            return
        try:
            answers.append(float(found))  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):
            print(f"Not yet: a {type(found).__name__} arrived. {todo}")
            return

    def each(rule: Callable[[Sequence[float], int], float]) -> list[float]:
        return [float(rule(losses, patience)) for losses, patience in RUNS]

    right = each(_stop)
    rules: dict[str, tuple[list[float], ...]] = {
        "This is the best of all epochs. Training had stopped before some of them: patience was at its "
        "end.": (each(lambda own, _: own.index(min(own))),),
        "This is the epoch in which training stops. Keep the best one before it.": (
            each(lambda own, patience: _stop(own, patience, last=True)),
        ),
        "This is the last epoch, whatever came before it.": (each(lambda own, _: len(own) - 1),),
        "This stops at the first epoch that is not better, whatever the patience.": (
            each(lambda own, _: _stop(own, 1)),
            each(lambda own, _: _stop(own, 1, last=True)),
        ),
        "An epoch with an equal loss counts as better here. Only a lower loss is.": (
            each(lambda own, patience: _stop(own, patience, equal=True)),
        ),
        "Each epoch is compared with the one before it. Compare it with the best so far: a slow recovery is "
        "no record.": (each(lambda own, patience: _stop(own, patience, before=True)),),
        "Bad epochs are never forgiven: a new best one starts the count again.": (
            each(lambda own, patience: _stop(own, patience, total=True)),
        ),
        "One epoch too patient: with a patience of 2 the second epoch without a better loss is the last "
        "one.": (each(lambda own, patience: _stop(own, patience + 1)),),
        "One epoch too impatient: with a patience of 2 one epoch without a better loss is still allowed.": (
            each(lambda own, patience: _stop(own, max(1, patience - 1))),
        ),
        "This is a loss. Return the number of its epoch.": (
            each(lambda own, patience: own[_stop(own, patience)]),
            each(lambda own, _: min(own)),
        ),
        "This is one too many: epochs are numbered from 0.": (
            each(lambda own, patience: _stop(own, patience) + 1),
        ),
        "This takes the largest value for the best. Of losses the lowest is.": (
            each(lambda own, patience: _stop([-loss for loss in own], patience)),
            each(lambda own, _: own.index(max(own))),
        ),
    }
    if answers == right:
        print("Right: patience forgives a bad epoch, and what is kept is the best one that was seen.")
        return
    seen = (text for text, wrong in rules.items() if answers in wrong)
    hint = "Note the best loss so far and its epoch; stop when `patience` epochs have passed since."
    print(next(seen, f"Not yet. {hint}"))


def check_views(average_views: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether a function averages what a network says of several views, or what it did instead.

    Args:
        average_views: The learner's `average_views(logits)`: from (views, n, classes) to (n, classes).

    Example:
        >>> from tlutils.checks import lesson_08
        >>> lesson_08.check_views(lambda logits: logits.mean(0).softmax(1))
        The mean was taken of logits, and softmax after it: a single view that is very sure then decides
        alone. Take softmax first, and the mean of probabilities.
    """
    logits = 3 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    logits[0, 0, 2] += 6  # one view is very sure
    found = attempt(average_views, logits.clone(), todo="Return probabilities (n, classes).")
    chances = logits.softmax(2)
    right = chances.mean(0)
    votes = torch.nn.functional.one_hot(logits.argmax(2), 5).double().mean(0)
    largest = chances.amax(0)
    product = chances.prod(0)
    judge(
        found,
        right,
        {
            "The mean was taken of logits, and softmax after it: a single view that is very sure then "
            "decides alone. Take softmax first, and the mean of probabilities.": (
                logits.mean(0).softmax(1),
                logits.sum(0).softmax(1),
                product,
                product / product.sum(1, keepdim=True),
            ),
            "These are logits. Softmax makes probabilities of them, view by view, before the mean.": (
                logits.mean(0),
                logits.sum(0),
            ),
            "These are votes: argmax throws away how sure each view was.": (votes, votes * 3),
            "These are classes. Return probabilities (n, classes), so that one can see how sure they are.": (
                right.argmax(1),
                votes.argmax(1),
                logits.mean(0).argmax(1),
                logits.argmax(2).mode(0).values,
            ),
            "Softmax ran over the views: it has to make each view's *classes* sum to 1.": (
                logits.softmax(0).mean(0),
                logits.softmax(0).sum(0),
            ),
            "Softmax ran over the images: it has to make each view's *classes* sum to 1.": (
                logits.softmax(1).mean(0)
            ),
            "The mean was taken over the images. It is over the views, the first axis.": chances.mean(1),
            "The mean was taken over the classes. It is over the views, the first axis.": chances.mean(2),
            "These are sums: three views give probabilities that sum to 3. Take the mean.": chances.sum(0),
            "This is the largest probability over the views, and not their mean.": (
                largest,
                largest / largest.sum(1, keepdim=True),
            ),
            "This is one view alone.": tuple(chances),
            "Softmax was taken once more, of probabilities: they are almost equal now.": (
                right.softmax(1),
                chances.softmax(2).mean(0),
            ),
            "Each logit went through a sigmoid by itself: the probabilities of an image do not sum to 1.": (
                logits.sigmoid().mean(0)
            ),
            "These are logarithms of probabilities.": (right.log(), logits.log_softmax(2).mean(0)),
        },
        praise="each view has one say, as sure as it is, and the rows still sum to 1.",
    )


def check_hold_out(hold_out: Callable[[np.ndarray, float, int], Any] | None) -> None:
    """Print whether a function holds out whole groups, at random, or which mistake it makes.

    Args:
        hold_out: The learner's `hold_out(groups, share, seed)`: for each row, whether it is held out.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_08
        >>> lesson_08.check_hold_out(lambda groups, share, seed: np.arange(len(groups)) % 4 == 0)
        Rows of one group are on both sides. Draw groups, and take all rows of each.
    """
    todo = "Return True for each row that is held out, and False for the others."
    rng = np.random.default_rng(5)
    groups = rng.permutation(np.repeat(np.arange(100, 120), [9, 1] * 10))
    state = np.random.get_state()  # noqa: NPY002 - learners may draw from it
    calls = [(groups, 0.25, 0), (groups, 0.25, 0), *((groups, 0.25, seed) for seed in range(1, 9))]
    words = np.array([f"image {name}" for name in groups])
    calls += [(groups, 0.4, 0), (words, 0.25, 0)]
    masks = []
    for number, (own, share, seed) in enumerate(calls):
        np.random.seed(number)  # noqa: NPY002
        found = attempt(hold_out, own.copy(), share, seed, todo=todo)
        if found is None:
            break
        mask = np.asarray(found)
        if mask.shape != groups.shape or not set(np.unique(mask).tolist()) <= {0, 1}:
            numbers = mask.ndim == 1 and 0 < mask.size < len(groups)
            what = "Numbers of rows came back" if numbers else f"Something of shape {mask.shape} came back"
            print(f"{what}. Expected one True or False for each of the {len(groups)} rows.")
            break
        masks.append(mask.astype(bool))
    np.random.set_state(state)  # noqa: NPY002
    if len(masks) < len(calls):
        return

    def counted(mask: np.ndarray) -> int:
        return len(np.unique(groups[mask]))

    split = any(np.isin(groups[mask], groups[~mask]).any() for mask in masks)
    shares = [counted(mask) for mask in masks[:-2]]
    judge_effects(
        {
            "Nothing is held out.": not any(mask.any() for mask in masks),
            "Everything is held out: nothing is left to learn from.": all(mask.all() for mask in masks),
            "Rows of one group are on both sides. Draw groups, and take all rows of each.": split,
            "The same call gives other rows each time: draw from np.random.default_rng(seed).": bool(
                (masks[0] != masks[1]).any()
            ),
            "Every seed holds out the same rows: is it used?": all(
                np.array_equal(mask, masks[0]) for mask in masks[2:-2]
            ),
            "The sides are exchanged: True is for the share that is held out.": all(n == 15 for n in shares),
            "About a quarter of the *rows* is held out, or groups are drawn by their rows, so that the large "
            "ones come first. Count groups: each is one picture.": len(set(shares)) > 1,
            "One group too few or too many: of 20 groups a quarter is 5.": shares[0] in (4, 6),
            "The share that arrives is not the one that is held out.": shares[0] != 5
            or counted(masks[-2]) != 8,
            "Groups may have names instead of numbers, and then something else comes out.": counted(masks[-1])
            != 5,
        },
        praise="what is on one side is on that side with all its views.",
    )
