"""Which images look unlike the training images: out-of-distribution detection by nearest neighbours."""

import json
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open

from . import runtime
from .errors import LearnerError
from .features import check_rows, groups_of
from .intervals import Estimate, group_codes

N_NEIGHBORS = 5
"""Which neighbour counts: near enough for a class of fifteen images."""

BLOCK = 1024  # rows that are compared at once
KEY, VERSION = "tlutils.novelty", 1  # of the file's metadata


@dataclass(frozen=True)
class Comparison:
    """How many images of a set look unlike the training images, and how many would by chance.

    Attributes:
        images: How many were compared: one of each group.
        unlike: How many of them look unlike the training images.
        expected: The share expected by chance if they were like the training images, with its 95 % range.
        p_value: Chance of as many or more in a set of the same kind; it allows for the threshold having been
            set by a finite number of images.
    """

    images: int
    unlike: int
    expected: Estimate
    p_value: float

    @property
    def share(self) -> float:
        """Share of the images that look unlike the training images, from 0 to 1."""
        return self.unlike / self.images

    @property
    def shifted(self) -> bool:
        """Whether more images look unlike the training images than chance explains (p ≤ 0.05)."""
        return self.p_value <= 0.05

    def __str__(self) -> str:
        low, high = (f"{end:.0%}" for end in self.expected[1:])
        verdict = "more than chance explains" if self.shifted else "no more than chance explains"
        return (
            f"{self.unlike} of {self.images} images ({self.share:.0%}) look unlike the training images: "
            f"{verdict} ({low} to {high}; p = {self.p_value:.2g})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """Says which embeddings lie farther from the training images than nearly all held-out images do.

    The score of an image is the distance from its embedding to the k-th nearest of the training images', all
    scaled to length 1, so from 0 to 2. Sun et al. 2022, arXiv:2204.06507.

    Attributes:
        bank: Embeddings of the training images, (N, D), float32, each of length 1.
        n_neighbors: Which neighbour counts.
        held_out_scores: Scores of held-out images, one of each group, ascending.
        false_alarm_rate: Share of images like the training images that may be called unlike by mistake.
    """

    bank: np.ndarray
    n_neighbors: int
    held_out_scores: np.ndarray
    false_alarm_rate: float

    @property
    def threshold(self) -> float:
        """The score above which an image is unlike; infinite where too few images were held out to say."""
        allowed = self._allowed
        return float(self.held_out_scores[-allowed]) if allowed else float("inf")

    @property
    def _allowed(self) -> int:
        """How many of the held-out images, and the new one, may have a score as large as an unlike one's."""
        return floor(self.false_alarm_rate * (len(self.held_out_scores) + 1) + 1e-9)

    def scores(self, x: ArrayLike) -> np.ndarray:
        """Return how far each image is from the training images, (n,), 0 to 2.

        Args:
            x: Embeddings (n, D), from the same stage of the same model.
        """
        rows = _unit(x)
        if rows.shape[1] != self.bank.shape[1]:
            raise LearnerError(
                f"Embeddings of {rows.shape[1]} numbers arrived; those of the training images have "
                f"{self.bank.shape[1]}. Take both from one stage of one model."
            )
        return _distances(rows, self.bank, self.n_neighbors)

    def p_values(self, x: ArrayLike) -> np.ndarray:
        """Return for each image the share of held-out ones at least as far out, the image counted in, (n,).

        The conformal p-value of Vovk, Gammerman and Shafer 2005: of images of the same kind, at most a share
        q has one of q or less.

        Args:
            x: Embeddings (n, D).
        """
        nearer = np.searchsorted(self.held_out_scores, self.scores(x), side="left")
        return (len(self.held_out_scores) - nearer + 1) / (len(self.held_out_scores) + 1)

    def unlike(self, x: ArrayLike) -> np.ndarray:
        """Return which images look unlike the training images, (n,) of bool.

        Args:
            x: Embeddings (n, D).
        """
        return self.p_values(x) <= self.false_alarm_rate + 1e-9

    def compare(self, x: ArrayLike, *, groups: Any = None, seed: int = 0) -> Comparison:
        """Return how many images of a set look unlike the training images, and how many would by chance.

        Args:
            x: Embeddings (n, D) of the set, such as a folder of images on which the model will be used.
            groups: A number or name (n,) for each image: of one group, such as the frames of a video, one
                image counts, since the others say the same again. Features from a `FeatureStore` know theirs.
            seed: What that image is drawn by.

        Raises:
            LearnerError: For groups that do not fit.
        """
        from scipy.stats import betabinom

        far = self.unlike(x)
        far = far[_one_per_group(groups_of(x, groups), len(far), seed)]
        count, allowed = int(far.sum()), self._allowed
        if not allowed:  # nothing can be called unlike, by chance or otherwise
            return Comparison(len(far), count, Estimate(0.0, 0.0, 0.0), 1.0)
        # The chance that a new image lies above an order statistic has a beta distribution.
        chance = betabinom(len(far), allowed, len(self.held_out_scores) + 1 - allowed)
        low, high = chance.ppf([0.025, 0.975]) / len(far)
        expected = Estimate(allowed / (len(self.held_out_scores) + 1), float(low), float(high))
        return Comparison(len(far), count, expected, float(chance.pmf(range(count, len(far) + 1)).sum()))

    def save(self, path: str | Path) -> Path:
        """Write the detector to a safetensors file and return its path.

        Args:
            path: The file, which is replaced if it exists.

        Raises:
            LearnerError: When the disk is full, or the folder cannot be written.
        """
        path = runtime.user_path(path)
        about = {"version": VERSION, "k": self.n_neighbors, "level": self.false_alarm_rate}
        tensors = {"bank": self.bank, "held_out": self.held_out_scores}
        with runtime.atomic_write(path) as temporary:
            safetensors.numpy.save_file(tensors, temporary, metadata={KEY: json.dumps(about)})
        return path

    def __repr__(self) -> str:
        return (
            f"Detector({len(self.bank)} training images, neighbour {self.n_neighbors}, "
            f"{len(self.held_out_scores)} held out, "
            f"threshold {self.threshold:.3f} at {self.false_alarm_rate:.0%})"
        )


def fit_detector(
    x: ArrayLike,
    *,
    groups: Any = None,
    held_out: ArrayLike | None = None,
    held_out_groups: Any = None,
    n_neighbors: int = N_NEIGHBORS,
    false_alarm_rate: float = 0.05,
    seed: int = 0,
) -> Detector:
    """Return the detector of images unlike the training images.

    Its threshold is the quantile of the scores of held-out images that makes a false alarm of a share
    `false_alarm_rate` of images like these. Where none are held out, each training image is held out in turn,
    with all of its group; that is right for a network that was not trained on these images, and too strict
    for one that was.

    Cost: one matrix product; n images against N take n · N · D multiply-adds. Known failure: it sees what the
    embedding sees. A change that moves embeddings little, such as new classes that look like the old ones, is
    found seldom, and images that are wrongly classified may well look like the training images.

    Args:
        x: Embeddings of the training images, (N, D), such as `features.extract(..., at="pool")["pool"]`.
        groups: A number or name (N,) for each image; features from a `FeatureStore` know theirs. Images of
            one group are never held out against each other, and one of them counts for the threshold.
        held_out: Embeddings (M, D) of images that the network has not learned from.
        held_out_groups: The same as `groups`, of these.
        n_neighbors: Which neighbour's distance counts, 1 or more.
        false_alarm_rate: Share of images like the training images that may be called unlike by mistake,
            between 0 and 1.
        seed: What the image that counts for a group is drawn by.

    Raises:
        LearnerError: For shapes that do not fit, values that are not finite, and too few images.

    Example:
        >>> import numpy as np
        >>> from tlutils import novelty
        >>> draw = np.random.default_rng(0)
        >>> detector = novelty.fit_detector(draw.normal(size=(200, 8)) + 3)
        >>> detector.unlike([[3.0] * 8, [-3.0] * 8]).tolist()
        [False, True]
        >>> print(detector.compare(draw.normal(size=(40, 8)) - 3))
        40 of 40 images (100%) look unlike the training images: more than chance explains (0% to 12%; p = ...)
    """
    rows = _unit(x)
    own = group_codes(groups_of(x, groups), len(rows))
    if n_neighbors < 1 or not 0 < false_alarm_rate < 1:
        raise LearnerError(
            f"n_neighbors is {n_neighbors}, false_alarm_rate {false_alarm_rate}. Expected 1 or more, and a "
            "share between 0 and 1."
        )
    largest = int(np.bincount(own).max())
    most = len(rows) if held_out is not None else len(rows) - largest
    if most < 1:
        raise LearnerError(
            f"{len(rows)} training images arrived, in {own.max() + 1} group(s). Expected two groups or more: "
            "an image is compared with those of other groups."
        )
    k = min(n_neighbors, most)
    if held_out is None:
        scores, theirs = _distances(rows, rows, k, own), own
    else:
        others = _unit(held_out)
        if others.shape[1] != rows.shape[1]:
            raise LearnerError(
                f"Embeddings of training images have {rows.shape[1]} numbers and held-out "
                f"ones {others.shape[1]}. Take both from one stage of one model."
            )
        known = groups_of(held_out, held_out_groups)
        scores, theirs = _distances(others, rows, k), group_codes(known, len(others))
    return Detector(rows, k, np.sort(scores[_one_per_group(theirs, len(theirs), seed)]), false_alarm_rate)


def load_detector(path: str | Path) -> Detector:
    """Return the detector that `Detector.save` wrote.

    Args:
        path: The file.

    Raises:
        LearnerError: The file is not there, is damaged, or something else wrote it.

    Example:
        >>> import numpy as np
        >>> from tlutils import novelty
        >>> path = novelty.fit_detector(np.eye(4)).save("embeddings.safetensors")
        >>> novelty.load_detector(path)
        Detector(4 training images, neighbour 3, 4 held out, threshold inf at 5%)
    """
    path = runtime.user_path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})[KEY])
            bank, held_out = file.get_tensor("bank"), file.get_tensor("held_out")
        k, level = int(about["k"]), float(about["level"])
        fits = about["version"] == VERSION and bank.ndim == 2 and held_out.ndim == 1 and 1 <= k <= len(bank)
        if not fits or not np.isfinite(bank).all() or not np.isfinite(held_out).all() or not 0 < level < 1:
            raise ValueError("its values do not fit each other")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LearnerError(
            f"{path} cannot be read as embeddings of training images ({error}). Train again, or use the "
            "model's file alone: without them, nothing says which images look unlike the training images."
        ) from error
    return Detector(bank, k, np.sort(held_out), level)


def _unit(x: Any) -> np.ndarray:
    """Return embeddings as float32 (n, D), each scaled to length 1; one of zeros stays."""
    rows = check_rows(x).astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _distances(rows: np.ndarray, bank: np.ndarray, k: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the distance (n,) from each row to the k-th nearest of the bank, outside its own group."""
    found = []
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        squares = np.maximum(2 - 2 * (rows[block] @ bank.T), 0)
        if groups is not None:
            squares[groups[block, None] == groups] = np.inf
        found.append(np.sqrt(np.partition(squares, k - 1, axis=1)[:, k - 1]))
    return np.concatenate(found)


def _one_per_group(groups: Any, count: int, seed: int) -> np.ndarray:
    """Return the position of one image of each group, drawn by `seed`: these are independent.

    Dunn, Wasserman and Ramdas 2022, arXiv:1809.07441, on conformal inference with such draws.
    """
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[np.unique(group_codes(groups, count)[order], return_index=True)[1]])
