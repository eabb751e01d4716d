"""What the claims are measured on: data sets near to ImageNet and far from it, sizes, draws, networks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .. import data, features, metrics, models, surgery
from ..errors import unknown
from ..inference import evaluating, logits_of

BACKBONE = models.DEFAULT
STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7", "pool")
"""Where the backbone is read: what leaves each of these stages; "pool" has the final features."""


@dataclass(frozen=True)
class Material:
    """A data set as the claims use it: side of the input in pixels, held-out images of each class."""

    size: int
    held_out: int
    similar: bool


MATERIALS = {
    "scenes": Material(size=64, held_out=20, similar=True),
    "elpv-defects": Material(size=80, held_out=80, similar=False),
    "mnist-5k": Material(size=48, held_out=20, similar=False),
}
"""The one place that says which data sets are similar to ImageNet; `domain_distance` measures it."""

NEAR, *_FAR = sorted(MATERIALS, key=lambda name: not MATERIALS[name].similar)
FAR = tuple(_FAR)


@cache
def load_dataset(name: str) -> data.DatasetSplits:
    """Return a data set, loaded once in a process."""
    return data.load(name)


def draw_sample(name: str, images: int, seed: int) -> data.DatasetSplits:
    """Return a data set with `images` of each class to learn from and other images, held out, in `val`.

    Both are drawn by `seed`: the training images from the data set's train split, the held-out ones from its
    val split. Nothing here is ever chosen on those, so that they can judge, and the test split stays
    untouched: whatever a protocol chooses, it chooses by cross-validation within its training images.
    """
    whole = load_dataset(name)
    held = whole.val.subsample(MATERIALS[name].held_out, seed=seed)
    return replace(whole, train=whole.train.subsample(images, seed=seed), val=held)


@lru_cache(maxsize=12)
def load_network(backbone: str, size: int, classes: int | None = None, seed: int = 0) -> nn.Module:
    """Return a network: a name for ImageNet's weights, "random" for the default one as it is drawn by `seed`.

    One per process, since finding a network's stages takes longer than a short training: whoever trains it
    puts the weights back first (`reset_network`).
    """
    pretrained = backbone != "random"
    model = models.load(backbone if pretrained else BACKBONE, pretrained, input_size=size, seed=seed)
    return model if classes is None else surgery.replace_head(model, classes)


@cache
def pretrained_weights(size: int, classes: int) -> dict[str, torch.Tensor]:
    """Return the pretrained weights, and a head, that every training begins with."""
    return {k: v.clone() for k, v in load_network(BACKBONE, size, classes).state_dict().items()}


def reset_network(size: int, classes: int, seed: int) -> nn.Module:
    """Return the pretrained network as it was loaded, unfrozen, in eval mode, with a head drawn by `seed`."""
    start = pretrained_weights(size, classes)
    model = surgery.unfreeze(load_network(BACKBONE, size, classes)).eval()
    model.load_state_dict(start)
    head = find_head(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * head.in_features**-0.5)
        head.bias.zero_()
    return model


def find_head(model: nn.Module) -> nn.Linear:
    """Return the last layer of a network."""
    (head,) = surgery.head_layers(model).values()
    assert isinstance(head, nn.Linear)
    return head


def read_features(split: data.Split, *, backbone: str, at: str, size: int, seed: int = 0) -> np.ndarray:
    """Return a description of each image as rows (N, D): what leaves a stage of a backbone, or its pixels.

    Features of all `STAGES` are extracted at once, and kept. "pixels" are grey thumbnails of 32 × 32.
    """
    if backbone == "pixels":
        thumbnails = [np.asarray(image.convert("L").resize((32, 32)), dtype=float) for image, _ in split]
        return np.stack(thumbnails).reshape(len(split), -1)
    if at not in STAGES:
        raise unknown("stage", at, STAGES)
    model = load_network(backbone, size, seed=seed if backbone == "random" else 0)
    return np.asarray(features.extract(model, split, at=STAGES, precision="float32")[at])


def prepare_images(
    model: nn.Module, split: data.Split, change: Callable[[Image.Image], Image.Image] | None = None
) -> torch.Tensor:
    """Return the images of a split, changed and prepared for a network, (N, 3, size, size)."""
    prepare = data.transform_for(model)
    return torch.stack([prepare(change(image) if change else image) for image, _ in split])


def score(model: nn.Module, x: torch.Tensor, labels: Any, *, batch: int = 32) -> float:
    """Return the balanced accuracy of a network, in eval mode, on prepared images x (N, C, H, W)."""
    with evaluating(model) as bare, torch.no_grad():
        guesses = torch.cat([logits_of(bare(part)).argmax(1) for part in x.split(batch)])
    return metrics.balanced_accuracy(labels, guesses)
