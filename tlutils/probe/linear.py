"""Multinomial logistic regression: one objective, minimised by a solver or, as in lectures, by SGD.

With rows z standardised, weights w (D, C), bias b (C,), and row weights s that sum to 1, the objective is

    sum_i s_i * cross_entropy(z_i w + b, y_i)  +  penalty / 2 * ||w||^2

which is scikit-learn's LogisticRegression with C = 1 / (penalty * n) where s_i = 1 / n. The bias is free.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from torch import nn
from torch.nn.utils import skip_init

from .. import runtime

TOLERANCE = 1e-4  # on the largest gradient, in coordinates in which the curvature is near 1
FINAL_TOLERANCE = 1e-7
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
    """Takes features to mean 0 and standard deviation 1, and those that never vary to 0."""

    mean: np.ndarray
    factor: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) * self.factor


def fit_scale(x: np.ndarray) -> Scale:
    """Return the scale of the rows of x (n, D), each feature in its own unit, as in scikit-learn.

    A feature that is the same in every row, but for the last digits that its numbers can hold, becomes 0.
    """
    mean, std = x.mean(axis=0), x.std(axis=0)
    with np.errstate(over="ignore"):
        single = (x.astype(np.float32) == x).all(axis=0)  # features mostly come as float32
    least = np.where(single, 4 * np.finfo(np.float32).eps, 1e-10) * np.abs(x).max(axis=0)
    varies = std > least
    return Scale(mean, np.where(varies, 1 / np.where(varies, std, 1.0), 0.0))


def row_weights(y: np.ndarray, count: int, class_weights: ClassWeights) -> np.ndarray:
    """Return weights (n,) that sum to 1: the same for every row (None), or in sum for every class."""
    if class_weights is None:
        return np.full(len(y), 1 / len(y))
    support = np.bincount(y, minlength=count)
    return 1 / (support[y] * np.count_nonzero(support))


def fit_logistic(
    x: np.ndarray,
    y: np.ndarray,
    count: int,
    penalties: Iterable[float],
    *,
    class_weights: ClassWeights,
    tolerance: float,
) -> Iterator[Linear]:
    """Yield the optimum for each penalty, each search starting at the optimum before.

    The features are first turned to the principal axes of these rows, and those without spread are left out.
    This changes no solution, since the penalty looks the same from all sides and no weight pays off where
    nothing varies; with fewer rows than features it makes the problem as small as the rows are few. Then
    each axis is measured in units of its curvature, which takes the solver to its end in tens of steps.
    """
    scale = fit_scale(x)
    turned, axes = _principal(scale(x))
    rows, target = row_weights(y, count, class_weights), np.eye(count)[y]
    weight, bias = np.zeros((turned.shape[1], count)), np.zeros(count)
    for penalty in penalties:
        chances = softmax(turned @ weight + bias, axis=1)
        spread = (rows * (chances * (1 - chances)).mean(axis=1)) @ turned**2
        unit = 1 / np.sqrt(spread + penalty)[:, None]
        inputs = turned * unit[:, 0]

        def objective(
            flat: np.ndarray, inputs: np.ndarray = inputs, pull: np.ndarray = penalty * unit**2
        ) -> tuple[float, np.ndarray]:
            w, b = flat[:-count].reshape(-1, count), flat[-count:]
            logs = log_softmax(inputs @ w + b, axis=1)
            value = -rows @ (logs * target).sum(axis=1) + 0.5 * float((pull * w * w).sum())
            error = rows[:, None] * (np.exp(logs) - target)
            return value, np.concatenate([(inputs.T @ error + pull * w).ravel(), error.sum(axis=0)])

        start = np.concatenate([(weight / unit).ravel(), bias])
        options = {"gtol": tolerance, "ftol": 0.0, "maxiter": 5000, "maxfun": 10_000}
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
        weight, bias = found[:-count].reshape(-1, count) * unit, found[-count:]
        yield _raw(axes @ weight, bias, scale)


def fit_sgd(
    x: np.ndarray,
    y: np.ndarray,
    count: int,
    penalty: float,
    *,
    class_weights: ClassWeights,
    seed: int,
    epochs: int,
    batch: int,
) -> tuple[Linear, list[float]]:
    """Return the softmax head of the lectures, trained by SGD on this objective, and its losses.

    Momentum 0.9 and a cosine schedule from the largest step that is stable on the steepest axis.
    """
    scale = fit_scale(x)
    inputs = torch.from_numpy(scale(x))
    labels, rows = torch.from_numpy(y), torch.from_numpy(row_weights(y, count, class_weights) * len(y))
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


def _principal(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in the coordinates of their principal axes (n, r), and the axes (D, r)."""
    n, d = z.shape
    tall = n >= d
    values, vectors = np.linalg.eigh(z.T @ z if tall else z @ z.T)
    kept = values > max(n, d) * np.finfo(float).eps * max(values[-1], 1e-300)
    values, vectors = values[kept], vectors[:, kept]
    if tall:
        return z @ vectors, vectors
    return vectors * np.sqrt(values), z.T @ (vectors / np.sqrt(values))


def _raw(weight: np.ndarray, bias: np.ndarray, scale: Scale) -> Linear:
    """Return the same classifier for features as they were before standardising."""
    raw = weight * scale.factor[:, None]
    return Linear(raw, bias - scale.mean @ raw)
