"""The same recipe under several seeds: how much of a result is luck."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from .loop import fit
from .recipes import Recipe


def over_seeds(
    make: Callable[[int], nn.Module],
    dataset: Any,
    recipe: Recipe,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path | None = None,
    num_workers: int = 0,
) -> pd.DataFrame:
    """Return one row a seed: seed, best_epoch, and the figures of that epoch; `.describe()` gives mean and
    spread.

    `make(seed)` returns a fresh model, so that the new head differs too. With `out`, each seed has a folder
    in it.
    """
    rows = []
    for seed in seeds:
        folder = Path(out) / f"seed-{seed}" if out is not None else None
        history = fit(make(seed), dataset, replace(recipe, seed=seed), out=folder, num_workers=num_workers)
        rows.append(
            {"seed": seed, "best_epoch": history.best_epoch, "stopped": history.stopped} | history.best
        )
    wanted = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy"]
    return pd.DataFrame(rows).reindex(columns=["seed", "best_epoch", "stopped", *wanted])
