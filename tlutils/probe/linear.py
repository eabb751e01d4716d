"""Multinomial logistic regression: one objective, minimised by scikit-learn or, as in lectures, by SGD.

With rows z standardised, weights w (D, C), bias b (C,), and row weights s that sum to 1, the objective is

    sum_i s_i * cross_entropy(z_i w + b, y_i)  +  penalty / 2 * ||w||^2

which is scikit-learn's LogisticRegression with C = 1 / penalty and sample weights s, or with
C = 1 / (n · penalty) and none where all n rows count alike. The bias is free.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import softmax
from torch import nn
from torch.nn.utils import skip_init

from .. import runtime
from ..metrics import balanced_weights

TOLERANCE = 3e-4  # on the largest gradient of the objective, when penalties are compared
FINAL_TOLERANCE = 1e-7
FLOOR = 0.03  # of the median standard deviation
AXES = 40  # where a search of some hundred steps is quicker by principal axes, measured with 2 to 100 classes
ABSENT = -1e3  # the bias of a class without rows: probability 0
ClassWeights = Literal["balanced"] | None


@dataclass(frozen=True, eq=False)
class Linear:
    """Class probabilities softmax(x weight + bias) of raw features x; weight (D, C), bias (C,)."""

    weight: np.ndarray
    bias: np.ndarray

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return (n, C)."""
        return softmax(x @ self.weight + self.bias, axis=1)


@dataclass(frozen=True, eq=False)
class Scale:
    """Takes features to mean 0 and standard deviation 1, or less than 1 where a floor holds them down."""

    mean: np.ndarray
    factor: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) * self.factor


def fit_scale(x: np.ndarray, floor: float) -> Scale:
    """Return the scale of the rows of x (n, D): no standard deviation counts for less than `floor` medians.

    With 0 each feature is in its own unit, as in scikit-learn. A feature that is the same in every row, but
    for the last digits that its numbers can hold, becomes 0.
    """
    mean, std, varies = _spread(x)
    least = floor * np.median(std[varies]) if varies.any() else 0.0
    return Scale(mean, np.where(varies, 1 / np.where(varies, np.maximum(std, least), 1.0), 0.0))


def find_floors(x: np.ndarray) -> tuple[float, ...]:
    """Return the floors to choose from: `FLOOR` and none, or none where it would change nothing.

    Deep layers have features that are almost constant on a data set. In its own unit such a feature is a
    hundred times too large on the first new image that activates it. But features from two sources may
    simply have different units, and then no floor is right.
    """
    _, std, varies = _spread(x)
    small = varies.any() and std[varies].min() < FLOOR * np.median(std[varies])
    return (FLOOR, 0.0) if small else (0.0,)


def _spread(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each feature, and whether it varies at all."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    with np.errstate(over="ignore"):
        single = (x.astype(np.float32) == x).all(axis=0)  # features mostly come as float32
    least = np.where(single, 4 * np.finfo(np.float32).eps, 1e-10) * np.abs(x).max(axis=0)
    return mean, std, std > least


def row_weights(y: np.ndarray, count: int, class_weight: ClassWeights) -> np.ndarray:
    """Return weights (n,) that sum to 1: the same for every row (None), or in sum for every class."""
    if class_weight is None:
        return np.full(len(y), 1 / len(y))
    return balanced_weights(y, count)[y] / len(y)


def fit_logistic(
    x: np.ndarray,
    y: np.ndarray,
    count: int,
    penalties: Iterable[float],
    *,
    floor: float,
    class_weight: ClassWeights,
    tolerance: float,
) -> Iterator[Linear]:
    """Yield the optimum for each penalty, each search starting at the optimum before.

    With much fewer rows than features, the features are first turned to the principal axes of these rows,
    which are as many as the rows. This changes no solution, since the penalty looks the same from all sides
    and no weight pays off where nothing varies. A class without rows is never predicted.
    """
    import sklearn
    from sklearn.linear_model import LogisticRegression

    scale = fit_scale(x, floor)
    inputs, known = scale(x), np.unique(y)
    # Finding the axes takes rows² × features, and spares a step rows × vectors × (features - rows).
    pays = len(x) < AXES * (1 if len(known) == 2 else len(known)) * (1 - len(x) / x.shape[1])
    axes = _principal_axes(inputs) if pays and inputs.any() else None
    inputs = inputs if axes is None else inputs @ axes
    rows = row_weights(y, count, class_weight)
    solver = LogisticRegression(tol=tolerance, max_iter=10_000, warm_start=True)
    # scikit-learn has one vector v of weights for two classes: ours are -v / 2 and v / 2.
    share: Any = [-0.5, 0.5] if len(known) == 2 else 1
    for penalty in penalties:
        weight, bias = np.zeros((inputs.shape[1], count)), np.where(np.isin(range(count), known), 0, ABSENT)
        if len(known) > 1:
            solver.C = (2 if len(known) == 2 else 1) / penalty
            with (
                sklearn.config_context(assume_finite=True, skip_parameter_validation=True),  # checked before
                warnings.catch_warnings(),
            ):
                warnings.filterwarnings("ignore", message="The number of unique classes")  # many, of few rows
                solver.fit(inputs, y, sample_weight=rows)
            weight[:, known], bias[known] = solver.coef_.T * share, solver.intercept_ * share
        yield _raw(weight if axes is None else axes @ weight, bias, scale)


def fit_sgd(
    x: np.ndarray,
    y: np.ndarray,
    count: int,
    penalty: float,
    *,
    floor: float,
    class_weight: ClassWeights,
    seed: int,
    epochs: int,
    batch: int,
) -> tuple[Linear, list[float]]:
    """Return the softmax head of the lectures, trained by SGD on this objective, and its losses.

    Momentum 0.9 and a cosine schedule from the largest step that is stable on the steepest axis.
    """
    scale = fit_scale(x, floor)
    inputs = torch.from_numpy(scale(x))
    labels, rows = torch.from_numpy(y), torch.from_numpy(row_weights(y, count, class_weight) * len(y))
    # Power iteration on the covariance: the curvature of the softmax is at most half of it.
    axis = torch.ones(inputs.shape[1], dtype=inputs.dtype)
    for _ in range(20):
        axis = inputs.T @ (inputs @ axis)
        steepest = float(axis.norm()) / len(y)
        axis = axis / axis.norm().clamp(min=1e-300)
    head = skip_init(nn.Linear, inputs.shape[1], count, dtype=torch.float64)  # draws no random numbers
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    step = 0.1 / (steepest / 2 + penalty + 1)
    groups: list[dict[str, Any]] = [
        {"params": [head.weight], "weight_decay": penalty},
        {"params": [head.bias]},
    ]
    optimizer = torch.optim.SGD(groups, lr=step, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss_of = nn.CrossEntropyLoss(reduction="none")
    losses = []
    with runtime.seeded(seed), torch.enable_grad():
        for _ in range(epochs):
            for some in torch.randperm(len(y)).split(batch):
                optimizer.zero_grad()
                (rows[some] * loss_of(head(inputs[some]), labels[some])).mean().backward()
                optimizer.step()
            schedule.step()
            with torch.no_grad():
                pull = penalty / 2 * float((head.weight**2).sum())
                losses.append(float((rows * loss_of(head(inputs), labels)).mean()) + pull)
    return _raw(head.weight.detach().numpy().T, head.bias.detach().numpy(), scale), losses


def _principal_axes(z: np.ndarray) -> np.ndarray:
    """Return the axes (D, r) along which the rows z (n, D) vary, with fewer rows than features."""
    values, vectors = np.linalg.eigh(z @ z.T)
    kept = values > z.shape[1] * np.finfo(float).eps * max(values[-1], 1e-300)
    return z.T @ (vectors[:, kept] / np.sqrt(values[kept]))


def _raw(weight: np.ndarray, bias: np.ndarray, scale: Scale) -> Linear:
    """Return the same classifier for features as they were before standardising."""
    raw = weight * scale.factor[:, None]
    return Linear(raw, bias - scale.mean @ raw)
