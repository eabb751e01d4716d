"""Scores by where the classes are: how far apart their means are, beside how wide they are."""

from typing import Any

import numpy as np

from ..features import check_rows
from .inputs import check_labels

EPSILON = 1e-4  # TransRate's distortion, in squared units of the features, as in the paper
COMPONENTS = 64  # principal components that GBC keeps, as in the paper


def h_score(features: Any, labels: Any) -> float:
    """Return the regularised H-score: variance between classes over all variance, summed over directions.

    tr(S⁻¹ (1 - a) B), with B the covariance of class means and S = (1 - a) T + a m I the covariance T of the
    features, shrunk towards its mean variance m by Ledoit and Wolf's share a (2004). From 0 to the number of
    classes minus 1. Bao et al. 2019 (arXiv:2212.10082), with shrinkage by Ibrahim et al. 2021
    (arXiv:2110.06893).

    Cost: one singular value decomposition, as for `logme`, and N · D² for the share.

    Known failure: without shrinkage it is the number of classes minus 1 for any features that are as many as
    the images; with it, the share depends on the number of images and of features, so that networks of other
    widths, or samples of other sizes, are hardly comparable.

    Args:
        features: (N, D), pooled features of the images.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, values are not finite, there is one class, or a class of one
            image.

    Example:
        >>> from tlutils import transferability
        >>> round(transferability.h_score([[0.0], [2.0], [4.0], [6.0]], [0, 0, 1, 1]), 2)  # 4 of 5
        0.8
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    x = check_rows(features)
    y = check_labels(labels, len(x))
    x = x - x.mean(axis=0)
    share = float(ledoit_wolf_shrinkage(x, assume_centered=True)) if x.any() else 0.0
    u, values, _ = np.linalg.svd(x, full_matrices=False)
    kept = values > values[0] * 1e-10
    u, variances = u[:, kept], values[kept] ** 2 / len(x)
    between = sum((y == k).sum() * u[y == k].mean(axis=0) ** 2 for k in range(y.max() + 1))  # share, of 1
    shrunk = (1 - share) * variances + share * (x**2).mean()
    return float(((1 - share) * variances * between / shrunk).sum())


def transrate(features: Any, labels: Any) -> float:
    """Return TransRate: by how many nats per image knowing the class shortens a code of the features.

    The rate of a code that gives features back up to a distortion e is R(Z) = log det(I + ZᵀZ / (n e)) / 2
    for n centred rows Z. TransRate is R of all rows minus the mean of R of each class's rows, weighted by
    their number. 0 or more. Huang et al. 2022 (arXiv:2106.09362), with the paper's e of 0.0001.

    Cost: singular values for each class, N · D · min(N, D).

    Known failure: it depends on the scale of the features, and grows with their number: compare networks of
    one width and one normalisation. Rows are centred over all images, not within classes: two classes of the
    same size whose means alone differ get 0, however far apart they are.

    Args:
        features: (N, D), pooled features of the images.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, values are not finite, there is one class, or a class of one
            image.

    Example:
        >>> from tlutils import transferability
        >>> apart = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]  # each class along an axis of its own
        >>> round(transferability.transrate(apart, [0, 0, 1, 1]), 1)
        3.9
    """
    x = check_rows(features)
    y = check_labels(labels, len(x))
    x = x - x.mean(axis=0)

    def rate(z: np.ndarray) -> float:
        squares = np.linalg.svd(z, compute_uv=False) ** 2
        return float(np.log1p(squares / (len(z) * EPSILON)).sum()) / 2

    within = sum((y == k).mean() * rate(x[y == k]) for k in range(y.max() + 1))
    return rate(x) - float(within)


def gbc(features: Any, labels: Any) -> float:
    """Return the Gaussian Bhattacharyya coefficient: minus the overlap of classes, summed over ordered pairs.

    Each class is a spherical Gaussian of its mean and its mean variance, in at most 64 principal components.
    Two classes overlap by exp(-d), with Bhattacharyya's distance d. From minus the number of ordered pairs
    (all classes alike) to 0 (none overlaps). Pándy et al. 2022 (arXiv:2111.12780).

    Cost: one singular value decomposition, and a number per pair of classes: the cheapest here.

    Known failure: in many dimensions spheres of well-taken classes hardly overlap, and the score is near 0
    for all networks; a class that falls into two groups is one wide sphere, and counts as overlapping.

    Args:
        features: (N, D), pooled features of the images.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, values are not finite, there is one class, or a class of one
            image.

    Example:
        >>> from tlutils import transferability
        >>> transferability.gbc([[-1.0], [1.0], [-1.0], [1.0]], [0, 0, 1, 1])  # one upon the other
        -2.0
    """
    x = check_rows(features)
    y = check_labels(labels, len(x))
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    z = x @ axes[:COMPONENTS].T
    means = np.stack([z[y == k].mean(axis=0) for k in range(y.max() + 1)])
    variances = np.array([z[y == k].var(axis=0, ddof=1).mean() for k in range(len(means))])
    variances = np.maximum(variances, 1e-12 * max(z.var(), 1e-300))  # a class of copies has none
    gaps = ((means[:, None] - means[None]) ** 2).sum(axis=2)
    middle = (variances[:, None] + variances[None]) / 2
    wider = np.log(middle) - (np.log(variances)[:, None] + np.log(variances)[None]) / 2
    overlap = np.exp(-gaps / (8 * middle) - z.shape[1] / 2 * wider)
    return -float(overlap.sum() - np.trace(overlap))
