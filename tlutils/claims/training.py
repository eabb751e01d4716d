"""Protocols that train a network: every strategy under the settings that one search chose for it."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from torch import nn

from .. import train
from ..probe import Probe
from ..train import Recipe
from .materials import (
    BACKBONE,
    Shrunk,
    draw_sample,
    find_head,
    judge_by,
    predict,
    prepare_images,
    read_features,
    reset_network,
    small_network,
)
from .probing import probe_split
from .shifts import judge_shifted

BATCH = 16
"""Images of a step in every training whose settings were searched for."""

FROM_STAGES = {"few": "stage7", "more": "stage4"}
"""First stage that trains where a few stages are finetuned, and where more are.

The tables say no number. Of the nine stages of `BACKBONE` before its pooling, "few" trains the last two and
"more" the last five; all committed runs are of these cuts. It is another cut than the advisor's "last stage",
which trains one.
"""

STRATEGIES = (*FROM_STAGES, "finetune", "lp-ft", "scratch")
"""What is compared, each under the settings that its own search chose."""

WHOLE = "finetune"
"""What "finetune all layers" means where a claim says no more: of two ways the one that the search scored
higher on every data set."""

ABLATION = "BatchNorm on"
"""What is "lp-ft" otherwise, for which the search chose to freeze BatchNorm on every data set."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the search chooses for a strategy.

    Attributes:
        lr: learning rate of the pretrained weights.
        steps: optimizer steps of up to `BATCH` images.
        augment: as in `Recipe`.
        freeze_batchnorm: as in `Recipe`.
        network: "backbone", or "small", a network of three blocks, for training from scratch.
    """

    lr: float
    steps: int
    augment: bool | Literal["shift"] = False
    freeze_batchnorm: bool = True
    network: Literal["backbone", "small"] = "backbone"

    def epochs(self, images: int) -> int:
        """Return the epochs of at least so many steps, in batches of `BATCH`.

        Args:
            images: how many are learned from.

        Example:
            >>> from tlutils import claims
            >>> claims.Settings(lr=1e-3, steps=40).epochs(images=100)
            6
        """
        return ceil(self.steps / train.steps_per_epoch(images, BATCH))


def training(
    *,
    dataset: str,
    strategy: str,
    level: str,
    images: int,
    lr: float,
    steps: int,
    augment: bool | Literal["shift"],
    freeze_batchnorm: bool,
    network: Literal["backbone", "small"],
    seed: int,
) -> dict[str, Any]:
    """A strategy on a draw of a data set, under its settings: `hits` and `score` after the last step.

    "few" and "more" train from a stage of `FROM_STAGES` on and "lp-ft" trains everything, all three from a
    solved linear probe as the head (Kumar et al. 2022, arXiv:2202.10054); "finetune" trains everything from a
    random head; "scratch" starts from random weights; `ABLATION` is "lp-ft" with BatchNorm on.
    At the level "lots", `shifted` are the hits of "finetune" and "lp-ft" on the same judges, each under one
    of the corruptions, and `real` on images of the same classes from another source, where there is one.
    `steps_to_fit` is the logarithm, to base 2, of the steps after which nine of ten training images were
    right in an epoch (all steps where they never were). `before_loss` and `last_loss` are the training loss
    at four fifths of the epochs and of the last one: whether it came to a plateau. `stopped` is 1 where the
    loss was not a finite number any more.
    """
    known, judges = draw_sample(dataset, images, seed)
    settings = Settings(
        lr=lr, steps=steps, augment=augment, freeze_batchnorm=freeze_batchnorm, network=network
    )
    model, history = train_strategy(known, strategy, settings, seed)
    found = judge_by(judges.labels, predict(model, prepare_images(model, judges)))
    if level == "lots" and strategy in ("finetune", "lp-ft"):
        found |= judge_shifted(
            dataset, lambda split, change: predict(model, prepare_images(model, split, change))
        )
    epochs = history.table
    fitted = epochs.index[epochs["train_accuracy"] >= 0.9]
    each = train.steps_per_epoch(len(known), BATCH)
    return found | {
        "labels": len(known),
        "stopped": int(bool(history.stopped)),
        "steps_to_fit": float(np.log2(each * (int(fitted[0]) + 1 if len(fitted) else len(epochs)))),
        "before_loss": epochs["train_loss"].iloc[int(0.8 * (len(epochs) - 1))],
        "last_loss": epochs["train_loss"].iloc[-1],
    }


def train_strategy(
    known: Shrunk, strategy: str, settings: Settings, seed: int, *, head_factor: float = 10
) -> tuple[nn.Module, train.History]:
    """Return a network that was trained on the images `known`, in eval mode, and the history of its training.

    A random head on pretrained weights learns at `head_factor` times their rate.
    """
    classes = len(known.classes)
    make = {"small": small_network, "backbone": reset_network}[settings.network]
    model = make(classes, seed)
    if strategy not in ("finetune", "scratch"):
        install_probe(model, known, seed)
    own: dict[str, Any] = {
        "batch_size": BATCH,
        "epochs": settings.epochs(len(known)),
        "lr": settings.lr,
        "augment": settings.augment,
        "freeze_batchnorm": settings.freeze_batchnorm,
        "keep": "last",
        "seed": seed,
    }
    if strategy == "scratch":
        recipe = Recipe.scratch(**own)
    elif strategy == "finetune":
        recipe = Recipe.finetune(**own, head_lr=head_factor * settings.lr)
    elif strategy in FROM_STAGES:
        recipe = Recipe.partial(FROM_STAGES[strategy], **own, head_lr=settings.lr)
    else:
        recipe = Recipe.finetune(**own, head_lr=settings.lr)
    task = SimpleNamespace(train=known, val=known.select([]), classes=known.classes)
    return model, train.fit(model, task, recipe)


def install_probe(model: nn.Module, known: Shrunk, seed: int) -> None:
    """Solve a linear probe on the pretrained final features, and make it the head of `model`, in place."""
    find_head(model).load_state_dict(_solve_probe(known, seed).head().state_dict())


@lru_cache(maxsize=16)
def _solve_probe(known: Shrunk, seed: int) -> Probe:
    """Return the linear probe that several strategies begin with."""
    return probe_split(read_features(known, backbone=BACKBONE, at="pool"), known, seed)
