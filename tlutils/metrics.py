"""How good is a classifier, and how sure are we: scores with bootstrap intervals, and ties called ties."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from .errors import LearnerError, unknown

BINS = 15  # of equal width, for the calibration error, as in Guo et al. 2017 (arXiv:1706.04599)
METRICS = ("accuracy", "balanced_accuracy", "log_loss", "calibration_error")
CELLS = 4_000_000  # numbers of a block of resamples held at once: memory stays flat


class Estimate(NamedTuple):
    """A value and its interval; all three are NaN where the value is undefined.

    Attributes:
        value: what was measured.
        low: lower end of the interval.
        high: upper end of the interval.

    Example:
        >>> from tlutils import metrics
        >>> print(metrics.Estimate(0.81, 0.74, 0.87))
        0.810 [0.740, 0.870]
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "undefined" if np.isnan(self.value) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What a classifier did on labelled images. Printing it, or leaving it last in a cell, shows a table.

    Attributes:
        accuracy: share of images that are right, with its interval.
        balanced_accuracy: mean recall over the classes that occur, with its interval.
        log_loss: mean negative log probability of the true class, in nats, with its interval.
        calibration_error: expected calibration error (ECE) of the predicted class, 15 bins, with interval.
        per_class: one row per class: support, precision and recall with their intervals. Precision and recall
            of a class without images are NaN: unknown, and not 0.
        confusion: counts of (true, predicted) pairs, (C, C).
        classes: names of the C classes.
        labels: true class of each image, (n,).
        probabilities: class probabilities of each image, (n, C).
        level: confidence level of the intervals.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    log_loss: Estimate
    calibration_error: Estimate
    per_class: pd.DataFrame
    confusion: np.ndarray
    classes: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    level: float = 0.95
    _columns: sparse.csr_array | None = field(default=None)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.labels)

    def _headline(self) -> pd.DataFrame:
        rows = {name.replace("_", " "): getattr(self, name) for name in METRICS}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])

    def _absent(self) -> str:
        names = [repr(name) for name in self.per_class.index[self.per_class["support"] == 0]]
        return f"\nnothing is known of {', '.join(names)}: no image is of that class" if names else ""

    def __str__(self) -> str:
        head = f"{self.n} images, {len(self.classes)} classes; intervals of {self.level:.0%}{self._absent()}"
        figures = "\n".join(f"{name:<18} {Estimate(*row)}" for name, row in self._headline().iterrows())
        shown = self.per_class[["support", "precision", "recall"]]
        return f"{head}\n{figures}\n{shown.to_string(float_format='{:.3f}'.format, na_rep='undefined')}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def table(frame: pd.DataFrame) -> str:
            return frame.to_html(float_format="{:.3f}".format, na_rep="undefined", border=0)

        shown = self.per_class[["support", "precision", "recall"]]
        about = escape(f"{self.n} images; intervals of {self.level:.0%}{self._absent()}")
        return f"<p>{about}</p>{table(self._headline())}{table(shown)}"


@dataclass(frozen=True)
class Difference:
    """A metric of the first report minus that of the second, on the same images, with its paired interval.

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

    def __str__(self) -> str:
        name, verdict = self.metric.replace("_", " "), ": within" if self.tie else " beyond"
        return f"{name} {self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], {self.outcome}{verdict} noise"


def report(
    labels: ArrayLike,
    proba: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Report:
    """Return what a classifier did on labelled images, with bootstrap intervals and a table by class.

    Intervals are percentiles of a seeded bootstrap over the images (Efron 1979). The calibration error (Guo
    et al. 2017, arXiv:1706.04599) is a sum of absolute values, so that of a resample is too high on average:
    its resamples are first centred on the value itself.

    Args:
        labels: true class of each image, (n,), integers 0 to C - 1.
        proba: class probabilities, (n, C), each row of sum 1, C of at least 2.
        classes: names of the C classes; numbers without them.
        resamples: number of bootstrap resamples.
        level: confidence level of the intervals, between 0 and 1.
        seed: what the resamples are drawn by.

    Raises:
        LearnerError: the shapes do not fit, a label is out of range, a row holds NaN or does not sum to 1, or
            there are no images.

    Example:
        >>> from tlutils import metrics
        >>> proba = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]
        >>> found = metrics.report([0, 0, 1, 1], proba, classes=["cat", "dog"])
        >>> found.balanced_accuracy.value
        0.75
        >>> found.confusion.tolist()
        [[2, 0], [1, 1]]
    """
    from sklearn.metrics import confusion_matrix

    truth, chances, names = _check(labels, proba, classes)
    columns = _count_per_image(truth, chances)
    once = _compute_metrics(np.asarray(columns.sum(axis=0))[None], len(truth), len(names))
    many = _compute_metrics(_resample(columns, resamples, seed), len(truth), len(names))
    many["calibration_error"] += once["calibration_error"] - np.mean(many["calibration_error"])
    np.clip(many["calibration_error"], 0, 1, out=many["calibration_error"])
    low, high = ({k: _percentile(v, q) for k, v in many.items()} for q in ((1 - level) / 2, (1 + level) / 2))
    value = {k: v[0] for k, v in once.items()}

    support = np.bincount(truth, minlength=len(names))
    table: dict[str, np.ndarray] = {"support": support}
    for name in ("precision", "recall"):
        for suffix, source in (("", value), ("_low", low), ("_high", high)):
            # Where a class has no images nothing is known of it, and a 0 would read as a bad score.
            table[name + suffix] = np.where(support > 0, source[name], np.nan)
    headline = {k: Estimate(float(value[k]), float(low[k]), float(high[k])) for k in METRICS}
    frame = pd.DataFrame(table, index=pd.Index(names, name="class"))
    return Report(
        **headline,
        per_class=frame,
        confusion=confusion_matrix(truth, chances.argmax(1), labels=range(len(names))),
        classes=names,
        labels=truth,
        probabilities=chances,
        level=level,
        _columns=columns,
    )


def balanced_accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the balanced accuracy, the mean recall over the classes that occur, from 0 to 1.

    It is scikit-learn's, except that a class which is predicted and never occurs raises no warning.

    Args:
        labels: true class of each image, (n,).
        predicted: predicted class of each image, (n,).

    Example:
        >>> from tlutils import metrics
        >>> metrics.balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
        0.5
    """
    number = np.unique(labels, return_inverse=True)[1]
    right = np.bincount(number, weights=np.asarray(labels) == np.asarray(predicted))
    return float(np.mean(right / np.bincount(number)))


def number_groups(groups: ArrayLike | None, count: int) -> np.ndarray:
    """Return a number from 0 for each image, (n,), equal for images of one group.

    Args:
        groups: a number or name of each image, (n,); None where each stands for itself.
        count: how many images there are.

    Raises:
        LearnerError: there is not one for each image.

    Example:
        >>> from tlutils import metrics
        >>> metrics.number_groups(["ann", "bob", "ann"], 3).tolist()
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


def wilson_intervals(confusion: ArrayLike, *, level: float = 0.95) -> tuple[Estimate, list[Estimate]]:
    """Return balanced accuracy, and the recall of each class, with intervals that hold for few images too.

    A bootstrap of five images that are all right says that it is sure; these say how little five images tell.
    They are Wilson's score intervals (1927): of each recall, and of their mean with the number of images that
    would give it the same variance (effective sample size, Kish 1965). Images must be independent.

    Args:
        confusion: Counts (C, C), a row for each true class and a column for each predicted one.
        level: Confidence level of the intervals, between 0 and 1.

    Returns:
        The mean recall over the classes that occur, and the recall of each class; NaN for one without images.

    Raises:
        LearnerError: For other shapes, and where no image is counted.

    Example:
        >>> from tlutils import metrics
        >>> mean, each = metrics.wilson_intervals([[5, 0], [0, 5]])
        >>> print(mean)
        1.000 [0.722, 1.000]
        >>> print(each[0])
        1.000 [0.566, 1.000]
    """
    from scipy.stats import norm

    counts, z = np.asarray(confusion, dtype=float), float(norm.ppf((1 + level) / 2))
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.sum() > 0:
        raise LearnerError(f"Counts of shape {counts.shape} arrived. Expected (C, C), of one image or more.")
    images = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        recall = np.diag(counts) / images
    each = [_wilson(share, n, z) for share, n in zip(recall, images, strict=True)]
    recall, images = recall[images > 0], images[images > 0]
    mean, size = recall.mean(), len(images) ** 2 / (1 / images).sum()
    # Where classes with few images are the worse ones, the variance is larger than equal recalls would give.
    variance = (recall * (1 - recall) / images).sum() / len(images) ** 2
    if variance > 0:
        size = min(size, mean * (1 - mean) / variance)
    return _wilson(mean, size, z), each


def _wilson(share: float, n: float, z: float) -> Estimate:
    """Return a share of n images with its score interval; NaN without images."""
    if not n:
        return Estimate(np.nan, np.nan, np.nan)
    middle = (share * n + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(n * share * (1 - share) + z**2 / 4)
    return Estimate(float(share), max(float(middle - half), 0.0), min(float(middle + half), 1.0))


def cka(x: ArrayLike, y: ArrayLike) -> float:
    """Return how alike two features of the same images are, as linear CKA: 1 the same, 0 unrelated.

    Unlike a distance it does not change when features are rotated or scaled as a whole, which a later layer
    could undo. Kornblith et al. 2019, arXiv:1905.00414.

    Args:
        x: Features of shape (n, p), one row per image.
        y: Features of shape (n, q) of the same images in the same order.

    Raises:
        LearnerError: For other shapes, and for features that are the same for all images.

    Example:
        >>> from tlutils import metrics
        >>> x = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
        >>> rotated_and_scaled = [[0.0, 2.0], [0.0, -2.0], [-2.0, 0.0], [2.0, 0.0]]
        >>> round(metrics.cka(x, rotated_and_scaled), 6)
        1.0
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (x, y))
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise LearnerError(
            f"Features of shapes {tuple(a.shape)} and {tuple(b.shape)} arrived. Expected (n, p) and (n, q), "
            "one row per image, of the same images in the same order."
        )
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    if not size > 0:
        raise LearnerError("One of the two is the same for all images: there is nothing to compare.")
    return float(np.linalg.norm(b.T @ a) ** 2 / size)


def compare(
    first: Report,
    second: Report,
    *,
    metric: str = "balanced_accuracy",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return a metric of the first report minus that of the second, with the interval of a paired bootstrap.

    Both are resampled alike. Pairing matters: two classifiers mostly err on the same images, so their
    difference is known better than either value.

    Args:
        first: report of one classifier.
        second: report of another on the same images, in the same order.
        metric: "accuracy", "balanced_accuracy", "log_loss" or "calibration_error".
        resamples: number of bootstrap resamples.
        level: confidence level of the interval, between 0 and 1.
        seed: what the resamples are drawn by.

    Raises:
        LearnerError: the reports are of different images or classes, or the metric is unknown.

    Example:
        >>> import numpy as np
        >>> from tlutils import metrics
        >>> labels = np.arange(40) % 2
        >>> good = metrics.report(labels, np.eye(2)[labels])
        >>> guess = metrics.report(labels, np.full((40, 2), 0.5))
        >>> print(metrics.compare(good, guess, metric="accuracy"))
        accuracy +0.500 [+0.350, +0.650], higher beyond noise
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    if not np.array_equal(first.labels, second.labels) or first.classes != second.classes:
        raise LearnerError(
            f"These reports are of different images ({first.n} and {second.n}) or classes. "
            "A paired difference needs both classifiers judged on the same images, in the same order."
        )
    value = getattr(first, metric).value - getattr(second, metric).value
    one, two = (
        _compute_metrics(_resample(r._columns, resamples, seed), r.n, len(r.classes))[metric]
        for r in (first, second)
    )
    low, high = (float(_percentile(one - two, q)) for q in ((1 - level) / 2, (1 + level) / 2))
    return Difference(metric, float(value), low, high, level)


def _check(
    labels: ArrayLike, proba: ArrayLike, classes: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    truth, chances = np.asarray(labels), np.asarray(proba, dtype=np.float64)
    if chances.ndim != 2 or truth.shape != chances.shape[:1] or chances.shape[1] < 2:
        raise LearnerError(
            f"Labels of shape {truth.shape} and probabilities of shape {chances.shape} do not fit. "
            "Expected (n,) and (n, C), with at least two classes; a binary classifier gives two columns."
        )
    if not len(truth):
        raise LearnerError("There are no images to report on. Expected at least one.")
    if not np.isfinite(chances).all() or chances.min() < -1e-6 or np.abs(chances.sum(1) - 1).max() > 1e-3:
        raise LearnerError(
            "These are no probabilities: expected rows of numbers from 0 to 1 that sum to 1. "
            "Put logits through softmax first; NaN means that the training before this went wrong."
        )
    names = [str(i) for i in range(chances.shape[1])] if classes is None else [str(c) for c in classes]
    if len(names) != chances.shape[1]:
        raise LearnerError(
            f"{len(names)} class names arrived for {chances.shape[1]} columns of probabilities."
        )
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= len(names):
        raise LearnerError(
            f"Expected integer labels from 0 to {len(names) - 1}; "
            f"got {truth.dtype} from {truth.min()} to {truth.max()}."
        )
    return truth.astype(np.int64), chances, names


def _count_per_image(truth: np.ndarray, chances: np.ndarray) -> sparse.csr_array:
    """Return (n, 2 + 3C + bins): what each image adds to every score, so a resample is one weighted sum.

    Columns: right or wrong; loss; true class; predicted class; class that was hit; confidence - hit, by bin.
    """
    n, count = chances.shape
    guess = chances.argmax(1)
    hit = (guess == truth).astype(float)
    confidence = chances[np.arange(n), guess]
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    tiny = np.finfo(np.float64).eps
    loss = -np.log(np.clip(chances[np.arange(n), truth], tiny, 1 - tiny))
    ones, zero = np.ones(n), np.zeros(n, dtype=int)
    values = [hit, loss, ones, ones, hit, confidence - hit]
    places = [zero, zero + 1, 2 + truth, 2 + count + guess, 2 + 2 * count + truth, 2 + 3 * count + bins]
    rows = np.tile(np.arange(n), len(values))
    cells = (np.concatenate(values), (rows, np.concatenate(places)))
    return sparse.csr_array(cells, shape=(n, 2 + 3 * count + BINS))


def _resample(columns: sparse.csr_array | None, resamples: int, seed: int) -> np.ndarray:
    """Return (resamples, columns): the column sums of each bootstrap resample of the rows."""
    assert columns is not None
    n = columns.shape[0]
    rng = np.random.default_rng(seed)
    sums = []
    for start in range(0, resamples, block := max(1, CELLS // n)):
        size = min(block, resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)
        sums.append((columns.T @ times.T).T)
    return np.concatenate(sums)


def _compute_metrics(sums: np.ndarray, n: int, count: int) -> dict[str, np.ndarray]:
    """Return each score of each resample from its column sums: (B,) or, per class, (B, C)."""
    hit, loss, true, predicted, both, gap = np.split(sums, np.cumsum([1, 1, count, count, count]), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = both / true, both / predicted
    return {
        "accuracy": hit[:, 0] / n,
        "balanced_accuracy": np.nanmean(recall, axis=1),  # as `balanced_accuracy`, of every resample
        "log_loss": loss[:, 0] / n,
        "calibration_error": np.abs(gap).sum(1) / n,
        "recall": recall,
        "precision": precision,
    }


def _percentile(draws: np.ndarray, q: float) -> np.ndarray:
    """Return the q-quantile over resamples, leaving out those where a score is undefined."""
    known = ~np.isnan(draws).all(axis=0)
    return np.where(known, np.nanquantile(np.where(known, draws, 0.0), q, axis=0), np.nan)
