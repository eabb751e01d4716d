"""Fit a probe on features, its one setting chosen by cross-validation on the same rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from threadpoolctl import ThreadpoolController
from torch import nn
from torch.nn.utils import skip_init

from .. import metrics
from ..errors import LearnerError, unknown
from ..features import check_rows, groups_of
from ..intervals import group_codes
from .linear import (
    FINAL_TOLERANCE,
    TOLERANCE,
    ClassWeights,
    Linear,
    find_floors,
    fit_logistic,
    fit_sgd,
    row_weights,
)
from .neighbours import Neighbours, fit_neighbours

COLUMNS = ["setting", "log_loss", "balanced_accuracy", "chosen"]
PENALTIES = tuple(float(p) for p in np.logspace(2, -3, 11))
"""From strong to weak, for standardised features; see `linear` for the objective."""

N_NEIGHBORS = (1, 3, 5, 10, 20, 50)
Kind = Literal["logistic", "knn", "sgd"]


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """A fitted classifier of features: `predict` gives classes, `predict_proba` probabilities (n, C).

    Attributes:
        kind: "logistic", "knn" or "sgd".
        classes: The names of the classes.
        setting: The penalty (logistic, sgd) or the number of neighbours (knn) that cross-validation chose.
        cv: The table of cross-validation: one row per setting, with the log loss (rows weighted by
            `class_weight`, which those of a `metrics.Report` are not) and balanced accuracy on rows that were
            held out; empty when nothing was to choose.
        model: The fitted parameters.
        losses: The training loss after each epoch (sgd only).
        class_weight: As in `fit_probe`.
    """

    kind: str
    classes: list[str]
    setting: float
    cv: pd.DataFrame
    model: Linear | Neighbours
    losses: list[float] = field(default_factory=list)
    class_weight: ClassWeights = "balanced"

    def predict_proba(self, x: Any) -> np.ndarray:
        """Return class probabilities (n, C).

        Args:
            x: Features (n, D), an array or tensor.
        """
        rows, width = check_rows(x), self._width()
        if rows.shape[1] != width:
            raise LearnerError(
                f"This probe was fitted on {width} features per image, and {rows.shape[1]} arrived."
            )
        return self.model.predict_proba(rows)

    def predict(self, x: Any) -> np.ndarray:
        """Return class indices (n,).

        Args:
            x: Features (n, D), an array or tensor.
        """
        return self.predict_proba(x).argmax(axis=1)

    def report(self, x: Any, y: Any, *, groups: ArrayLike | None = None, seed: int = 0) -> metrics.Report:
        """Return the `metrics.Report` on labelled features.

        Args:
            x: Features (n, D).
            y: Labels (n,), integers from 0.
            groups: As in `metrics.report`; features from a `FeatureStore` know theirs.
            seed: What the bootstrap is drawn from.
        """
        chances, known = self.predict_proba(x), groups_of(x, groups)
        return metrics.report(_labels(y), chances, classes=self.classes, groups=known, seed=seed)

    def head(self) -> nn.Linear:
        """Return the probe as a layer for raw features, ready to be a model's head.

        Raises:
            LearnerError: For neighbours, which have no weights.
        """
        if not isinstance(self.model, Linear):
            raise LearnerError("Neighbours have no weights. A head comes from kind='logistic' or kind='sgd'.")
        layer = skip_init(nn.Linear, *self.model.weight.shape)  # draws no random numbers
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.model.weight.T.copy()))
            layer.bias.copy_(torch.from_numpy(self.model.bias))
        return layer

    def _width(self) -> int:
        return self.model.weight.shape[0] if isinstance(self.model, Linear) else self.model.bank.shape[1]

    def __repr__(self) -> str:
        name = "k" if self.kind == "knn" else "penalty"
        chosen = f"{name} {self.setting:g}" + (" by cross-validation" if len(self.cv) else "")
        return f"Probe({self.kind}, {chosen}, {self._width()} features, {len(self.classes)} classes)"


def fit_probe(
    x: Any,
    y: Any,
    *,
    classes: Sequence[str] | None = None,
    kind: Kind = "logistic",
    penalties: Sequence[float] = PENALTIES,
    n_neighbors: Sequence[int] = N_NEIGHBORS,
    folds: int = 5,
    groups: Any = None,
    class_weight: ClassWeights = "balanced",
    epochs: int = 100,
    batch_size: int = 64,
    seed: int = 0,
) -> Probe:
    """Return the probe fitted on features and labels.

    "logistic" is multinomial logistic regression on standardised features, solved to its optimum; "knn" votes
    among the nearest rows by cosine; "sgd" trains the softmax head by SGD for `epochs`, on the same objective
    and with the penalty that the solver chose. The setting (a penalty, or a number of neighbours) is the one
    with the lowest log loss in cross-validation; a single setting is taken as it is. Cross-validation also
    chooses how features of tiny variance are scaled: to unit variance like the others, or kept small. Scaling
    and class weights come from the fitted rows alone.

    Args:
        x: Features (n, D), an array or tensor.
        y: Labels (n,), integers from 0.
        classes: The names of the classes; their numbers unless given.
        kind: "logistic", "knn" or "sgd".
        penalties: L2 penalties to choose from (logistic, sgd). Where every row counts alike, scikit-learn's C
            is 1 / (n · penalty), for its loss is a sum over the n rows and this one a mean.
        n_neighbors: Numbers of neighbours to choose from (knn).
        folds: Parts of the cross-validation, stratified and drawn by `seed`. A class with fewer groups than
            folds is held out as often as it has groups, a single one never.
        groups: A number or name (n,) for each row. Rows of one group, such as views or copies of one picture,
            are held out together. Features from a `FeatureStore` know their groups; otherwise every row
            stands for itself.
        class_weight: With "balanced" every class counts alike, however many rows it has; with None every row
            does. `train.Recipe` has None unless told otherwise: give both the same to compare them.
        epochs: Passes over the rows (sgd).
        batch_size: Rows per step (sgd).
        seed: What folds, and the order of rows (sgd), are drawn from.

    Raises:
        LearnerError: For shapes that differ, NaN, one class, a class without rows, and groups that do not
            fit.

    Example:
        >>> import numpy as np
        >>> from tlutils import probe
        >>> y = np.arange(60) % 3
        >>> x = np.eye(3)[y] + 0.1 * np.random.default_rng(0).normal(size=(60, 3))
        >>> fitted = probe.fit_probe(x, y, penalties=[0.01])
        >>> fitted
        Probe(logistic, penalty 0.01, 3 features, 3 classes)
        >>> fitted.predict(np.eye(3))
        array([0, 1, 2])
    """
    if kind not in get_args(Kind):
        raise unknown("kind of probe", kind, get_args(Kind))
    features, labels = check_rows(x), _labels(y)
    names = _checked(features, labels, None if classes is None else [str(c) for c in classes])
    pictures = group_codes(groups_of(x, groups), len(labels))
    settings = _settings(n_neighbors if kind == "knn" else penalties, kind, len(labels), folds)
    count = len(names)

    def path(floor: float, rows: np.ndarray, held: np.ndarray) -> Iterator[np.ndarray]:
        train = features[rows], labels[rows], count
        shared: dict[str, Any] = {"floor": floor, "class_weight": class_weight}
        if kind == "knn":
            bank = fit_neighbours(*train, 1, **shared)
            yield from bank.predict_each(features[held], [min(int(k), len(rows)) for k in settings])
        else:
            for linear in fit_logistic(*train, settings, **shared, tolerance=TOLERANCE):
                yield linear.predict_proba(features[held])

    # These matrices are small: threads that wait for each other cost more than they bring.
    with _blas().limit(limits=1):
        floors, fold = find_floors(features), assign_folds(labels, pictures, folds, seed)
        tables = []
        if len(settings) * len(floors) > 1 and fold.max() >= 0:
            tables = [
                _cross_validated(partial(path, f), labels, settings, fold, class_weight) for f in floors
            ]
        chosen = int(np.argmin([table["log_loss"].min() for table in tables])) if tables else 0
        cv = tables[chosen] if tables and len(settings) > 1 else pd.DataFrame(columns=COLUMNS)
        best = cv.loc[cv["chosen"], "setting"].item() if len(cv) else settings[len(settings) // 2]
        cv = cv.rename(columns={"setting": "k" if kind == "knn" else "penalty"})
        train = features, labels, count
        shared: dict[str, Any] = {"floor": floors[chosen], "class_weight": class_weight}
        if kind == "knn":
            bank = fit_neighbours(*train, int(best), **shared)
            return Probe(kind, names, best, cv, bank, class_weight=class_weight)
        if kind == "sgd":
            model, losses = fit_sgd(*train, best, **shared, seed=seed, epochs=epochs, batch=batch_size)
            return Probe(kind, names, best, cv, model, losses, class_weight)
        (model,) = fit_logistic(*train, [best], **shared, tolerance=FINAL_TOLERANCE)
        return Probe(kind, names, best, cv, model, class_weight=class_weight)


@cache
def _blas() -> ThreadpoolController:
    """Return what sets the threads of the libraries for matrices; to find these takes a while."""
    import sklearn.linear_model  # noqa: F401 - which loads the last of them

    return ThreadpoolController().select(user_api="blas")


def _cross_validated(
    path: Callable[[np.ndarray, np.ndarray], Iterator[np.ndarray]],
    labels: np.ndarray,
    settings: list[float],
    fold: np.ndarray,
    class_weight: ClassWeights,
) -> pd.DataFrame:
    """Return the table of settings, scored on all held-out rows together."""
    judged = np.flatnonzero(fold >= 0)
    truth, count = labels[judged], labels.max() + 1
    chances = np.empty((len(settings), len(labels), count))
    for number in np.unique(fold[judged]):
        held = np.flatnonzero(fold == number)
        for i, proba in enumerate(path(np.flatnonzero(fold != number), held)):
            chances[i, held] = proba
    chances = chances[:, judged]
    weights = row_weights(truth, count, class_weight)
    rows = [
        (
            setting,
            np.average(metrics.log_losses(truth, proba), weights=weights),
            metrics.balanced_accuracy(truth, proba.argmax(axis=1)),
        )
        for setting, proba in zip(settings, chances, strict=True)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS[:-1])
    return table.assign(chosen=table.index == table["log_loss"].argmin())


def assign_folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold (n,) that each row is held out in, each group in one; classes spread evenly.

    -1 means never held out: the only group of its class.

    Args:
        labels: Class of each row, (n,), integers from 0.
        groups: Number of the group of each row, (n,), from 0.
        folds: How many parts, 2 or more.
        seed: What the folds are drawn from.

    Example:
        >>> import numpy as np
        >>> from tlutils import probe
        >>> fold = probe.assign_folds(np.array([0, 0, 0, 1, 1, 2]), np.arange(6), 3, 0)
        >>> sorted(fold[:3].tolist()), int(fold[5])
        ([0, 1, 2], -1)
    """
    fold, rng, turn = np.full(groups.max() + 1, -1), np.random.default_rng(seed), 0
    single = {own[0] for k in np.unique(labels) if len(own := np.unique(groups[labels == k])) == 1}
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        left = [g for g in dict.fromkeys(groups[rows].tolist()) if fold[g] < 0 and g not in single]
        fold[left] = (turn + np.arange(len(left))) % folds
        turn += len(left)
    return fold[groups]


def _settings(values: Sequence[float], kind: str, n: int, folds: int) -> list[float]:
    name = "n_neighbors" if kind == "knn" else "penalties"
    settings = sorted({float(v) for v in values}, reverse=kind != "knn")
    if not settings or settings[0] <= 0 or settings[-1] <= 0 or not np.isfinite(settings).all() or folds < 2:
        raise LearnerError(
            f"{name} is {list(values)} and folds {folds}. Expected positive numbers, and at least 2 folds; "
            "a penalty near 0, such as 1e-6, leaves the weights all but free."
        )
    if kind != "knn":
        return settings
    return [k for k in settings if k <= max(1, n - -(-n // folds))] or [1.0]


def _labels(y: Any) -> np.ndarray:
    array = np.asarray(y.detach().cpu() if isinstance(y, torch.Tensor) else y)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise LearnerError(
            f"Labels of shape {array.shape}, {array.dtype}, arrived. Expected class indices (n,), integers."
        )
    return array.astype(np.int64)


def _checked(features: np.ndarray, labels: np.ndarray, names: list[str] | None) -> list[str]:
    """Return the class names after seeing that features, labels and classes belong together."""
    if len(features) != len(labels):
        raise LearnerError(
            f"{len(features)} rows of features and {len(labels)} labels arrived. Expected one per row."
        )
    names = [str(i) for i in range(labels.max() + 1)] if names is None else names
    if labels.min() < 0 or labels.max() >= len(names):
        raise LearnerError(
            f"Labels run from {labels.min()} to {labels.max()}; expected 0 to {len(names) - 1}."
        )
    support = np.bincount(labels, minlength=len(names))
    if np.count_nonzero(support) < 2 or len(names) < 2:
        raise LearnerError(
            "All rows are of one class, and a classifier needs two. Are the images sorted into classes?"
        )
    if not support.all():
        missing = ", ".join(repr(name) for name, n in zip(names, support, strict=True) if not n)
        raise LearnerError(
            f"These classes have no rows to learn from: {missing}. Add images of them, or take them out of "
            "`classes`."
        )
    return names
