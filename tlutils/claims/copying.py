"""Yosinski's experiment, small: layers copied from one network into another, frozen or tuned."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import runtime
from ..experiments import key_of
from .materials import judge_by, load_dataset, predict
from .rates import train_parameters

WIDTHS = (8, 16, 16, 32, 32)
LAYERS = len(WIDTHS)
RATE, STEPS, IMAGES = 3e-3, 600, 60


def layer_transfer(*, source: str, copied: int, layers: str, seed: int) -> dict[str, Any]:
    """A network on digits 5 to 9 whose first `copied` layers are copied; measures `hits` on held-out digits.

    The rest is initialised again and trained. The copy is from a network trained on digits 0 to 4 (`source`
    "other") or on the very same images ("same"), as in Yosinski et al. 2014 with two halves of ImageNet; the
    copied `layers` are "frozen", or "finetuned" with the rest. `copied` 0 copies nothing: the base network.
    All networks have the same number of steps; `last_loss` shows that their training loss came to a plateau.
    """
    model = make_network(seed + 500)
    if copied:
        giver = train_half("other" if source == "other" else "same", seed)
        own = {k: v for k, v in giver.items() if int(k.partition(".")[0]) < 2 * copied}
        model.load_state_dict({**model.state_dict(), **own})
    x, y, new, truth = draw_digits("same", seed)
    cut = 2 * copied if layers == "frozen" else 0
    with torch.no_grad():
        known = model[:cut](x)  # what is frozen runs once
    names = {n for n, _ in model[cut:].named_parameters()}
    loss = train_parameters(model[cut:], names, known, y, steps=STEPS, lr=RATE, seed=seed)
    return judge_by(truth, predict(model, new)) | {"last_loss": loss, "labels": len(x)}


def make_network(seed: int) -> nn.Sequential:
    """Return a small network for five classes of grey digits of 28 × 28; module 2k is layer k + 1."""
    layers: list[nn.Module] = []
    with runtime.seeded(seed):
        for number, (before, width) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False)):
            layers += [nn.Conv2d(before, width, 3, stride=1 + number % 2, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTHS[-1], 5))


@cache
def train_half(half: str, seed: int) -> dict[str, torch.Tensor]:
    """Return the weights of a network trained on one half of the classes, kept in a file for all workers."""
    run = {"half": half, "rate": RATE, "steps": STEPS, "images": IMAGES, "widths": str(WIDTHS), "seed": seed}
    path = runtime.cache_dir("claims") / f"half-{key_of('train_half', run)}.pt"
    with runtime.file_lock(path):
        if not path.exists():
            model = make_network(seed)
            x, y, _, _ = draw_digits(half, seed)
            names = {n for n, _ in model.named_parameters()}
            train_parameters(model, names, x, y, steps=STEPS, lr=RATE, seed=seed)
            with runtime.atomic_write(path) as temporary:
                torch.save(model.state_dict(), temporary)
        return torch.load(path)


@cache
def draw_digits(half: str, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images to learn from (N, 1, 28, 28), labels from 0 to 4, and held-out images and labels."""
    found: list[torch.Tensor] = []
    first = 5 if half == "same" else 0
    whole = load_dataset("mnist-5k")
    for split in (whole.train.subsample(IMAGES, seed=seed), whole.val):
        own = split.select([i for i, k in enumerate(split.labels) if first <= k < first + 5])
        pixels = np.stack(
            [
                np.asarray(image.convert("L"), dtype=np.float32)
                for image, _ in map(own.__getitem__, range(len(own)))
            ]
        )
        found += [torch.from_numpy(pixels / 128 - 1)[:, None], torch.tensor(own.labels) - first]
    x, y, new, truth = found
    return x, y, new, truth
