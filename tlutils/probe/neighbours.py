"""Nearest neighbours by cosine similarity: no training at all, so what they know the features knew before."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .linear import ClassWeights, Scale, row_weights, scale_of

BLOCK = 1024  # rows compared at once


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The kept rows (n, D), standardised and of length 1, their classes, and how many of them vote."""

    bank: np.ndarray
    votes: np.ndarray  # (n, C), what each row adds to its class
    prior: np.ndarray
    scale: Scale
    k: int

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return (n, C): shares of the votes of the k nearest, with one more vote spread over all classes."""
        return next(self.each(x, [self.k]))

    def each(self, x: np.ndarray, ks: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield the probabilities for each number of neighbours; the neighbours are looked for once."""
        ks = list(ks)
        unit = _unit(self.scale(x))
        most = max(ks)
        nearest = np.concatenate(
            [
                np.argsort(-(unit[i : i + BLOCK] @ self.bank.T), axis=1, kind="stable")[:, :most]
                for i in range(0, len(unit), BLOCK)
            ]
        )
        cast = self.votes[nearest].cumsum(axis=1)
        for k in ks:
            votes = cast[:, k - 1] + self.prior
            yield votes / votes.sum(axis=1, keepdims=True)


def keep_rows(x: np.ndarray, y: np.ndarray, count: int, k: int, *, class_weights: ClassWeights) -> Neighbours:
    """Return the classifier that keeps the rows of x (n, D); "balanced" gives rare classes heavier votes."""
    scale = scale_of(x)
    weights = row_weights(y, count, class_weights) * len(y)
    votes = np.eye(count)[y] * weights[:, None]
    return Neighbours(_unit(scale(x)), votes, np.full(count, 1 / count), scale, k)


def _unit(z: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(length > 0, length, 1)
