"""Scores by pairs of images: are images of one class near each other in the features?"""

from typing import Any

import numpy as np

from .. import metrics
from ..errors import LearnerError
from ..features import check_rows, groups_of
from ..intervals import group_codes
from .inputs import check_labels


def nearest_neighbour(features: Any, labels: Any) -> float:
    """Return the balanced accuracy of taking each image for what its nearest other image is, by cosine.

    From 0 to 1. The neighbours in learned features as a judge of them: Wu et al. 2018 (arXiv:1805.01978).

    Cost: N² · D, no fit and no setting.

    Known failure: a copy, a second view or the next frame of a film in the same folder is a neighbour that
    knows the answer, unless the features know their groups. All features count alike, useful or not.

    Args:
        features: (N, D), pooled features of the images. Those of a `FeatureStore` know their groups: views
            and copies of one picture are no neighbours.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, values are not finite, there is one class, a class of one image,
            or one group.

    Example:
        >>> from tlutils import transferability
        >>> x = [[1.0, 0.0], [1.0, 0.1], [0.1, 1.0], [0.0, 1.0]]
        >>> [transferability.nearest_neighbour(x, y) for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
        [1.0, 0.0]
    """
    x = check_rows(features)
    y = check_labels(labels, len(x))
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    similarity = unit @ unit.T
    similarity[~_apart(features, len(x))] = -np.inf
    return metrics.balanced_accuracy(y, y[similarity.argmax(axis=1)])


def parc(features: Any, labels: Any) -> float:
    """Return PARC: the rank correlation, over pairs of images, of distances in features and in labels.

    A distance is 1 minus Pearson's correlation of two rows; a label is a row with a 1 at its class. This is
    Spearman's correlation of the two lists of distances, from -1 to 1. Bolya et al. 2021 (arXiv:2111.06977),
    who multiply by 100.

    Cost: N² · D, and ranks of N² / 2 pairs: 600 images take tenths of a second, 10,000 some gigabytes.

    Known failure: label distances have two values, so that ties cap the score below 1: at about
    0.87 for two classes and 0.52 for ten, so that data sets are not comparable. Features whose scales differ
    weigh as they come.

    Args:
        features: (N, D), pooled features of the images, D of 2 or more. Those of a `FeatureStore` know their
            groups: views and copies of one picture are no pairs.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, values are not finite, there is one class, a class of one image,
            or one group.

    Example:
        >>> from tlutils import transferability
        >>> x = [[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.1, 0.9], [0.0, 0.0, 1.0]]
        >>> round(transferability.parc(x, [0, 0, 1, 1]), 2)
        0.85
    """
    from scipy.stats import spearmanr

    x = check_rows(features)
    y = check_labels(labels, len(x))
    centred = x - x.mean(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-300)
    pairs = np.nonzero(np.triu(_apart(features, len(x)), k=1))
    distances = (1 - unit @ unit.T)[pairs]
    # Label rows correlate by 1 if alike and by -1 / (C - 1) if not: for ranks, whether they differ is all.
    differ = (y[:, None] != y[None])[pairs]
    if np.ptp(distances) == 0:  # no order, and no correlation
        return 0.0
    return float(spearmanr(distances, differ).statistic)


def _apart(features: Any, count: int) -> np.ndarray:
    """Return which pairs of rows show different pictures, (count, count)."""
    groups = group_codes(groups_of(features), count)
    if not groups.any():
        raise LearnerError(f"All {count} images are of one group. Expected two groups or more to compare.")
    return np.asarray(groups[:, None] != groups)
