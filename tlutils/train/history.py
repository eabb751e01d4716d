"""What training did, epoch by epoch, as a tidy table."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .. import runtime
from .recipes import Recipe

CLOCK = ["seconds", "images_per_second", "peak_memory_mib"]
"""Columns that the machine's mood decides: two runs are called equal without them."""


@dataclass(eq=False)
class History:
    """One row an epoch in `table`; leaving it last in a cell shows it.

    Columns: epoch (from 1, through all phases), phase (from 1), from_stage (the first stage that trained), train_loss,
    train_accuracy (both as seen while training, augmented where the recipe says so), val_loss, val_accuracy,
    val_balanced_accuracy (mean recall over the classes that occur), lr_<stage> (the largest rate in the
    epoch; NaN while frozen), trainable_params, seconds, images_per_second, peak_memory_mib.

    `best_epoch` is the epoch with the best score on val; 0 before the first. `stopped` says in words why
    training ended before the recipe did, or is empty. `notices` are things that a reader should know. Two
    histories are equal when everything but the clock's columns is, to the last bit.
    """

    recipe: Recipe
    rows: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = ""
    notices: list[str] = field(default_factory=list)

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a data frame with one index entry an epoch."""
        frame = pd.DataFrame(self.rows)
        if frame.empty:
            return frame
        rates = [name for name in frame.columns if name.startswith("lr_")]
        last = ["trainable_params", *CLOCK]
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
        return same and self._without_clock().equals(other._without_clock())

    __hash__ = None  # type: ignore[assignment]

    def _without_clock(self) -> pd.DataFrame:
        return self.table.drop(columns=CLOCK, errors="ignore")

    def to_csv(self, path: str | Path) -> Path:
        """Write the table, atomically, and return its path."""
        with runtime.atomic_write(Path(path)) as temporary:
            self.table.to_csv(temporary, index=False)
        return Path(path)

    def _headline(self) -> str:
        words = f"{self.recipe.name}: {len(self)} of {self.recipe.epochs} epochs"
        if "val_accuracy" in self.best:
            words += (
                f"; best epoch {self.best_epoch}, val accuracy {self.best['val_accuracy']:.3f}, "
                f"balanced {self.best['val_balanced_accuracy']:.3f}"
            )
        return "\n".join([words, *([f"stopped: {self.stopped}"] if self.stopped else []), *self.notices])

    def _shown(self) -> pd.DataFrame:
        columns = [
            "epoch",
            "from_stage",
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
            "seconds",
        ]
        return self.table[[name for name in columns if name in self.table]]

    def __repr__(self) -> str:
        return f"{self._headline()}\n{self._shown().to_string(index=False, float_format='{:.3f}'.format)}"

    def _repr_html_(self) -> str:
        text = self._headline().replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")
        return f"<p>{text}</p>" + self._shown().to_html(index=False, border=0, float_format="{:.3f}".format)
