"""How far a mean might be from that of other seeds and other images."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit  # without the second that scipy.stats takes to import

from .errors import LearnerError


class Estimate(NamedTuple):
    """A value and its interval; all three are NaN where the value is undefined.

    Attributes:
        value: what was measured.
        low: lower end of the interval.
        high: upper end of the interval.

    Example:
        >>> from tlutils import intervals
        >>> print(intervals.Estimate(0.81, 0.74, 0.87))
        0.810 [0.740, 0.870]
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "undefined" if np.isnan(self.value) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference:
    """A metric of one classifier minus that of another on the same images, with its paired interval.

    Attributes:
        metric: name of the metric.
        value: first minus second.
        low: lower end of the interval.
        high: upper end of the interval.
        level: confidence level of the interval.
    """

    metric: str
    value: float
    low: float
    high: float
    level: float = 0.95

    @property
    def tie(self) -> bool:
        """Whether the interval contains 0: the difference is within the noise of these images."""
        return bool(self.low <= 0 <= self.high)

    @property
    def outcome(self) -> str:
        """What the interval says of the first: "a tie", "higher" or "lower"."""
        return "a tie" if self.tie else "higher" if self.value > 0 else "lower"

    @property
    def verdict(self) -> str:
        """The same in words: "a tie: within noise", "higher beyond noise" or "lower beyond noise"."""
        return f"{self.outcome}{': within' if self.tie else ' beyond'} noise"

    def __str__(self) -> str:
        name = self.metric.replace("_", " ")
        return f"{name} {self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], {self.verdict}"


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

    def p_value(self, threshold: float = 0.0) -> float:
        """Return the one-sided p-value of "the mean is not above the threshold": small where it is above.

        Args:
            threshold: In the units of the value.
        """
        if not np.isfinite(self.variance):
            return 0.5
        if self.variance == 0:
            return float(self.value <= threshold)
        return float(stdtr(self.dof, (threshold - self.value) / self.variance**0.5))


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the mean of independent values with Student's interval: NaN without values, infinite around one.

    Args:
        values: (n,), one of each repetition.
        level: Confidence level, between 0 and 1.

    Example:
        >>> from tlutils.intervals import t_interval
        >>> print(t_interval([0.8, 0.9, 0.7]))
        0.800 [0.552, 1.048]
    """
    numbers = np.asarray(values, dtype=float)
    n = len(numbers)
    if not n:
        return Estimate(np.nan, np.nan, np.nan)
    variance = float(numbers.var(ddof=1)) / n if n > 1 else np.inf
    return SampleMean(float(numbers.mean()), variance, n - 1).interval(level)


def group_codes(groups: ArrayLike | None, count: int) -> np.ndarray:
    """Return a number from 0 for each image, (n,), equal for images of one group.

    Args:
        groups: a number or name of each image, (n,); None where each stands for itself.
        count: how many images there are.

    Raises:
        LearnerError: there is not one for each image.

    Example:
        >>> from tlutils import intervals
        >>> intervals.group_codes(["ann", "bob", "ann"], 3).tolist()
        [0, 1, 0]
    """
    if groups is None:
        return np.arange(count)
    names = np.asarray(groups)
    if names.shape != (count,):
        raise LearnerError(
            f"Groups of shape {names.shape} arrived for {count} images. Expected a number or name for each."
        )
    return np.asarray(pd.factorize(names, sort=True, use_na_sentinel=False)[0])


def two_way_mean(
    values: ArrayLike, *, weights: ArrayLike | None = None, groups: ArrayLike | None = None
) -> SampleMean:
    """Return the mean of a table of seeds × images, with the chance in both counted.

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
    group = group_codes(groups, table.shape[1])
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


def macro_average(values: ArrayLike, labels: ArrayLike, *, groups: ArrayLike | None = None) -> SampleMean:
    """Return the macro average of a value per image, the mean of the classes' means; images could be others.

    For hits, 0 or 1, it is the balanced accuracy (macro recall) of one classifier on images that it has not
    learned from; for differences of two classifiers' hits, how much better the first is, see
    `compare_classifiers`. What another draw of the training images would change is not in it: that takes
    several seeds, see `two_way_mean`. Where all images are right the spread says that nothing varies:
    `wilson_interval` allows for that. Values vary around the mean of their class, which is estimated and
    takes a degree of freedom. Where a class has one group alone, such as crops of one photograph, they vary
    around the overall mean: another draw would be one of other classes, too.

    Args:
        values: (N,), a number of each image.
        labels: (N,), the class of each image.
        groups: (N,), a number or name per image, equal for images that vary together; each image is its own
            group unless given.

    Raises:
        LearnerError: The shapes do not fit, or there is no value.

    Example:
        >>> from tlutils.intervals import macro_average
        >>> print(macro_average([1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 1]).interval())
        0.875 [0.507, 1.243]
    """
    y, truth = np.asarray(values, dtype=float), np.asarray(labels)
    if y.ndim != 1 or not y.size or y.shape != truth.shape:
        raise LearnerError(
            f"Values of shape {y.shape} arrived with labels of shape {truth.shape}. Expected one of each per "
            "image, and at least one image."
        )
    group = group_codes(groups, len(y))
    _, own, counts = np.unique(truth, return_inverse=True, return_counts=True)
    recalls = np.bincount(own, y) / counts
    mean, units = float(recalls.mean()), int(group.max()) + 1
    pairs = np.unique(np.stack([own, group]), axis=1)
    if np.bincount(pairs[0]).min() > 1:
        gaps, dof = _by_group((y - recalls[own]) / counts[own], group) / len(counts), units - len(counts)
    else:
        gaps, dof = _by_group(y / counts[own], group) / len(counts) - mean, units - 1
    return SampleMean(mean, _variance_of_mean(gaps, dof), max(1, dof))


def _variance_of_mean(gaps: np.ndarray, dof: int) -> float:
    return float((gaps**2).sum()) / (len(gaps) * dof) if dof > 0 else np.inf


def compare_classifiers(
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    metric: str = "accuracy",
    level: float = 0.95,
) -> Difference:
    """Return how much better one of two classifiers is, with an interval over images, or that they tie.

    Both were judged by the same images, so the differences are those of each image: two classifiers mostly
    err on the same ones, and their difference is known better than either value. What varies is which images
    of each class were drawn. The two classifiers are given: what other training images or another seed would
    have made of them is not in the interval; that takes several of each, see `compare_hits`. The interval is
    that of `macro_average`; of a difference of hits it is cut at -1 and 1, outside of which none lies, and
    where both are right about the same images, nothing varies, which is no proof: then it is as wide to
    either side as that of `wilson_interval` where all are right.

    Args:
        first: (N,), a number of each image, such as 1 or 0, right or wrong.
        second: The same of the other classifier, (N,).
        labels: (N,), the class of each image: every class counts alike, as in the balanced accuracy. Without
            them every image does, as in the accuracy.
        groups: As in `macro_average`.
        metric: What the mean is called.
        level: Confidence level of the interval, between 0 and 1.

    Raises:
        LearnerError: The shapes do not fit, or there is no value.

    Example:
        >>> from tlutils.intervals import compare_classifiers
        >>> first, second = [1, 1, 1, 1, 1, 1, 0, 1], [1, 0, 0, 1, 0, 0, 0, 1]
        >>> print(compare_classifiers(first, second))
        accuracy +0.500 [+0.053, +0.947], higher beyond noise
        >>> print(compare_classifiers(first[:4], second[:4]))
        accuracy +0.500 [-0.419, +1.000], a tie: within noise
    """
    one, two, shares = _paired(first, second, "images")
    kinds = np.zeros(one.shape, dtype=int) if labels is None else labels
    found = macro_average(one - two, kinds, groups=groups).interval(level)
    if not shares:
        return Difference(metric, *found, level)
    if found.high - found.low < 1e-9:
        width = 1 - wilson_interval(np.ones(one.shape), labels, groups=groups, level=level).low
        found = Estimate(found.value, found.value - width, found.value + width)
    value, low, high = np.clip(found, -1, 1).tolist()
    return Difference(metric, value, low, high, level)


def _paired(first: ArrayLike, second: ArrayLike, judged_by: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the values of two as arrays of one shape, and whether all are shares, as hits are."""
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != two.shape:
        raise LearnerError(
            f"Hits of shapes {one.shape} and {two.shape} arrived. Expected the same {judged_by} of both."
        )
    both = np.concatenate([one.ravel(), two.ravel()])
    return one, two, bool(((both >= 0) & (both <= 1)).all())


def wilson_interval(
    hits: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """Return an accuracy or a balanced accuracy with its Wilson score interval, right for few images too.

    Where all of five images are right, a bootstrap gives an interval of width 0; this one does not.
    It is Wilson's (1927, doi:10.1080/01621459.1927.10502953) for the number of images that would give one
    share the same variance (effective sample size, Kish 1965): fewer where classes are of unequal size, and
    where images of a group vary together (design effect).

    Args:
        hits: (N,), 1 or 0 for each image, right or wrong.
        labels: (N,), the class of each image. Without them every image counts alike: the interval of any
            share, such as an accuracy or the recall of one class.
        groups: As in `macro_average`.
        level: Confidence level of the interval.

    Raises:
        LearnerError: The shapes do not fit, or there is no image.

    Example:
        >>> from tlutils.intervals import wilson_interval
        >>> print(wilson_interval([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]))
        1.000 [0.581, 1.000]
        >>> print(wilson_interval([1, 1, 1, 1, 1]))
        1.000 [0.566, 1.000]
    """
    right = np.asarray(hits, dtype=float)
    truth = np.zeros(right.shape, dtype=int) if labels is None else np.asarray(labels)
    mean, group = macro_average(right, truth).value, group_codes(groups, len(truth))
    _, own, counts = np.unique(truth, return_inverse=True, return_counts=True)
    recalls, units = np.bincount(own, right) / counts, int(group.max()) + 1
    gaps = (right - recalls[own]) / counts[own]
    together = _variance_of_mean(_by_group(gaps, group), units - 1)
    apart = _variance_of_mean(_by_group(gaps, np.arange(len(gaps))), len(gaps) - 1)
    nothing = 1e-9 * apart  # a rounding, as where each class is one group
    effect = together / apart if nothing < together < np.inf else len(truth) / units
    images = counts / max(1.0, effect)
    n = len(images) ** 2 / (1 / images).sum()
    # Where classes with few images are the worse ones, the variance is larger than equal recalls would give.
    variance = (recalls * (1 - recalls) / images).sum() / len(images) ** 2
    if variance > 0:
        n = min(n, mean * (1 - mean) / variance)
    z = float(ndtri((1 + level) / 2))
    middle = (mean * n + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(n * mean * (1 - mean) + z**2 / 4)
    return Estimate(mean, max(float(middle - half), 0.0), min(float(middle + half), 1.0))


def kendall_tau(values: ArrayLike, known: ArrayLike, *, groups: ArrayLike | None = None) -> SampleMean:
    """Return Kendall's tau between two scores of the same things, with an interval: they are a sample.

    Tau is the share of pairs that both order alike minus that of the pairs that they order differently; a tie
    counts for neither (Kendall 1938, doi:10.1093/biomet/30.1-2.81). It is the mean of the jackknife's
    pseudo-values, one of each thing (Arvesen 1969, doi:10.1214/aoms/1177697287), and `two_way_mean` tells
    how sure that mean is, with the chance in both the seeds and the things counted.

    Args:
        values: (S, N), one row per seed: a score of each thing. Several tasks, (K, S, N), are averaged.
        known: (N,), what orders the things, such as a network's published accuracy.
        groups: (N,), a name per thing, equal for things that are alike, such as networks of one family, which
            then count once; each is its own group unless given.

    Raises:
        LearnerError: The shapes do not fit, or there are fewer than three things.

    Example:
        >>> from tlutils.intervals import kendall_tau
        >>> scores = [[0.5, 0.6, 0.8, 0.7, 0.9], [0.5, 0.7, 0.6, 0.8, 0.9]]
        >>> print(kendall_tau(scores, known=[70, 72, 74, 76, 78]).interval())
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


def two_way_interval(
    hits: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """Return the mean of a table of seeds × images of values from 0 to 1, with an interval over both.

    Of hits it is the mean accuracy over seeds. The interval is that of `two_way_mean`, cut at 0 and 1: no
    share lies outside. Where all answers are right, or all wrong, nothing varies, which is no proof: then it
    is Wilson's, see `wilson_interval`, for as many images, or seeds where there are more of these. For the
    one table of a single seed there is `wilson_interval`.

    Args:
        hits: (S, N), one row per seed: whether each image was answered rightly, or how nearly, from 0 to 1.
        weights: As in `two_way_mean`.
        groups: As in `two_way_mean`.
        level: Confidence level of the interval, between 0 and 1: 95 % unless given.

    Raises:
        LearnerError: The shapes do not fit, there is no value, or one lies outside 0 to 1.

    Example:
        >>> from tlutils.intervals import two_way_interval
        >>> print(two_way_interval([[1, 1, 0, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]))
        0.889 [0.589, 1.000]
        >>> print(two_way_interval([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]))
        1.000 [0.610, 1.000]
    """
    table = np.asarray(hits, dtype=float)
    if table.size and not (table.min() >= 0 and table.max() <= 1):
        raise LearnerError(
            f"Values from {table.min():g} to {table.max():g} arrived. Expected hits, from 0 to 1; the mean "
            "of any other table is two_way_mean(table).interval()."
        )
    return Estimate(*np.clip(_of_shares(table, weights, groups, level), 0, 1).tolist())


def _of_shares(
    table: np.ndarray, weights: ArrayLike | None, groups: ArrayLike | None, level: float
) -> Estimate:
    """Return the interval of `two_way_mean`; as wide as Wilson's where nothing varies, which is no proof."""
    found = two_way_mean(table, weights=weights, groups=groups).interval(level)
    if len(table) == 1 or table.min() < table.max():
        return found
    own = np.ones(table.shape[1]) if weights is None else np.asarray(weights, dtype=float)
    shares = np.bincount(group_codes(groups, len(own)), own / own.sum())  # of the groups
    equal = np.ones(max(len(table), round(1 / (shares**2).sum())))
    width = 1 - wilson_interval(equal, level=level).low
    return Estimate(found.value, found.value - width, found.value + width)


def compare_hits(
    first: ArrayLike,
    second: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    metric: str = "accuracy",
    level: float = 0.95,
) -> Difference:
    """Return how much better one of two methods is, with an interval over seeds and images, or that they tie.

    Both were judged by the same images, seed by seed, so the differences are those of each image. What varies
    is the seed and the images, see `two_way_mean`; where two classifiers are given, `compare_classifiers`
    lets the images alone vary. The interval of a difference of hits is cut at -1 and 1, outside of which none
    lies. Where both are right about the same images, nothing varies, which is no proof: then it is as wide to
    either side as Wilson's, see `two_way_interval`.

    Args:
        first: (S, N), one row per seed: a hit, 0 or 1, of each image.
        second: The same for the other method, (S, N).
        weights: As in `two_way_mean`.
        groups: As in `two_way_mean`.
        metric: What the mean is called.
        level: Confidence level of the interval, between 0 and 1: 95 % unless given.

    Raises:
        LearnerError: The shapes do not fit, or there is no value.

    Example:
        >>> from tlutils.intervals import compare_hits
        >>> first = [[1, 1, 0, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
        >>> second = [[1, 0, 0, 1, 1, 0], [1, 0, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0]]
        >>> print(compare_hits(first, second))
        accuracy +0.389 [-0.025, +0.802], a tie: within noise
    """
    one, two, shares = _paired(first, second, "seeds and images")
    if not shares:
        found = two_way_mean(one - two, weights=weights, groups=groups).interval(level)
    else:
        found = Estimate(*np.clip(_of_shares(one - two, weights, groups, level), -1, 1).tolist())
    return Difference(metric, *found, level)
