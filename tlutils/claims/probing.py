"""Protocols without training of a network: linear probes by depth, and nearest neighbours."""

from functools import lru_cache
from typing import Any

import numpy as np

from ..probe import Probe, fit_probe
from .materials import (
    BACKBONE,
    Change,
    Shrunk,
    draw_sample,
    final_features,
    judge_by,
    load_network,
    prepare_images,
    read_features,
)
from .shifts import judge_shifted

PENALTIES = (300.0, 30.0, 3.0, 0.3, 0.03, 0.003, 0.0003)
"""As many as a search of a training has trials."""


def linear_probe(
    *, dataset: str, backbone: str, at: str, level: str, images: int, seed: int
) -> dict[str, Any]:
    """A linear probe of what leaves the stage `at`, its penalty chosen by cross-validation.

    Measures `hits` and `score` on the judging images, and `cv`, the cross-validated score, by which a stage
    can be chosen; of the default backbone's final features, at the level "lots", also what `judge_shifted`
    measures. `level` is a name for the number of `images` of each class.
    """
    known, judges = draw_sample(dataset, images, seed)
    features, new = (read_features(s, backbone=backbone, at=at, seed=seed) for s in (known, judges))
    probe = probe_split(features, known, seed)
    found = judge_by(judges.labels, probe.predict(new))
    if (backbone, at, level) == (BACKBONE, "pool", "lots"):
        found |= judge_shifted(dataset, lambda *shifted: probe.predict(_read_shifted(*shifted)))
    cv = probe.cv.loc[probe.cv["chosen"], "balanced_accuracy"].item()
    return found | {"cv": cv, "labels": len(known)}


@lru_cache(maxsize=4)
def _read_shifted(split: Shrunk, change: Change | None) -> np.ndarray:
    """Return the final features of changed images, which are the same after each draw of others."""
    model = load_network(BACKBONE)
    return final_features(model, prepare_images(model, split, change))


def nearest_neighbour(*, dataset: str, backbone: str, at: str, images: int, seed: int) -> dict[str, Any]:
    """Whether the nearest training image of each judging one, by cosine, is of its class: `hits`, `score`."""
    known, judges = draw_sample(dataset, images, seed)
    features, new = (read_features(s, backbone=backbone, at=at, seed=seed) for s in (known, judges))
    probe = fit_probe(features, np.array(known.labels), kind="knn", n_neighbors=[1])
    return judge_by(judges.labels, probe.predict(new)) | {"labels": len(known)}


def probe_split(known: np.ndarray, split: Shrunk, seed: int) -> Probe:
    """Return the linear probe of the features `known` (N, D) of a split, its penalty cross-validated."""
    folds = min(4, max(2, int(np.bincount(split.labels).min())))
    return fit_probe(known, np.array(split.labels), penalties=PENALTIES, folds=folds, seed=seed)
