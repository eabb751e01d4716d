"""Protocols that train the network: strategies, rates, BatchNorm, and one block for one kind of shift."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from .. import data, runtime, surgery, train
from ..errors import unknown
from ..train import Recipe
from .materials import (
    BACKBONE,
    MATERIALS,
    draw_sample,
    find_head,
    prepare_images,
    read_features,
    reset_network,
    score,
)
from .probing import probe_split

RATE, HEAD_RATE, BATCH = 3e-4, 3e-3, 16
FROM_STAGES = {"few": "stage7", "more": "stage4"}
"""First stage that trains where a few stages are finetuned, and where more are."""


def training(
    *, dataset: str, strategy: str, level: str, images: int, epochs: int, rate: float, seed: int
) -> dict[str, Any]:
    """A strategy on a draw of a data set; measures `score` on held-out images after the last epoch.

    "finetune" starts from a fitted linear probe as the head and trains everything at `rate`; "few" and "more"
    train from a stage of `FROM_STAGES` on. "random head" is finetuning from a random head, which has a rate
    of its own; "batchnorm on" is finetuning in which BatchNorm learns and updates its statistics (it is
    frozen in the others); "scratch" starts from random weights, with BatchNorm on. `noisy`, for "finetune"
    and "random head", is the score on the same held-out images under noise. Nothing is augmented, and no run
    chooses its rate or its number of epochs.
    """
    sample, size = draw_sample(dataset, images, seed), MATERIALS[dataset].size
    model = reset_network(size, len(sample.classes), seed)
    if strategy not in ("random head", "scratch"):
        install_probe(model, sample, size, seed)
    shared: dict[str, Any] = {"batch_size": BATCH, "keep": "last", "seed": seed, "epochs": epochs}
    held: dict[str, Any] = {"train_bn": False, "lr": rate, "head_lr": rate}
    if strategy in FROM_STAGES:
        recipe = Recipe.partial(FROM_STAGES[strategy], **shared, **held)
    elif strategy == "scratch":
        recipe = Recipe.scratch(**shared, lr=rate)
    elif strategy in ("finetune", "random head", "batchnorm on"):
        own: dict[str, dict[str, Any]] = {
            "random head": {"head_lr": HEAD_RATE},
            "batchnorm on": {"train_bn": True},
        }
        changes = own.get(strategy, {})
        recipe = Recipe.finetune(**shared | held | changes)
    else:
        raise unknown(
            "strategy", strategy, ["finetune", "random head", "batchnorm on", "scratch", *FROM_STAGES]
        )
    history = train.fit(model, replace(sample, val=sample.val.select([])), recipe)
    if history.stopped:  # the rate was too large: what is left is no trained network
        return dict.fromkeys(["score", "noisy"], 1 / len(sample.classes)) | {"labels": len(sample.train)}
    labels = sample.val.labels
    found = {"score": score(model, prepare_images(model, sample.val), labels), "labels": len(sample.train)}
    if strategy in ("finetune", "random head"):
        found["noisy"] = score(model, prepare_images(model, sample.val, make_noise(seed)), labels)
    return found


def install_probe(model: nn.Module, sample: data.DatasetSplits, size: int, seed: int) -> None:
    """Solve a linear probe on the pretrained final features, and make it the head of `model`, in place."""
    known = read_features(sample.train, backbone=BACKBONE, at="pool", size=size)
    find_head(model).load_state_dict(probe_split(known, sample.train, seed).head().state_dict())


def make_noise(seed: int, deviation: float = 20.0) -> Callable[[Image.Image], Image.Image]:
    """Return a function that adds Gaussian noise (in grey values of 0 to 255) to pictures, by `seed`."""
    rng = np.random.default_rng([seed, 1])

    def noisy(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image.convert("RGB"), dtype=float)
        grain = rng.normal(0, deviation, (*pixels.shape[:2], 1))
        return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))

    return noisy


BLOCKS = {"first": ("stem", "stage1", "stage2"), "last": ("head",)}
"""Blocks that are tuned alone, after Lee et al. 2023."""


def surgical_finetuning(
    *, dataset: str, shift: str, tune: str, images: int, epochs: int, seed: int
) -> dict[str, Any]:
    """A probed network meets a shift; one block of it is tuned on a few shifted images. `score` on others.

    `shift` "noise" is one of the input; "relabel", in which every class takes the name of the next, one of
    the output. `tune` names a block of `BLOCKS`, or "all". `before` is the score on shifted images without
    tuning. Lee et al. 2023 (arXiv:2210.11466).
    """
    source, size = draw_sample(dataset, 20, seed), MATERIALS[dataset].size
    few, classes = draw_sample(dataset, images, seed + 1000), len(source.classes)
    model = reset_network(size, classes, seed)
    install_probe(model, source, size, seed)
    change = make_noise(seed) if shift == "noise" else None
    x, new = (prepare_images(model, split, change) for split in (few.train, source.val))
    turn = int(shift == "relabel")
    y, truth = ((np.array(split.labels) + turn) % classes for split in (few.train, source.val))
    before = score(model, new, truth)
    stages = surgery.stages(model)
    names = {n for s in stages if tune == "all" or s.name in BLOCKS[tune] for n in s.parameters}
    train_parameters(
        model,
        names,
        x,
        torch.from_numpy(y),
        epochs=epochs,
        lr=RATE if tune != "last" else HEAD_RATE,
        seed=seed,
    )
    return {"score": score(model, new, truth), "before": before, "labels": len(few.train)}


def train_parameters(
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
