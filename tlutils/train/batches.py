"""Which images go into which step, and what is fed for them; all drawn from (seed, epoch, image)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .. import runtime
from .recipes import Recipe


class Draw(NamedTuple):
    """One image in one epoch: its place in the split, its view, its partner in mixup and its own share."""

    image: int
    view: int
    partner: int
    lam: float


class Batch(NamedTuple):
    """inputs: tensors (B, …), one for each value that crosses a cut; labels, others: (B,); lam: (B,)."""

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    others: torch.Tensor
    lam: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(tuple(x.to(device) for x in self.inputs), *(t.to(device) for t in self[1:]))


def derive(*numbers: int) -> int:
    """Return a seed that follows from several numbers, well mixed: (1, 0) and (0, 1) share nothing."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def plan(count: int, recipe: Recipe, epoch: int, *, least: int = 2) -> list[list[Draw]]:
    """Return the global batches of one epoch: every image once, in an order drawn from (seed, epoch).

    A last batch smaller than `least` joins the one before it: BatchNorm cannot use a batch of one, and
    dropping it would drop images, on tiny data all of them.
    """
    rng = np.random.default_rng(derive(recipe.seed, epoch))
    order = rng.permutation(count)
    partners = rng.permutation(count)
    lam = rng.beta(recipe.mixup, recipe.mixup, count) if recipe.mixup else np.ones(count)
    draws = [Draw(int(i), epoch, int(j), float(s)) for i, j, s in zip(order, partners, lam, strict=True)]
    batches = [draws[k : k + recipe.batch_size] for k in range(0, count, recipe.batch_size)]
    if len(batches) > 1 and len(batches[-1]) < least:
        tail = batches.pop()
        batches[-1].extend(tail)
    return batches


def in_order(count: int, size: int) -> list[list[Draw]]:
    """Return all images in their own order, in batches of at most `size`: for looking, not for training."""
    draws = [Draw(i, 0, i, 1.0) for i in range(count)]
    return [draws[k : k + size] for k in range(0, count, size)]


class Images(Dataset):
    """Feeds images: each decoded, transformed under its own seed, stacked to one tensor (B, C, H, W).

    `fixed` says that the transform draws nothing at random, which saves a third of a millisecond an image.
    """

    def __init__(self, split: Any, transform: Any, *, seed: int, fixed: bool = False) -> None:
        self.items, self.labels = split.transformed(transform), torch.tensor(split.labels)
        self.seed, self.fixed = seed, fixed

    def __len__(self) -> int:
        return len(self.items)

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        def stacked(indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
            return (torch.stack([self._image(d.view, i) for d, i in zip(draws, indices, strict=True)]),)

        return _mixed(stacked, draws, self.labels)

    def _image(self, view: int, index: int) -> torch.Tensor:
        if self.fixed:
            return self.items[index][0]
        # Whatever a transform draws from (Python, NumPy, torch), it draws the same in any number of workers.
        with runtime.seeded(derive(self.seed, view, index)):
            return self.items[index][0]


class Maps(Dataset):
    """Feeds what a frozen prefix gave: arrays (N * views, …), one for each value that crosses the cut.

    Image i has the rows i * views to i * views + views - 1, as `features.extract` lays them.
    """

    def __init__(self, arrays: Sequence[np.ndarray], labels: Sequence[int], *, views: int) -> None:
        self.arrays, self.labels, self.views = arrays, torch.tensor(labels), views

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        def stacked(indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
            rows = [i * self.views + d.view % self.views for d, i in zip(draws, indices, strict=True)]
            return tuple(torch.from_numpy(array[rows]) for array in self.arrays)

        return _mixed(stacked, draws, self.labels)


def _mixed(
    stacked: Callable[[Sequence[int]], tuple[torch.Tensor, ...]], draws: Sequence[Draw], labels: torch.Tensor
) -> Batch:
    """Return the batch of `draws`, each image blended with its partner where its share is below 1."""
    indices, partners = [d.image for d in draws], [d.partner for d in draws]
    lam = torch.tensor([d.lam for d in draws])
    inputs = stacked(indices)
    if any(d.lam < 1 for d in draws):
        wide = [lam.view(-1, *[1] * (x.dim() - 1)) for x in inputs]
        inputs = tuple(w * x + (1 - w) * y for w, x, y in zip(wide, inputs, stacked(partners), strict=True))
    return Batch(inputs, labels[indices], labels[partners], lam)


def load(dataset: Dataset, batches: Sequence[Sequence[Draw]], *, num_workers: int = 0) -> Iterator[Batch]:
    """Yield a `Batch` for each list of draws, decoded in `num_workers` processes."""
    # A generator of its own: otherwise the loader takes a number from torch's global one.
    yield from DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


def split(batch: Batch, micro_batches: int) -> list[Batch]:
    """Return the batch in `micro_batches` parts whose sizes differ by one image at most."""
    inputs = zip(*(x.tensor_split(micro_batches) for x in batch.inputs), strict=True)
    others = zip(*(t.tensor_split(micro_batches) for t in batch[1:]), strict=True)
    return [Batch(x, *t) for x, t in zip(inputs, others, strict=True)]


def _as_it_is(batch: Any) -> Any:
    return batch
