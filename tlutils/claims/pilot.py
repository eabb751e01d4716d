"""One tuning budget for all: the same small search for each strategy, within training images alone."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import runtime
from ..errors import LearnerError
from ..experiments import run_grid
from .materials import (
    BACKBONE,
    MATERIALS,
    Shrunk,
    draw_sample,
    judge_by,
    predict,
    prepare_images,
    read_features,
)
from .probing import augmented_probe
from .training import STRATEGIES, WHOLE, Settings, train_strategy

Trial = Callable[[Settings], Settings]


def _at_rate(lr: float, settings: Settings) -> Settings:
    return replace(settings, lr=lr)


RATES = (1e-4, 3e-4, 1e-3)
SEARCH: tuple[tuple[Trial, ...], ...] = (
    tuple(partial(_at_rate, lr) for lr in RATES),
    (lambda s: replace(s, steps=2 * s.steps),),
    (lambda s: replace(s, augment=True),),
    (lambda s: replace(s, freeze_batchnorm=False),),
    (lambda s: replace(s, lr=3 * s.lr if s.lr == RATES[-1] else s.lr / 3),),  # beyond the edge, at either end
)
"""Rounds of a greedy search: of each, and what was best before, the best is kept; seven trials in all."""

SCRATCH_SEARCH: tuple[tuple[Trial, ...], ...] = (
    (
        lambda s: replace(s, lr=1e-3, network="small"),
        lambda s: replace(s, lr=1e-2, network="small"),
        lambda s: replace(s, lr=1e-3, network="backbone"),
    ),
    (lambda s: replace(s, steps=2 * s.steps),),
    (lambda s: replace(s, augment=True),),
    (lambda s: replace(s, lr=3 * s.lr),),
    (lambda s: replace(s, lr=s.lr / 3),),
)
"""The same number of trials from random weights, where BatchNorm has to learn: the network is chosen, too."""

PROBE = "probe"
PROBE_SEARCH: tuple[tuple[Trial, ...], ...] = ((lambda s: s,), (lambda s: replace(s, augment=True),))
"""A linear probe takes no steps, and chooses among seven penalties by itself, in each trial."""

STEPS = 40
"""Optimizer steps of the first trials; from scratch three times as many."""

SEARCH_IMAGES = {"hymenoptera": 90, "cifar-10": 20, "elpv-defects": 90, "mnist-5k": 20}
"""Images of each class that the search is made with: about 200 in all."""

SOURCE_IMAGES = {"elpv-mono": 90}
"""The same for a part of a data set that is learned from where the rest is another source."""

DRAWS, SEED = 2, 1000
"""Draws of the training images that each trial is tried on, and the seed of the first: no tier has it."""


def pilot(*, dataset: str, strategy: str, images: int, seed: int) -> dict[str, Any]:
    """The search for the settings of a strategy; measures the fields of `Settings` that it chose.

    Each trial learns from three quarters of some draws of `images` of each class and is scored by the
    balanced accuracy on their rest; judges are never seen. `trials` has every trial and its score as JSON.
    """
    search = {PROBE: PROBE_SEARCH, "scratch": SCRATCH_SEARCH}.get(strategy, SEARCH)
    steps = {PROBE: 0, "scratch": 3 * STEPS}.get(strategy, STEPS)
    start = Settings(lr=0.0, steps=steps, freeze_batchnorm=strategy != "scratch")
    best, top, trials = start, -1.0, []
    for candidates in search:
        start = best
        for change in candidates:
            settings = change(start)
            if settings.augment:
                settings = replace(settings, augment=MATERIALS[dataset].augment)
            scores = [_try(dataset, strategy, images, settings, seed + draw) for draw in range(DRAWS)]
            trials.append(asdict(settings) | {"score": round(float(np.mean(scores)), 4)})
            if trials[-1]["score"] > top:
                best, top = settings, trials[-1]["score"]
    return asdict(best) | {"score": top, "trials": json.dumps(trials)}


def _try(dataset: str, strategy: str, images: int, settings: Settings, seed: int) -> float:
    from sklearn.model_selection import StratifiedShuffleSplit

    known, _ = draw_sample(dataset, images, seed)
    ((learn, rest),) = StratifiedShuffleSplit(1, test_size=0.25, random_state=seed).split(
        known.labels, known.labels
    )
    held = known.select(rest)
    guessed = _guess(known.select(learn), strategy, settings, seed, held)
    return judge_by(held.labels, guessed)["score"]


def _guess(known: Shrunk, strategy: str, settings: Settings, seed: int, held: Shrunk) -> np.ndarray:
    """Return the classes (N,) that a strategy, learned from the images `known`, gives other ones."""
    if strategy == PROBE:
        probe = augmented_probe(known, settings.augment, seed)
        return probe.predict(read_features(held, backbone=BACKBONE, at="pool"))
    model, _ = train_strategy(known, strategy, settings, seed)
    return predict(model, prepare_images(model, held))


def search(*, n_jobs: int = 1, out: str | Path | None = None) -> pd.DataFrame:
    """Return the table of settings that the search chooses, one row per strategy and data set.

    Args:
        n_jobs: how many searches go on at once; each takes minutes.
        out: the folder of those that are finished; one in the cache folder unless given.

    Example:
        >>> from tlutils import claims
        >>> claims.search(n_jobs=2)  # doctest: +SKIP
    """
    folder = runtime.user_path(out) if out is not None else runtime.cache_dir("claims") / "pilot"
    runs = [
        {"dataset": dataset, "strategy": strategy, "images": images, "seed": SEED}
        for searched, strategies in ((SEARCH_IMAGES, (*STRATEGIES, PROBE)), (SOURCE_IMAGES, (WHOLE, PROBE)))
        for dataset, images in searched.items()
        for strategy in strategies
    ]
    return run_grid({pilot: runs}, out=folder, versions={"pilot": "5"}, n_jobs=n_jobs)


PILOT = "pilot.csv"
_HERE = Path(__file__).resolve()
_FOLDERS = (_HERE.parents[1] / "_evidence", _HERE.parents[2] / "docs")


@cache
def _committed() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of the committed search by data set and strategy."""
    place = next((folder for folder in _FOLDERS if (folder / PILOT).exists()), None)
    if place is None:
        raise LearnerError(
            f"There is no {PILOT} in {' or '.join(map(str, _FOLDERS))}. `tlutils reproduce --search` "
            "makes it."
        )
    rows = pd.read_csv(place / PILOT).to_dict("records")
    return {(row["dataset"], row["strategy"]): row for row in rows}


def chosen_settings(dataset: str, strategy: str, images: int) -> Settings:
    """Return the settings that the committed search chose for a strategy.

    The number of steps goes with the square root of the number of images, but never below half of `STEPS`.

    Args:
        dataset: a key of `SEARCH_IMAGES` or `SOURCE_IMAGES`.
        strategy: one of `STRATEGIES`, or `PROBE`.
        images: how many of each class are learned from.

    Raises:
        LearnerError: it was not searched for.

    Example:
        >>> from tlutils import claims
        >>> claims.chosen_settings("mnist-5k", "scratch", images=20).network
        'small'
    """
    row = _committed().get((dataset, strategy))
    if row is None:
        raise LearnerError(f"No settings were searched for {strategy} on {dataset}.")
    searched = (SEARCH_IMAGES | SOURCE_IMAGES)[dataset]
    return Settings(
        lr=float(row["lr"]),
        steps=max(STEPS // 2, round(row["steps"] * (images / searched) ** 0.5)),
        augment={"False": False, "True": True}.get(str(row["augment"]), row["augment"]),
        freeze_batchnorm=bool(row["freeze_batchnorm"]),
        network=row["network"],
    )
