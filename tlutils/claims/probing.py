"""Protocols without training of a network: linear probes by depth, and nearest neighbours."""

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from .. import data, features
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

VIEWS = 4
"""Of each image, where a probe learns from augmented ones."""


def linear_probe(
    *, dataset: str, backbone: str, at: str, level: str, images: int, seed: int
) -> dict[str, Any]:
    """A linear probe of what leaves the stage `at`, its penalty chosen by cross-validation.

    Measures `hits` and `score` on the judging images, and `cv`, the cross-validated score, by which a stage
    can be chosen; of the default backbone's final features, at the level "lots", also what `judge_shifted`
    measures. `level` is a name for the number of `images` of each class.
    """
    known, judges = draw_sample(dataset, images, seed)
    rows, new = (read_features(s, backbone=backbone, at=at, seed=seed) for s in (known, judges))
    probe = probe_split(rows, known, seed)
    found = judge_by(judges.labels, probe.predict(new))
    if (backbone, at, level) == (BACKBONE, "pool", "lots"):
        found |= judge_shifted(dataset, lambda *shifted: probe.predict(_read_shifted(*shifted)))
    cv = probe.cv.loc[probe.cv["chosen"], "balanced_accuracy"].item()
    return found | {"cv": cv, "labels": len(known)}


def tuned_probe(
    *, dataset: str, level: str, images: int, augment: bool | Literal["shift"], seed: int
) -> dict[str, Any]:
    """The linear probe of the final features as a strategy, with the augmentation that its search chose.

    It measures `hits` and `score`, and at the level "lots" what `judge_shifted` measures.
    """
    known, judges = draw_sample(dataset, images, seed)
    probe = augmented_probe(known, augment, seed)
    found = judge_by(judges.labels, probe.predict(read_features(judges, backbone=BACKBONE, at="pool")))
    if level == "lots":
        found |= judge_shifted(dataset, lambda *shifted: probe.predict(_read_shifted(*shifted)))
    return found | {"labels": len(known)}


@lru_cache(maxsize=4)
def _read_shifted(split: Shrunk, change: Change | None) -> np.ndarray:
    """Return the final features of changed images, which are the same after each draw of others."""
    model = load_network(BACKBONE)
    return final_features(model, prepare_images(model, split, change))


def nearest_neighbour(*, dataset: str, backbone: str, at: str, images: int, seed: int) -> dict[str, Any]:
    """Whether the nearest training image of each judging one, by cosine, is of its class: `hits`, `score`."""
    known, judges = draw_sample(dataset, images, seed)
    rows, new = (read_features(s, backbone=backbone, at=at, seed=seed) for s in (known, judges))
    probe = fit_probe(rows, np.array(known.labels), kind="knn", n_neighbors=[1])
    return judge_by(judges.labels, probe.predict(new)) | {"labels": len(known)}


def augmented_probe(known: Shrunk, augment: bool | Literal["shift"], seed: int) -> Probe:
    """Return the linear probe of the final features, learned from `VIEWS` random views of each image.

    Without `augment` it learns from each image once, as it is.
    """
    if not augment:
        return probe_split(read_features(known, backbone=BACKBONE, at="pool"), known, seed)
    model = load_network(BACKBONE)
    transform = data.transform_for(model, train=augment)
    views = features.extract(
        model, known, at="pool", transform=transform, views=VIEWS, seed=seed, precision="float32"
    )
    # The views of an image are held out together: rows of a store know which image they are of.
    return fit_probe(views["pool"], views.labels, penalties=PENALTIES, folds=_folds(known), seed=seed)


def probe_split(known: np.ndarray, split: Shrunk, seed: int) -> Probe:
    """Return the linear probe of the features `known` (N, D) of a split, its penalty cross-validated."""
    return fit_probe(known, np.array(split.labels), penalties=PENALTIES, folds=_folds(split), seed=seed)


def _folds(split: Shrunk) -> int:
    return min(4, max(2, int(np.bincount(split.labels).min())))
