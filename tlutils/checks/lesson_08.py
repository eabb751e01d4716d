"""Checks of lesson 08: mixup, early stopping, views averaged, held out and ablated, and a low-rank update."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import runtime
from .common import Mistakes, attempt, is_close, judge, judge_effects


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


SPLITS = ("train", "val", "test")
SEEDS, SIZE = (3, 5, 8, 13), 12  # of the heads in an ablation, and of their draws


@dataclass
class _Head:
    """A head that is right more often with views, and remembers what it learned from and what it judged.

    Embeddings are (split, image, view), so that each says where it comes from.
    """

    labels: Tensor  # (splits, images)
    learned: Tensor  # (n, views, 3)
    told: Tensor  # (n,)
    seed: int
    judged: list[Tensor] = field(default_factory=list)

    @property
    def rows(self) -> list[int]:
        return [int(row) for row in self.learned[:, 0, 1]]

    @property
    def views(self) -> list[int]:
        return sorted({int(view) for view in self.learned[..., 2].flatten()})

    def __call__(self, x: Tensor) -> Tensor:
        x = torch.as_tensor(x)
        self.judged.append(x.reshape(-1, 3))
        return self.answers(x)

    def answers(self, x: Tensor) -> Tensor:
        """Logits (..., 2), with luck that depends on all that the head learned from."""
        luck = torch.Generator().manual_seed(7 * sum(self.rows) + 1000 * len(self.views) + self.seed)
        chance = torch.rand(*self.labels.shape, 8, generator=luck)
        split, image, view = x.long().unbind(-1)
        right = chance[split, image, view] < (0.85 if len(self.views) > 1 else 0.6)
        truth = self.labels[split, image]
        return nn.functional.one_hot(torch.where(right, truth, 1 - truth), 2).float()


def check_ablation(ablate: Callable[[Any, Any, int, Sequence[int]], Any] | None) -> None:
    """Print whether a function measures what views gain, or what makes its comparison unfair.

    Args:
        ablate: The learner's `ablate(fit, splits, size, seeds)`; it returns one difference for each seed.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_08
        >>> def on_test(fit, splits, size, seeds):
        ...     (x, y), (new, truth) = splits["train"], splits["test"]
        ...     gains = []
        ...     for seed in seeds:
        ...         rows = np.random.default_rng(seed).permutation(len(y))[:size]
        ...         heads = [fit(part, y[rows], seed) for part in (x[rows], x[rows, :1])]
        ...         one, other = [(head(new[:, 0]).argmax(1) == truth).float().mean() for head in heads]
        ...         gains.append(float(one - other))
        ...     return gains
        >>> lesson_08.check_ablation(on_test)
        The test split was opened. Whether to augment is a choice: judge it by val.
    """
    runs = []
    for number in range(2):
        found, heads = _run_ablation(ablate, number)
        if found is None:
            return
        runs.append(heads)
    if fault := _fault_of_arms(runs[0]) or _fault_of_draws(*runs):
        print(fault)
        return
    plain = [_accuracy(head) for head in runs[0] if len(head.views) == 1]
    augmented = [_accuracy(head) for head in runs[0] if len(head.views) > 1]
    one, other = torch.tensor(augmented), torch.tensor(plain)
    gains = one - other
    judge(
        found,
        gains,
        {
            "The sign is turned round: with views minus without, so that a gain is above 0.": -gains,
            "This is the mean. Return one difference for each seed: no interval comes out of a mean.": (
                gains.mean(),
                -gains.mean(),
            ),
            "These are the accuracies with views alone. Subtract those without, seed by seed.": one,
            "These are the accuracies without views alone. Subtract them from those with.": other,
            "These are the accuracies of both. Subtract them seed by seed: what a draw does to both drops "
            "out.": (
                torch.stack([one, other]),
                torch.stack([one, other], 1),
                torch.cat([one, other]),
            ),
            "These are numbers of images. Accuracy is the share that is right.": gains * _IMAGES,
            "This is a ratio. Return the difference.": (one / other, one / other - 1),
        },
        praise="the same images, the same seeds, and judges as they are: what is left are the views.",
    )


_IMAGES = 40  # in each split of the check


def _run_ablation(
    ablate: Callable[[Any, Any, int, Sequence[int]], Any] | None, number: int
) -> tuple[Any, list[_Head]]:
    """Return what the learner's function gives, and all heads that it trained, in their order.

    The global generators start from `number`, and are given back as they were.
    """
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (len(SPLITS), _IMAGES), generator=rng)
    heads: list[_Head] = []

    def fit(x: Any, y: Any, seed: int) -> _Head:
        x, y = torch.as_tensor(x), torch.as_tensor(y)
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise ValueError(
                f"x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)} arrived in fit; expected "
                "(n, views, D) and (n,)"
            )
        heads.append(_Head(labels, x, y, int(seed)))
        return heads[-1]

    view, image = torch.arange(4), torch.arange(_IMAGES)
    splits = {
        name: (
            torch.stack(torch.meshgrid(torch.tensor([k]), image, view, indexing="ij"), -1)[0].float(),
            labels[k].clone(),
        )
        for k, name in enumerate(SPLITS)
    }
    with runtime.seeded(number):
        found = attempt(ablate, fit, splits, SIZE, list(SEEDS), todo="Return one difference for each seed.")
    return found, heads


def _accuracy(head: _Head) -> float:
    """Return the share of images of val, as they are, about which a head is right."""
    image = torch.arange(_IMAGES)
    x = torch.stack([torch.ones_like(image), image, torch.zeros_like(image)], 1)
    return float((head.answers(x).argmax(1) == head.labels[1]).float().mean())


def _fault_of_arms(heads: Sequence[_Head]) -> str | None:
    """Return what is wrong with the heads of an ablation taken one by one."""
    judged = [torch.cat(head.judged) if head.judged else torch.empty(0, 3) for head in heads]
    seen = torch.cat(judged) if judged else torch.empty(0, 3)
    plain = [head for head in heads if len(head.views) == 1]
    mistakes = {
        "No head was trained: fit does it.": not heads,
        "The test split was opened. Whether to augment is a choice: judge it by val.": bool(
            (seen[:, 0] == 2).any()
        ),
        "The heads learned from another split than train.": any(
            bool((head.learned[..., 0] != 0).any()) for head in heads
        ),
        "The heads were judged by images of train, which they may have learned from: judge by val.": bool(
            (seen[:, 0] == 0).any()
        ),
        "The labels belong to other images: take y by the same rows as x.": any(
            not torch.equal(head.told.long(), head.labels[0, head.rows]) for head in heads
        ),
        "No head learned from the images as they are alone: that is x[rows, :1], which keeps the axis of "
        "views.": not plain,
        "The head without augmentation learned from a random view. View 0 is the image as it is.": any(
            head.views != [0] for head in plain
        ),
        "No head learned from augmented views: that is x[rows], with all of them.": len(plain) == len(heads),
        f"{len(heads)} heads were trained, {len(plain)} of them without views. Expected one with views and "
        f"one without for each of the {len(SEEDS)} seeds.": len(heads) != 2 * len(SEEDS)
        or len(plain) != len(SEEDS),
        "The heads were judged by augmented views, and by as many rows of one image as it has views. Judge "
        "images as they are: view 0.": bool((seen[:, 2] != 0).any()),
        "A head was not judged by all images of val.": any(
            len(own[:, 1].unique()) < _IMAGES for own in judged
        ),
    }
    return next((text for text, made in mistakes.items() if made), None)


def _fault_of_draws(heads: Sequence[_Head], again: Sequence[_Head]) -> str | None:
    """Return what is wrong with the draws of an ablation, which ran twice."""
    arms = [[head for head in heads if (len(head.views) > 1) == many] for many in (True, False)]
    drawn = [[set(head.rows) for head in arm] for arm in arms]
    seeds = [[head.seed for head in arm] for arm in arms]
    mistakes: Mapping[str, bool] = {
        f"A head learned from {len(heads[0].rows)} images. Expected `size`, {SIZE}.": any(
            len(head.rows) != SIZE for head in heads
        ),
        "An image is in one draw several times: draw without replacement.": any(
            len(rows) < SIZE for arm in drawn for rows in arm
        ),
        "The same call draws other images each time: draw from np.random.default_rng(seed).": (
            [head.rows for head in heads] != [head.rows for head in again]
        ),
        "The two arms learned from different images: the luck of the draw is then part of what views seem to "
        "gain. Draw once for each seed, and train both heads on it.": drawn[0] != drawn[1],
        "Every head learned from the same images. One draw says nothing about other images: draw again with "
        "each seed.": all(rows == drawn[0][0] for rows in drawn[0]),
        "The two arms trained with different seeds: what the order of training does is then part of what "
        "views seem to gain. Give both heads the same one.": seeds[0] != seeds[1],
        "Every head trained with the same seed. Give fit the seed of its draw.": len(set(seeds[0])) == 1,
    }
    return next((text for text, made in mistakes.items() if made), None)


def check_low_rank(build: Callable[[nn.Linear, int], nn.Module] | None) -> None:
    """Print whether a module adds a low-rank update to a frozen linear layer, or what it does instead.

    Args:
        build: The learner's class, called as `build(linear, rank)`.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_08
        >>> class BothRandom(nn.Module):
        ...     def __init__(self, linear, rank):
        ...         super().__init__()
        ...         self.linear = linear.requires_grad_(False)
        ...         self.down = nn.Linear(linear.in_features, rank, bias=False)
        ...         self.up = nn.Linear(rank, linear.out_features, bias=False)
        ...
        ...     def forward(self, x):
        ...         return self.linear(x) + self.up(self.down(x))
        >>> lesson_08.check_low_rank(BothRandom)
        At the start it does not give what the old layer gives: B has to begin at zero.
    """
    todo = "Return W x + b + B A x, (n, outputs)."
    with runtime.seeded(0):
        linear, x, rank = nn.Linear(6, 5), torch.randn(7, 6), 2
        old = copy.deepcopy(linear).requires_grad_(False)
        layer = attempt(build, linear, rank, todo=todo)
        if layer is None:
            return
        if not isinstance(layer, nn.Module):
            print(f"Not yet: a {type(layer).__name__} arrived. Expected an nn.Module.")
            return
        out = attempt(layer, x, todo=todo)
        if out is None:
            return
        fault = _fault_of_update(layer, linear, old, out, x, rank)
    print(fault or "Right: it begins as the old layer, and what it may learn has a rank of two.")


def _fault_of_update(
    layer: nn.Module, linear: nn.Linear, old: nn.Linear, out: Any, x: Tensor, rank: int
) -> str | None:
    """Return what is wrong with a layer that should be `linear`, as it was in `old`, and an update."""
    if not isinstance(out, Tensor) or out.shape != (len(x), linear.out_features):
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        return f"Seven rows give {shape}. Expected {(len(x), linear.out_features)}."
    if not torch.equal(linear.weight.detach(), old.weight):
        return "The weight of the layer that arrived was changed. It stays as it is, and B A x is added."
    free = [p for p in layer.parameters() if p.requires_grad]
    if any(p is linear.weight or p.shape == (linear.out_features, linear.in_features) for p in free):
        return "A whole matrix trains, as large as W. Freeze W; only A and B train."
    if any(p is linear.bias for p in free):
        return "The old bias still trains: freeze the whole layer, linear.requires_grad_(False)."
    if not free:
        return "Nothing trains: make A and B an nn.Parameter each, or an nn.Linear without bias."
    count, wanted = sum(p.numel() for p in free), rank * (linear.in_features + linear.out_features)
    if count in (wanted + rank, wanted + linear.out_features, wanted + rank + linear.out_features):
        return "The new layers have biases. A and B are matrices: give bias=False."
    if count != wanted:
        return f"{count} parameters train. Expected rank × (inputs + outputs), here {wanted}."
    if not is_close(out, old(x)):
        if is_close(out, torch.zeros_like(out)):
            return "The old layer's output is missing: B A x is added to it."
        return "At the start it does not give what the old layer gives: B has to begin at zero."
    with torch.enable_grad():
        slopes = torch.autograd.grad(layer(x).square().sum(), free, allow_unused=True)
    if all(slope is None or not slope.any() for slope in slopes):
        return (
            "Nothing will ever move: A and B both begin at zero, and the gradient of each is a multiple of "
            "the other. Start A at random."
        )
    down = next((p for p in free if linear.in_features in p.shape), None)
    if down is not None and not down.any():
        return "A begins at zero and B at random. It would train as well, but the paper's way is the reverse."
    return _fault_of_free_update(layer, old, free, x, rank)


def _fault_of_free_update(
    layer: nn.Module, old: nn.Linear, free: Sequence[nn.Parameter], x: Tensor, rank: int
) -> str | None:
    """Return what is wrong with the update of a layer once all that trains was moved."""
    with torch.no_grad():
        for parameter in free:
            nn.init.normal_(parameter)
        both, opposite = (layer(sign * x) - old(sign * x) for sign in (1, -1))
        if not is_close(both, -opposite):
            return (
                "There is something between A and B that is not linear. Such an update cannot be added to W."
            )
        down, up = (next(p for p in free if n in p.shape) for n in (old.in_features, old.out_features))
        a, b = (p if p.shape[0] == n else p.T for p, n in ((down, rank), (up, old.out_features)))
        wanted = x @ a.T @ b.T
    if is_close(both, wanted):
        return None
    factor = float((both * wanted).sum() / wanted.square().sum())
    if is_close(both, factor * wanted):
        return f"The update is B A x times {factor:.2g}. Add it as it is."
    return "What is added is not B A x, once A and B have moved. Try it with numbers of your own."
