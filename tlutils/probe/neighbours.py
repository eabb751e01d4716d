"""Nearest neighbours by cosine similarity: no training at all, so what they know the features knew before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .linear import ClassWeights, Scale, fit_scale, row_weights


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The kept rows (n, D), standardised, what each adds to the votes for its class, and how many vote."""

    bank: np.ndarray
    votes: np.ndarray  # (n, C)
    scale: Scale
    k: int

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return (n, C): shares of the votes of the k nearest, with one more vote spread over all classes."""
        return next(self.predict_each(x, [self.k]))

    def predict_each(self, x: np.ndarray, ks: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the probabilities for each number of neighbours; the neighbours are looked for once.

        Of rows that are equally near, the first comes first. scikit-learn's NearestNeighbors takes any of
        them, so that results would depend on its number of threads.
        """
        from sklearn.metrics import pairwise_distances_chunked

        ranked = pairwise_distances_chunked(
            self.scale(x),
            self.bank,
            metric="cosine",
            reduce_func=lambda distances, _: distances.argsort(axis=1, kind="stable")[:, : max(ks)],
        )
        cast = self.votes[np.concatenate(list(ranked))].cumsum(axis=1)
        for k in ks:
            votes = cast[:, k - 1] + 1 / self.votes.shape[1]
            yield votes / votes.sum(axis=1, keepdims=True)


def fit_neighbours(
    x: np.ndarray, y: np.ndarray, count: int, k: int, *, floor: float, class_weight: ClassWeights
) -> Neighbours:
    """Return the classifier that keeps the rows of x (n, D); "balanced" gives rare classes heavier votes."""
    scale = fit_scale(x, floor)
    votes = np.eye(count)[y] * (row_weights(y, count, class_weight) * len(y))[:, None]
    return Neighbours(scale(x), votes, scale, k)
