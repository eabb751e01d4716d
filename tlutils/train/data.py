"""What feeds training: which images go into which step, all drawn from (seed, epoch, image)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .. import data, features, metrics, runtime, surgery
from ..errors import LearnerError
from ..inference import dtype_of
from .recipe import Recipe


class Draw(NamedTuple):
    """One image in one epoch: its place in the split, its view, its partner in mixup, its own share `lam`."""

    image: int
    view: int
    partner: int
    lam: float


class TrainingBatch(NamedTuple):
    """`inputs`: tensors (B, …), one for each value that crosses the cut; the others: (B,)."""

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    partner_labels: torch.Tensor
    lam: torch.Tensor

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the batch on a device."""
        return TrainingBatch(tuple(x.to(device) for x in self.inputs), *(t.to(device) for t in self[1:]))

    def part(self, images: slice) -> "TrainingBatch":
        """Return some images of the batch."""
        return TrainingBatch(tuple(x[images] for x in self.inputs), *(t[images] for t in self[1:]))

    def split(self, micro_batches: int) -> list["TrainingBatch"]:
        """Return the batch in `micro_batches` parts whose sizes differ by one image at most."""
        inputs = zip(*(x.tensor_split(micro_batches) for x in self.inputs), strict=True)
        others = zip(*(t.tensor_split(micro_batches) for t in self[1:]), strict=True)
        return [TrainingBatch(x, *t) for x, t in zip(inputs, others, strict=True)]


def steps_per_epoch(images: int, batch_size: int, *, smallest: int = 2) -> int:
    """Return how many optimizer steps an epoch of `fit` has.

    A last batch of fewer than `smallest` images joins the one before it: BatchNorm cannot use a batch of one,
    and dropping it would drop images, on tiny data all of them.

    Args:
        images: Training images, 1 or more.
        batch_size: Images in one step.
        smallest: Images that a step needs: 2, or one for each process where there are more.

    Example:
        >>> from tlutils import train
        >>> [train.steps_per_epoch(images, 16) for images in (1, 16, 17, 18)]
        [1, 1, 1, 2]
    """
    before, rest = divmod(images - 1, batch_size)
    return max(1, before + (rest + 1 >= smallest))


def plan_epoch(images: int, recipe: Recipe, epoch: int, *, smallest: int = 2) -> list[list[Draw]]:
    """Return the batches of one epoch, as `steps_per_epoch` counts them.

    Every image comes once, in an order drawn from (seed, epoch).
    """
    rng = np.random.default_rng(runtime.derive_seed(recipe.seed, epoch))
    order = rng.permutation(images)
    partners = rng.permutation(images)
    lam = rng.beta(recipe.mixup, recipe.mixup, images) if recipe.mixup else np.ones(images)
    draws = [Draw(int(i), epoch, int(j), float(s)) for i, j, s in zip(order, partners, lam, strict=True)]
    steps = steps_per_epoch(images, recipe.batch_size, smallest=smallest)
    starts = [step * recipe.batch_size for step in range(steps)]
    return [draws[start:end] for start, end in zip(starts, [*starts[1:], images], strict=True)]


def plan_validation(images: int, batch_size: int) -> list[list[Draw]]:
    """Return all images in their own order, in batches of at most `batch_size`."""
    draws = [Draw(i, 0, i, 1.0) for i in range(images)]
    return [draws[k : k + batch_size] for k in range(0, images, batch_size)]


def compute_class_weights(labels: torch.Tensor, classes: int, recipe: Recipe) -> torch.Tensor:
    """Return one weight per class, (classes,): 1, or those of `metrics.balanced_weights`.

    `labels` (n,) are those of the images that train, and no others: weights from a larger set would not fit
    them.
    """
    if recipe.class_weight is None:
        return torch.ones(classes)
    return torch.from_numpy(metrics.balanced_weights(labels, classes)).float()


KEPT_BYTES = 2**28
"""How much of images that are the same in every epoch stays in memory: 445 of them at 224 pixels."""


class ImageInputs(Dataset[TrainingBatch]):
    """Feeds images: each decoded, transformed under its own seed, stacked to one tensor (B, C, H, W).

    What is not random is decoded once, as far as `KEPT_BYTES` reach.
    """

    def __init__(
        self,
        split: data.LabelledImages,
        transform: Callable[..., torch.Tensor],
        *,
        seed: int,
        random: bool,
        dtype: torch.dtype,
    ) -> None:
        self.split, self.transform, self.labels = split, transform, torch.tensor(split.labels)
        self.seed, self.random, self.dtype = seed, random, dtype
        self._kept: dict[int, torch.Tensor] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, draws: Sequence[Draw]) -> TrainingBatch:
        def stack(indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
            images = [self._load(d.view, i) for d, i in zip(draws, indices, strict=True)]
            return (torch.stack(images).to(self.dtype),)

        return _mix(stack, draws, self.labels)

    def _load(self, view: int, index: int) -> torch.Tensor:
        if not self.random:  # seeding costs a third of a millisecond per image
            if index in self._kept:
                return self._kept[index]
            image = self.transform(data.read_for(self.transform, self.split, index))
            if image.nbytes <= self._room:
                self._kept[index], self._room = image, self._room - image.nbytes
            return image
        # Whatever a transform draws from (Python, NumPy, torch), it draws the same in any number of workers.
        with runtime.seeded(runtime.derive_seed(self.seed, view, index)):
            return self.transform(data.read_for(self.transform, self.split, index))


class CachedInputs(Dataset[TrainingBatch]):
    """Feeds what a frozen prefix gave: arrays (N * views, …), one for each value that crosses the cut.

    Image i has the rows i * views to i * views + views - 1, as `features.extract` lays them out.
    """

    def __init__(self, arrays: Sequence[np.ndarray], labels: Sequence[int], *, views: int) -> None:
        self.arrays, self.labels, self.views = arrays, torch.tensor(labels), views

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, draws: Sequence[Draw]) -> TrainingBatch:
        def stack(indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
            rows = [i * self.views + d.view % self.views for d, i in zip(draws, indices, strict=True)]
            return tuple(torch.from_numpy(array[rows]) for array in self.arrays)

        return _mix(stack, draws, self.labels)


Inputs = ImageInputs | CachedInputs


def _mix(
    stack: Callable[[Sequence[int]], tuple[torch.Tensor, ...]], draws: Sequence[Draw], labels: torch.Tensor
) -> TrainingBatch:
    """Return the batch of `draws`, each image blended with its partner where its share is below 1."""
    images, partners = [d.image for d in draws], [d.partner for d in draws]
    lam = torch.tensor([d.lam for d in draws])
    inputs = stack(images)
    if any(d.lam < 1 for d in draws):
        wide = [lam.view(-1, *[1] * (x.dim() - 1)) for x in inputs]
        inputs = tuple(w * x + (1 - w) * y for w, x, y in zip(wide, inputs, stack(partners), strict=True))
    return TrainingBatch(inputs, labels[images], labels[partners], lam)


def prepare_inputs(
    model: nn.Module, dataset: data.TrainingData, recipe: Recipe
) -> tuple[nn.Module, Inputs, Inputs]:
    """Return what trains, and what feeds it in training and on val.

    That is the model, fed with images; or its suffix, fed with the outputs of the frozen prefix, which runs
    here, once per image and view.
    """
    train_transform = data.transform_for(model, train=recipe.augment)
    val_transform = data.transform_for(model)
    names = [stage.name for stage in surgery.stages(model)]
    from_stage = surgery.frozen_to(model) or names[0]
    views = int(not recipe.augment) if recipe.views is None else recipe.views
    moves = any(surgery.frozen_options(model))  # its norms or its dropout: no output is like the one before
    if moves and recipe.views:
        raise LearnerError(
            f"views={views} keeps what leaves the frozen part, and freeze_to(..., train_frozen_norms=True) "
            "or keep_dropout=True lets that change in each step. Leave views out, or freeze without these."
        )
    if not views or moves or from_stage == names[0]:
        shared: dict[str, Any] = {"seed": recipe.seed, "dtype": dtype_of(model)}
        train = ImageInputs(dataset.train, train_transform, random=bool(recipe.augment), **shared)
        return model, train, ImageInputs(dataset.val, val_transform, random=False, **shared)

    _, suffix = surgery.split_at(model, from_stage)
    last_frozen = names[names.index(from_stage) - 1]

    def cache(split: data.LabelledImages, transform: data.Preprocess, views: int | None) -> CachedInputs:
        if not len(split):
            return CachedInputs((), (), views=1)
        # float32, because what is kept must be what the prefix would give in each step.
        options: dict[str, Any] = {"pool": False, "seed": recipe.seed, "precision": "float32"}
        store = features.extract(model, split, at=last_frozen, transform=transform, views=views, **options)
        kept = store[last_frozen]
        return CachedInputs(kept if isinstance(kept, tuple) else (kept,), split.labels, views=views or 1)

    several = views if recipe.augment else None
    return suffix, cache(dataset.train, train_transform, several), cache(dataset.val, val_transform, None)


def load_batches(
    inputs: Inputs, batches: Sequence[Sequence[Draw]], *, num_workers: int = 0
) -> Iterator[TrainingBatch]:
    """Yield the batch of each list of draws, decoded in `num_workers` processes."""
    # A generator of its own: otherwise the loader takes a number from torch's global one.
    yield from DataLoader(
        inputs,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=num_workers,
        collate_fn=_identity,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


def _identity(batch: Any) -> Any:
    return batch
