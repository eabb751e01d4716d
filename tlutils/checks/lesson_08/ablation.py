"""An ablation of augmentation: the same draws, judged on the same images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ... import runtime
from ..common import attempt, judge

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
