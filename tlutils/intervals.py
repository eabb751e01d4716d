"""How sure a mean is when both the seeds and the images could have been others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit  # Student's t, without the second that scipy.stats takes to import

from .errors import LearnerError
from .metrics import Difference, Estimate, number_groups, wilson_intervals


@dataclass(frozen=True)
class SampleMean:
    """A mean over what was drawn, and how far another draw's could be.

    Means of independent draws can be added, and any can be multiplied by a number.

    Attributes:
        value: The mean.
        variance: The variance of the mean, estimated; infinite where one draw says nothing about it.
        dof: Degrees of freedom of that estimate, those of Student's t.
    """

    value: float
    variance: float
    dof: float

    def __add__(self, other: "SampleMean") -> "SampleMean":
        variance = self.variance + other.variance
        parts = self.variance**2 / self.dof + other.variance**2 / other.dof
        dof = variance**2 / parts if 0 < parts < np.inf else min(self.dof, other.dof)
        return SampleMean(self.value + other.value, variance, dof)

    def __mul__(self, factor: float) -> "SampleMean":
        return SampleMean(self.value * factor, self.variance * factor**2, self.dof)

    def interval(self, level: float = 0.95) -> Estimate:
        """Return the value with its confidence interval.

        Args:
            level: Confidence level, between 0 and 1.
        """
        if not np.isfinite(self.variance):
            return Estimate(self.value, -np.inf, np.inf)
        half = float(stdtrit(self.dof, (1 + level) / 2)) * self.variance**0.5
        return Estimate(self.value, self.value - half, self.value + half)

    def p_above(self, threshold: float = 0.0) -> float:
        """Return the one-sided p-value of "the mean is not above the threshold": small where it is above.

        Args:
            threshold: In the units of the value.
        """
        if not np.isfinite(self.variance):
            return 0.5
        if self.variance == 0:
            return float(self.value <= threshold)
        return float(stdtr(self.dof, (threshold - self.value) / self.variance**0.5))


def two_way_mean(
    values: ArrayLike, *, weights: ArrayLike | None = None, groups: ArrayLike | None = None
) -> SampleMean:
    """Return the mean of a table of seeds × images, both of which could have been others.

    More seeds on the same images don't make an interval as narrow as more images would, and the reverse: the
    variance of the mean is that of a two-way analysis of variance with random seeds, random images and one
    value in each cell, its degrees of freedom Satterthwaite's (1946, Biometrics Bulletin 2, 110-114).
    Images of one group, such as crops of one photograph, vary together: a group counts once. With one
    column of values, such as one number of each seed, this is Student's interval over the seeds.

    Args:
        values: (S, N), one row per seed: a hit, 0 or 1, of each image, or the difference between two
            methods' hits.
        weights: (N,), how much each image counts, 0 or more; all alike unless given. Weights of one over the
            size of an image's class give the balanced accuracy.
        groups: (N,), a number or name per image, equal for images that vary together; each image is its own
            group unless given.

    Raises:
        LearnerError: The shapes do not fit, or there is no value.

    Example:
        >>> from tlutils.intervals import two_way_mean
        >>> hits = [[1, 1, 0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 0, 0, 1, 1], [1, 1, 0, 1, 1, 1, 1, 1]]
        >>> print(two_way_mean(hits).interval())
        0.750 [0.405, 1.095]
    """
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or not table.size:
        raise LearnerError(
            f"Values of shape {table.shape} arrived. Expected (seeds, images), one or more of each."
        )
    own = np.ones(table.shape[1]) if weights is None else np.asarray(weights, dtype=float)
    group = number_groups(groups, table.shape[1])
    if own.shape != table.shape[1:]:
        raise LearnerError(
            f"Values of shape {table.shape} arrived with {len(own)} weights. Expected one per image."
        )
    y = np.stack([_by_group(row * own, group) for row in table]) / own.sum()
    (seeds, units), mean = y.shape, float(y.mean())
    if seeds == 1:
        return SampleMean(mean, np.inf, 1)
    by_seed, by_unit = y.mean(axis=1), y.mean(axis=0)
    dof_seeds, dof_units = seeds - 1, max(1, units - 1)
    of_seeds = units * float(((by_seed - mean) ** 2).sum()) / dof_seeds
    of_units = seeds * float(((by_unit - mean) ** 2).sum()) / dof_units
    rest = float(((y - by_seed[:, None] - by_unit + mean) ** 2).sum()) / (dof_seeds * dof_units)
    total = of_seeds + of_units - rest
    if total < max(of_seeds, of_units):  # by chance: never surer than by the seeds or the images alone
        total, rest = max(of_seeds, of_units), 0.0
    parts = of_seeds**2 / dof_seeds + of_units**2 / dof_units + rest**2 / (dof_seeds * dof_units)
    return SampleMean(mean, total / y.size, total**2 / parts if parts else dof_seeds)


def _by_group(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return what each group adds to a sum, times the number of groups: their mean is the sum."""
    return np.bincount(group, values) * (group.max() + 1)


def image_mean(values: ArrayLike, labels: ArrayLike, *, groups: ArrayLike | None = None) -> SampleMean:
    """Return the mean over classes of a number that each image has, sure only as far as the images decide.

    For hits, 0 or 1, it is the balanced accuracy of one classifier on images that it has not learned from;
    for differences of two classifiers' hits, how much better the first is. What another draw of the training
    images would change is not in it: that takes several seeds, see `two_way_mean`. Where all images are right
    the spread says that nothing varies: `score_interval` does not believe it.

    Args:
        values: (N,), a number of each image.
        labels: (N,), the class of each image.
        groups: (N,), a number or name per image, equal for images that vary together; each image is its own
            group unless given.

    Raises:
        LearnerError: The shapes do not fit, or there is no value.

    Example:
        >>> from tlutils.intervals import image_mean
        >>> print(image_mean([1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 1]).interval())
        0.875 [0.570, 1.180]
    """
    y, truth = np.asarray(values, dtype=float), np.asarray(labels)
    if y.ndim != 1 or not y.size or y.shape != truth.shape:
        raise LearnerError(
            f"Values of shape {y.shape} arrived with labels of shape {truth.shape}. Expected one of each per "
            "image, and at least one image."
        )
    group = number_groups(groups, len(y))
    _, own, counts = np.unique(truth, return_inverse=True, return_counts=True)
    recalls = np.bincount(own, y) / counts
    # Around its class's mean: which classes an image is of is given, and no part of the chance.
    gaps = _by_group((y - recalls[own]) / counts[own], group) / len(counts)
    units = len(gaps)
    variance = float((gaps**2).sum()) / (units * max(1, units - 1))
    return SampleMean(float(recalls.mean()), variance if units > 1 else np.inf, max(1, units - 1))


def score_interval(
    hits: ArrayLike, labels: ArrayLike, *, groups: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """Return the balanced accuracy of one classifier, with an interval that holds for few images too.

    It is that of `metrics.wilson_intervals`, for as many images as those of groups are worth: their number
    over the design effect, by which groups make the variance larger (Kish 1965).

    Args:
        hits: (N,), 1 or 0 for each image, right or wrong.
        labels: (N,), the class of each image.
        groups: As in `image_mean`.
        level: Confidence level of the interval.

    Raises:
        LearnerError: The shapes do not fit, or there is no image.

    Example:
        >>> from tlutils.intervals import score_interval
        >>> print(score_interval([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]))
        1.000 [0.581, 1.000]
    """
    together, apart = image_mean(hits, labels, groups=groups), image_mean(hits, labels)
    right, truth = np.asarray(hits, dtype=float), np.asarray(labels)
    units = number_groups(groups, len(truth)).max() + 1
    effect = together.variance / apart.variance if 0 < together.variance < np.inf else len(truth) / units
    _, own, counts = np.unique(truth, return_inverse=True, return_counts=True)
    recalled = np.bincount(own, right)
    table = np.diag(recalled)
    table[np.arange(len(counts)), np.arange(len(counts)) - 1] += counts - recalled
    return wilson_intervals(table / max(1.0, effect), level=level)[0]


def rank_correlation(values: ArrayLike, known: ArrayLike, *, groups: ArrayLike | None = None) -> SampleMean:
    """Return Kendall's tau between a number of each thing and a score of it, as if the things were drawn.

    Tau is the share of pairs that both order alike minus that of the pairs that they order differently; a tie
    counts for neither (Kendall 1938, doi:10.1093/biomet/30.1-2.81). It is the mean of the jackknife's
    pseudo-values, one of each thing (Arvesen 1969, doi:10.1214/aoms/1177697287), and `two_way_mean` tells
    how sure that mean is: both the seeds and the things could have been others.

    Args:
        values: (S, N), one row per seed: a score of each thing. Several tasks, (K, S, N), are averaged.
        known: (N,), what orders the things, such as a network's published accuracy.
        groups: (N,), a name per thing, equal for things that are alike, such as networks of one family, which
            then count once; each is its own group unless given.

    Raises:
        LearnerError: The shapes do not fit, or there are fewer than three things.

    Example:
        >>> from tlutils.intervals import rank_correlation
        >>> scores = [[0.5, 0.6, 0.8, 0.7, 0.9], [0.5, 0.7, 0.6, 0.8, 0.9]]
        >>> print(rank_correlation(scores, known=[70, 72, 74, 76, 78]).interval())
        0.800 [0.107, 1.493]
    """
    scores, order = np.asarray(values, dtype=float), np.asarray(known, dtype=float)
    if scores.ndim not in (2, 3) or scores.shape[-1:] != order.shape or order.size < 3:
        raise LearnerError(
            f"Scores of shape {scores.shape} arrived with known values of shape {order.shape}. "
            "Expected (seeds, things) and one known value of each of at least three things."
        )
    n = order.size
    alike = np.sign(scores[..., :, None] - scores[..., None, :]) * np.sign(order[:, None] - order)
    own = alike.sum(axis=-1)
    total = own.sum(axis=-1, keepdims=True)
    pseudo = total / (n - 1) - (total - 2 * own) / (n - 2)  # n tau - (n - 1) tau without the thing
    pseudo = pseudo.reshape(-1, *pseudo.shape[-2:]).mean(axis=0)
    tau = float(pseudo.mean())
    spread = two_way_mean(pseudo - tau, groups=groups)  # around tau: a large group is not a high one
    return SampleMean(tau, spread.variance, spread.dof)


def compare_hits(
    first: ArrayLike,
    second: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    metric: str = "accuracy",
) -> Difference:
    """Return how much better one of two ways is, with an interval over seeds and images, or that they tie.

    Both were judged by the same images, seed by seed, so the differences are those of each image.

    Args:
        first: (S, N), one row per seed: a hit, 0 or 1, of each image.
        second: The same of the other way, (S, N).
        weights: As in `two_way_mean`.
        groups: As in `two_way_mean`.
        metric: What the mean is called.

    Raises:
        LearnerError: The shapes do not fit, or there is no value.

    Example:
        >>> from tlutils.intervals import compare_hits
        >>> first = [[1, 1, 0, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
        >>> second = [[1, 0, 0, 1, 1, 0], [1, 0, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0]]
        >>> print(compare_hits(first, second))
        accuracy +0.389 [-0.025, +0.802], a tie: within noise
    """
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != two.shape:
        raise LearnerError(
            f"Hits of shapes {one.shape} and {two.shape} arrived. Expected the same seeds and images of both."
        )
    return Difference(metric, *two_way_mean(one - two, weights=weights, groups=groups).interval())
