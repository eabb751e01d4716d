"""What training did: epoch by epoch as a tidy table, and how far weights moved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from .. import runtime, surgery
from ..errors import LearnerError
from .recipe import Recipe

COST = ["seconds", "images_per_second", "peak_memory_mib"]
"""Columns that depend on how fast and how busy the computer is. Comparing two histories leaves them out."""


@dataclass(eq=False)
class History:
    """What one `fit` did: a row per epoch in `table`, and how it ended.

    Leaving it last in a cell shows it. The columns of `table` are epoch (from 1, through all phases), phase
    (from 1), from_stage (the first stage that trained, or "all"), train_loss and train_accuracy (both as seen
    while training: with the recipe's augmentation, class weights, label smoothing and mixup), val_loss (the
    mean of `metrics.log_losses`, without any of these), val_accuracy, val_balanced_accuracy (mean recall over
    the classes that occur), lr_STAGE (the largest learning rate in the epoch; NaN while frozen),
    trainable_params, seconds, images_per_second, peak_memory_mib.

    Two histories are equal when `recipe`, `best_epoch`, `stopped` and, to the last bit, all columns but the
    last three are; `notices` and `kept_epoch` do not count.

    Attributes:
        recipe: What was asked for.
        rows: One dictionary per epoch, by column.
        best_epoch: The epoch with the best score on the validation images, from 1; 0 before the first.
        stopped: Why training ended before the recipe did; empty when it did not.
        notices: Messages that a reader should know.
        kept_epoch: The epoch whose weights the model was left with, from 1; 0 for those from before training.
    """

    recipe: Recipe
    rows: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = ""
    notices: list[str] = field(default_factory=list)
    kept_epoch: int = 0

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a data frame with one index entry per epoch."""
        frame = pd.DataFrame(self.rows)
        if frame.empty:
            return frame
        rates = [name for name in frame.columns if name.startswith("lr_")]
        last = ["trainable_params", *COST]
        first = [name for name in frame.columns if name not in rates + last]
        return frame[first + rates + last]

    @property
    def best(self) -> dict[str, Any]:
        """The row of the best epoch."""
        return next((row for row in self.rows if row["epoch"] == self.best_epoch), {})

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        same = (self.recipe, self.best_epoch, self.stopped) == (other.recipe, other.best_epoch, other.stopped)
        return same and self._without_cost().equals(other._without_cost())

    __hash__ = None  # type: ignore[assignment]

    def _without_cost(self) -> pd.DataFrame:
        return self.table.drop(columns=COST, errors="ignore")

    def to_csv(self, path: str | Path) -> Path:
        """Write the table to a file, all of it or nothing, and return its path.

        Args:
            path: The file, which is replaced if it exists.

        Raises:
            LearnerError: When the disk is full, or the folder cannot be written.
        """
        path = runtime.user_path(path)
        with runtime.atomic_write(path) as temporary:
            self.table.to_csv(temporary, index=False)
        return path

    def _headline(self) -> str:
        words = f"{self.recipe.name}: {len(self)} of {self.recipe.epochs} epochs"
        if "val_accuracy" in self.best:
            words += (
                f"; best epoch {self.best_epoch}, val accuracy {self.best['val_accuracy']:.3f}, "
                f"balanced {self.best['val_balanced_accuracy']:.3f}"
            )
        return "\n".join([words, *([f"stopped: {self.stopped}"] if self.stopped else []), *self.notices])

    def _shown(self) -> pd.DataFrame:
        scores = ["train_loss", "train_accuracy", "val_loss", "val_accuracy"]
        columns = ["epoch", "from_stage", *scores, "seconds"]
        return self.table[[name for name in columns if name in self.table]]

    def __repr__(self) -> str:
        return f"{self._headline()}\n{self._shown().to_string(index=False, float_format='{:.3f}'.format)}"

    def _repr_html_(self) -> str:
        text = self._headline().replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")
        table = self._shown().to_html(index=False, border=0, float_format="{:.3f}".format)
        return f"<p>{text}</p>{table}"


def weight_change(model: nn.Module, before: nn.Module | Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return how far training moved each stage: the norm of its change, relative to its norm before.

    0 means that no bit moved; 1 that the change is as long as the weights themselves. A new head is compared
    with its random initial weights. Stages without parameters are left out.

    Args:
        model: The network after training.
        before: The same network before training (a copy), or its state dict.

    Returns:
        By the name of each stage, the ratio of the two Euclidean norms over all its parameters.

    Raises:
        LearnerError: When the two have different parameters.

    Example:
        >>> import copy
        >>> from tlutils import models, train
        >>> model = models.load("test_resnet", pretrained=False)
        >>> before = copy.deepcopy(model)
        >>> _ = model.fc.weight.data.mul_(1.5), model.fc.bias.data.mul_(1.5)
        >>> round(train.weight_change(model, before)["head"], 3)
        0.5
    """
    then = before.state_dict() if isinstance(before, nn.Module) else before
    now = model.state_dict()
    moved = {}
    for stage in surgery.stages(model):
        if not stage.parameters:
            continue
        odd = [n for n in stage.parameters if n not in then or then[n].shape != now[n].shape]
        if odd:
            raise LearnerError(
                f"{odd[0]} of stage {stage.name} has no counterpart of its shape from before. Compare two "
                "states of one network: keep a copy.deepcopy(model)."
            )
        old, new = (_flat(tensors, stage.parameters) for tensors in (then, now))
        moved[stage.name] = ((new - old).norm() / old.norm()).item()
    return moved


def _flat(tensors: Mapping[str, torch.Tensor], names: Sequence[str]) -> torch.Tensor:
    flat = [tensors[name].detach().cpu().flatten() for name in names]
    return torch.cat([t.to(torch.promote_types(t.dtype, torch.float32)) for t in flat])
