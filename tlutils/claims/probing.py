"""Protocols without training of a network: linear probes by depth, and nearest neighbours."""

from typing import Any

import numpy as np

from .. import data
from ..metrics import balanced_accuracy
from ..probe import Probe, fit_probe
from .materials import MATERIALS, draw_sample, read_features

PENALTIES = (30.0, 3.0, 0.3, 0.03, 0.003)


def linear_probe(
    *, dataset: str, backbone: str, at: str, level: str, images: int, seed: int
) -> dict[str, Any]:
    """A linear probe of what leaves the stage `at`, its penalty chosen by cross-validation.

    Measures `score` on held-out images, and `cv`, the cross-validated one, by which a stage can be chosen.
    `level` is a name for the number of `images` of each class.
    """
    sample, known, new = draw_features(dataset, backbone, at, images, seed)
    probe = probe_split(known, sample.train, seed)
    cv = probe.cv.loc[probe.cv["chosen"], "balanced_accuracy"].item()
    score = balanced_accuracy(sample.val.labels, probe.predict(new))
    return {"score": score, "cv": cv, "labels": len(sample.train)}


def nearest_neighbour(*, dataset: str, backbone: str, at: str, images: int, seed: int) -> dict[str, Any]:
    """The share of held-out images whose nearest training image, by cosine, is of their class: `score`."""
    sample, known, new = draw_features(dataset, backbone, at, images, seed)
    probe = fit_probe(known, np.array(sample.train.labels), kind="knn", n_neighbors=[1])
    guesses = probe.predict(new)
    return {"score": balanced_accuracy(sample.val.labels, guesses), "labels": len(sample.train)}


def draw_features(
    name: str, backbone: str, at: str, images: int, seed: int
) -> tuple[data.DatasetSplits, np.ndarray, np.ndarray]:
    """Return a sample of a data set, and the features (N, D) of its training and of its held-out images."""
    sample, size = draw_sample(name, images, seed), MATERIALS[name].size
    known, new = (
        read_features(split, backbone=backbone, at=at, size=size, seed=seed)
        for split in (sample.train, sample.val)
    )
    return sample, known, new


def probe_split(known: np.ndarray, split: data.Split, seed: int) -> Probe:
    """Return the linear probe of the features `known` (N, D) of a split, its penalty cross-validated."""
    folds = min(4, max(2, min(split.counts.values())))
    return fit_probe(known, np.array(split.labels), penalties=PENALTIES, folds=folds, seed=seed)
