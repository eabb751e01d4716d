"""How good is a classifier, and how sure are we: scores with their intervals, and ties called ties."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from .errors import LearnerError, unknown
from .intervals import Difference, Estimate, compare_classifiers, group_codes, macro_average, wilson_interval

BINS = 15  # of equal width, for the calibration error, as in Guo et al. 2017 (arXiv:1706.04599)
METRICS = ("accuracy", "balanced_accuracy", "log_loss", "calibration_error")
CELLS = 4_000_000  # numbers of a block of resamples held at once: memory stays flat


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What a classifier did on labelled images. Printing it, or leaving it last in a cell, shows a table.

    Attributes:
        accuracy: share of images that are right, with its interval.
        balanced_accuracy: mean recall over the classes that occur, with its interval.
        log_loss: mean of `log_losses`, in nats, with its interval.
        calibration_error: expected calibration error (ECE) of the predicted class, 15 bins, with interval.
        per_class: one row per class: support, precision and recall with their intervals. Precision and recall
            of a class without images are NaN: unknown, and not 0.
        confusion: counts of (true, predicted) pairs, (C, C).
        classes: names of the C classes.
        labels: true class of each image, (n,).
        probabilities: class probabilities of each image, (n, C).
        groups: a number of each image, (n,), equal for images that vary together.
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
    groups: np.ndarray
    level: float = 0.95
    _columns: sparse.csr_array | None = field(default=None)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def recalls(self) -> list[Estimate]:
        """The recall of each class."""
        return [Estimate(*row) for row in self.per_class[["recall", "recall_low", "recall_high"]].to_numpy()]

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


def report(
    labels: ArrayLike,
    proba: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Report:
    """Return what a classifier did on labelled images, with intervals and a table by class.

    Accuracy, balanced accuracy, precision and recall have the intervals of `intervals.wilson_interval`, which
    hold for few images too; the log loss has that of `intervals.macro_average`, cut at 0. The calibration
    error (Guo et al. 2017, arXiv:1706.04599) is no mean over images: its interval is the percentiles of a
    seeded bootstrap over the images (Efron 1979). It is a sum of absolute values, so that of a resample is
    too high on average: its resamples are first centred on the value itself.

    Args:
        labels: true class of each image, (n,), integers 0 to C - 1.
        proba: class probabilities, (n, C), each row of sum 1, C of at least 2.
        classes: names of the C classes; numbers without them.
        groups: (n,), a number or name per image, equal for images that vary together, such as copies; each
            image is its own group unless given.
        resamples: number of bootstrap resamples, of the calibration error.
        level: confidence level of the intervals, between 0 and 1.
        seed: what the resamples are drawn by.

    Raises:
        LearnerError: the shapes do not fit, a label is out of range, a row holds NaN or does not sum to 1, or
            there are no images.

    Example:
        >>> from tlutils import metrics
        >>> proba = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]
        >>> found = metrics.report([0, 0, 1, 1], proba, classes=["cat", "dog"])
        >>> print(found.balanced_accuracy)
        0.750 [0.301, 0.954]
        >>> found.confusion.tolist()
        [[2, 0], [1, 1]]
    """
    truth, chances, names = _check(labels, proba, classes)
    own = group_codes(groups, len(truth))
    guess = chances.argmax(axis=1)
    hit = guess == truth

    def share(rows: np.ndarray) -> Estimate:
        if not rows.any():
            return Estimate(np.nan, np.nan, np.nan)
        return wilson_interval(hit[rows], groups=own[rows], level=level)

    columns = _sum_by_group(chances, hit, own)
    error = float(_calibration_error(np.asarray(columns.sum(axis=0))[None])[0])
    many = _calibration_error(_resample(columns, resamples, seed))
    ends = np.quantile(np.clip(many + error - np.mean(many), 0, 1), [(1 - level) / 2, (1 + level) / 2])
    loss = macro_average(log_losses(truth, chances), np.zeros(len(truth), dtype=int), groups=own).interval(
        level
    )

    support = np.bincount(truth, minlength=len(names))
    table: dict[str, np.ndarray] = {"support": support}
    for name, of in (("precision", guess), ("recall", truth)):
        # Where a class has no images nothing is known of it, and a 0 would read as a bad score.
        each = [share((of == k) & (support[k] > 0)) for k in range(len(names))]
        for suffix, values in zip(("", "_low", "_high"), np.array(each).T, strict=True):
            table[name + suffix] = values
    frame = pd.DataFrame(table, index=pd.Index(names, name="class"))
    return Report(
        accuracy=wilson_interval(hit, groups=own, level=level),
        balanced_accuracy=wilson_interval(hit, truth, groups=own, level=level),
        log_loss=loss._replace(low=max(loss.low, 0.0)),
        calibration_error=Estimate(error, *ends.tolist()),
        per_class=frame,
        confusion=np.bincount(truth * len(names) + guess, minlength=len(names) ** 2).reshape(len(names), -1),
        classes=names,
        labels=truth,
        probabilities=chances,
        groups=own,
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


def balanced_weights(labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Return weights (C,) with which every class that occurs counts alike: 1 on average over the images.

    They are scikit-learn's "balanced"; a class that does not occur has weight 0.

    Args:
        labels: class of each image, (n,), integers 0 to C - 1.
        num_classes: how many there are, C.

    Example:
        >>> from tlutils import metrics
        >>> metrics.balanced_weights([0, 0, 0, 1], 3).round(2).tolist()
        [0.67, 2.0, 0.0]
    """
    support = np.bincount(np.asarray(labels), minlength=num_classes)
    weights = support.sum() / (np.count_nonzero(support) * np.maximum(support, 1))
    return np.where(support > 0, weights, 0.0)


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


def log_losses(labels: ArrayLike, proba: ArrayLike) -> np.ndarray:
    """Return the log loss of each image, (n,): the negative log probability of its true class, in nats.

    A probability below 2.2e-16 counts as that, as in scikit-learn: a wrong answer that is certain costs 36
    nats and not infinitely many, and the mean still tells of the other images.

    Args:
        labels: true class of each image, (n,), integers 0 to C - 1.
        proba: class probabilities, (n, C).

    Example:
        >>> from tlutils import metrics
        >>> metrics.log_losses([0, 1, 1], [[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]]).round(2).tolist()
        [0.11, 0.69, 36.04]
    """
    chances, least = np.asarray(proba, dtype=np.float64), np.finfo(np.float64).eps
    return -np.log(np.clip(chances[np.arange(len(chances)), np.asarray(labels)], least, 1 - least))


def compare(
    first: Report,
    second: Report,
    *,
    metric: str = "balanced_accuracy",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return a metric of the first report minus that of the second, with an interval over the images.

    Accuracy and balanced accuracy follow `intervals.compare_classifiers`, which says what varies: the images
    and not the training. So does the log loss, a mean over images (`intervals.macro_average`). The
    calibration error is no such mean: its interval is the percentiles of a bootstrap in which both are
    resampled alike.

    Args:
        first: report of one classifier.
        second: report of another on the same images, in the same order.
        metric: "accuracy", "balanced_accuracy", "log_loss" or "calibration_error".
        resamples: number of bootstrap resamples, of the calibration error.
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
        accuracy +0.500 [+0.338, +0.662], higher beyond noise
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    same = all(np.array_equal(getattr(first, k), getattr(second, k)) for k in ("labels", "groups"))
    if not same or first.classes != second.classes:
        raise LearnerError(
            f"These reports are of different images ({first.n} and {second.n}), groups or classes. "
            "A paired difference needs both classifiers judged on the same images, in the same order."
        )
    if metric == "calibration_error":
        value = first.calibration_error.value - second.calibration_error.value
        one, two = (_calibration_error(_resample(r._columns, resamples, seed)) for r in (first, second))
        low, high = np.quantile(one - two, [(1 - level) / 2, (1 + level) / 2]).tolist()
        return Difference(metric, value, low, high, level)
    if metric == "log_loss":
        one, two = (log_losses(r.labels, r.probabilities) for r in (first, second))
        found = macro_average(one - two, np.zeros(first.n), groups=first.groups).interval(level)
        return Difference(metric, found.value, found.low, found.high, level)
    one, two = (r.probabilities.argmax(axis=1) == r.labels for r in (first, second))
    kinds = first.labels if metric == "balanced_accuracy" else None
    return compare_classifiers(one, two, kinds, groups=first.groups, metric=metric, level=level)


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
            "These are not probabilities: expected rows of numbers from 0 to 1 that sum to 1. "
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


def _sum_by_group(chances: np.ndarray, hit: np.ndarray, group: np.ndarray) -> sparse.csr_array:
    """Return (groups, 1 + bins): what each group adds, so that a resample is one weighted sum.

    Columns: images; confidence - hit, by bin.
    """
    confidence = chances.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    values = np.concatenate([np.ones(len(hit)), confidence - hit])
    cells = (values, (np.tile(group, 2), np.concatenate([np.zeros_like(bins), 1 + bins])))
    return sparse.csr_array(cells, shape=(group.max() + 1, 1 + BINS))


def _resample(columns: sparse.csr_array | None, resamples: int, seed: int) -> np.ndarray:
    """Return (resamples, columns): the column sums of each bootstrap resample of the groups."""
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


def _calibration_error(sums: np.ndarray) -> np.ndarray:
    """Return the calibration error of each resample, (B,), from its column sums."""
    return np.abs(sums[:, 1:]).sum(axis=1) / sums[:, 0]
