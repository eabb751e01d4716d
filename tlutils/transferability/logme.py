"""LogME: how probable the labels are under all linear models of the features together."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from ..features import check_rows
from .inputs import check_labels

RATIOS = np.logspace(
    -10, 10, 81
)  # of prior to noise precision, in units of the largest squared singular value


def logme(features: Any, labels: Any) -> float:
    """Return the log of maximum evidence per image, averaged over classes.

    For each class its indicator y, 0 or 1, is taken as a linear function of the features, with Gaussian
    weights and Gaussian noise. The evidence is the probability of y with the weights integrated out, under
    the two precisions that make it largest. You et al. 2021 (arXiv:2102.11005).

    The evidence depends on the two precisions by their ratio t alone, once the best scale is filled in, so
    that here one bounded search over log t takes the place of the paper's fixed-point iteration.

    Cost: one singular value decomposition, min(N, D)² · max(N, D); seconds for 1,000 images.

    Known failure: it sees features as they are and not what finetuning makes of them, and orders networks by
    that; on many benchmarks a fixed order of the networks does better (Agostinelli et al. 2022,
    arXiv:2204.01403). Features that give the labels exactly have unbounded evidence, up to the limit of the
    search.

    Args:
        features: (N, D), pooled features of the images.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, values are not finite, there is one class, or a class of one
            image.

    Example:
        >>> import numpy as np
        >>> from tlutils import transferability
        >>> y = np.arange(40) % 2
        >>> noise = np.random.default_rng(0).normal(size=(40, 3))
        >>> round(transferability.logme(noise, y), 2), round(transferability.logme(noise + y[:, None], y), 2)
        (-1.05, -0.85)
    """
    x = check_rows(features)
    y = check_labels(labels, len(x))
    u, values, _ = np.linalg.svd(x, full_matrices=False)
    squares = values**2 if values[0] > 0 else np.ones_like(values)
    return float(np.mean([_evidence(u, squares, y == k) for k in range(y.max() + 1)]))


def _evidence(u: np.ndarray, squares: np.ndarray, y: np.ndarray) -> float:
    """Return the largest log evidence per image of one class, given u (N, r) and squared singular values."""
    n = len(y)
    along = (u.T @ y) ** 2
    beside = max(float(y.sum() - along.sum()), 0.0)  # what no linear function of the features explains

    def loss(log_ratio: float) -> float:
        t = np.exp(log_ratio) * squares[0]
        fit = max(float((along * t / (t + squares)).sum()) + beside, 1e-12)  # yᵀ(I + XXᵀ/t)⁻¹y
        return float(np.log(2 * np.pi * np.e * fit / n) + np.log1p(squares / t).sum() / n) / 2

    grid = np.log(RATIOS)
    best = int(np.argmin([loss(r) for r in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return -float(min(loss(grid[best]), minimize_scalar(loss, bounds=around, method="bounded").fun))
