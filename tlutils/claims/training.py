"""Protocols that train the network: strategies, rates, BatchNorm, and one block for one kind of shift."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from .. import runtime, surgery, train
from ..errors import unknown
from ..train import Recipe
from .materials import BACKBONE, MATERIALS, codes, draw, fresh, head_of, score, stack
from .probing import solve

RATE, HEAD_RATE, BATCH = 3e-4, 3e-3, 16
CUTS = {"few": "stage7", "more": "stage4"}
"""First stage that trains where a few stages are finetuned, and where more are."""


def training(
    *, dataset: str, strategy: str, level: str, images: int, epochs: int, rate: float, seed: int
) -> dict[str, Any]:
    """A strategy on a draw of a data set; measures `score` on held-out images after the last epoch.

    "finetune" puts a solved probe on as the head and trains everything at `rate`; "few" and "more" train
    from a cut on. "at once" is finetuning with a random head at a rate of its own; "norms on" lets BatchNorm
    learn and update its statistics in finetuning, everything else holds them; "scratch" begins with random
    weights and BatchNorm on. For the first two, `noisy` is the score on the same held-out images under
    noise. Nothing is augmented, and no run chooses its rate or its number of epochs.
    """
    sample, size = draw(dataset, images, seed), MATERIALS[dataset].size
    model = fresh(size, len(sample.classes), seed)
    if strategy not in ("at once", "scratch"):
        put_probe_on(model, sample, size, seed)
    shared: dict[str, Any] = {"batch_size": BATCH, "keep": "last", "seed": seed, "epochs": epochs}
    held: dict[str, Any] = {"train_bn": False, "lr": rate, "head_lr": rate}
    if strategy in CUTS:
        recipe = Recipe.partial(CUTS[strategy], **shared, **held)
    elif strategy == "scratch":
        recipe = Recipe.scratch(**shared, lr=rate)
    elif strategy in ("finetune", "at once", "norms on"):
        own: dict[str, dict[str, Any]] = {"at once": {"head_lr": HEAD_RATE}, "norms on": {"train_bn": True}}
        changes = own.get(strategy, {})
        recipe = Recipe.finetune(**shared | held | changes)
    else:
        raise unknown("strategy", strategy, ["finetune", "at once", "norms on", "scratch", *CUTS])
    history = train.fit(model, replace(sample, val=sample.val.select([])), recipe)
    if history.stopped:  # the rate was too large: what is left is no trained network
        return dict.fromkeys(["score", "noisy"], 1 / len(sample.classes)) | {"labels": len(sample.train)}
    labels = sample.val.labels
    found = {"score": score(model, stack(model, sample.val), labels), "labels": len(sample.train)}
    if strategy in ("finetune", "at once"):
        found["noisy"] = score(model, stack(model, sample.val, noise(seed)), labels)
    return found


def put_probe_on(model: nn.Module, sample: Any, size: int, seed: int) -> None:
    """Solve a linear probe on the pretrained final codes, and make it the head of `model`, in place."""
    known = codes(sample.train, backbone=BACKBONE, stage="pool", size=size)
    head_of(model).load_state_dict(solve(known, sample.train, seed).head().state_dict())


def noise(seed: int, deviation: float = 20.0) -> Callable[[Image.Image], Image.Image]:
    """Return a function that adds Gaussian noise (in grey values of 0 to 255) to pictures, by `seed`."""
    rng = np.random.default_rng([seed, 1])

    def noisy(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image.convert("RGB"), dtype=float)
        grain = rng.normal(0, deviation, (*pixels.shape[:2], 1))
        return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))

    return noisy


BLOCKS = {"first": ("stem", "stage1", "stage2"), "middle": ("stage4", "stage5"), "last": ("head",)}
"""Blocks that are tuned alone, after Lee et al. 2023."""


def shifting(*, dataset: str, shift: str, tune: str, images: int, epochs: int, seed: int) -> dict[str, Any]:
    """A probed network meets a shift; one block of it is tuned on a few shifted images. `score` on others.

    Shifts of the input: "noise", "negative". Of the output: "relabel" (every class takes the name of the
    next). `before` is the score on shifted images without tuning.
    """
    source, size = draw(dataset, 20, seed), MATERIALS[dataset].size
    few, classes = draw(dataset, images, seed + 1000), len(source.classes)
    model = fresh(size, classes, seed)
    put_probe_on(model, source, size, seed)
    changes = {"noise": noise(seed), "negative": negative}
    x, new = (stack(model, split, changes.get(shift)) for split in (few.train, source.val))
    turn = int(shift == "relabel")
    y, truth = ((np.array(split.labels) + turn) % classes for split in (few.train, source.val))
    before = score(model, new, truth)
    stages = surgery.stages(model)
    names = {n for s in stages if tune == "all" or s.name in BLOCKS[tune] for n in s.parameters}
    descend(
        model,
        names,
        x,
        torch.from_numpy(y),
        epochs=epochs,
        lr=RATE if tune != "last" else HEAD_RATE,
        seed=seed,
    )
    return {"score": score(model, new, truth), "before": before, "labels": len(few.train)}


def negative(image: Image.Image) -> Image.Image:
    """Return the picture with bright and dark exchanged."""
    return Image.eval(image, lambda value: 255 - value)


def descend(
    model: nn.Module, names: set[str], x: torch.Tensor, y: torch.Tensor, *, epochs: int, lr: float, seed: int
) -> None:
    """Train the parameters of these names alone, in place; BatchNorm and dropout stay as in evaluation."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    with runtime.seeded(seed), torch.enable_grad():
        for _ in range(epochs):
            for some in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(model.eval()(x[some]), y[some]).backward()
                optimizer.step()
