"""Labels that a classifier contradicts which has not seen the image."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..features import check_rows, groups_of
from ..intervals import group_codes
from .fitting import assign_folds, fit_probe

COARSE_FOLDS = 3
COARSE_PENALTIES = (30.0, 3.0, 0.3, 0.03, 0.003)
"""For each of the probes that judge held-out rows; a probe that is fitted once has more of both."""


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label a classifier that had not seen it contradicts.

    Attributes:
        row: Which of the images it is.
        label: The class that it was given.
        suggested: The class that the classifier finds.
        probability: What the classifier gives that class, 0 to 1.
    """

    row: int
    label: int
    suggested: int
    probability: float


def cross_val_predict(
    x: Any,
    labels: np.ndarray,
    *,
    groups: Any = None,
    penalties: Sequence[float] = COARSE_PENALTIES,
    seed: int = 0,
    **settings: Any,
) -> np.ndarray:
    """Return class probabilities (N, C) of each row by a probe that has learned nothing from its fold.

    As scikit-learn's function of that name with `method="predict_proba"`. Each of the `COARSE_FOLDS` probes
    chooses its penalty on the rows that it learns from. NaN for a row that is never held out, and where the
    other folds lack a class.

    Args:
        x: Features (N, D).
        labels: (N,), the class of each row, integers 0 to C - 1.
        groups: As in `fit_probe`.
        penalties: What each probe chooses from.
        seed: What the folds are drawn from.
        **settings: Further ones of `fit_probe`, such as `class_weight`.

    Example:
        >>> import numpy as np
        >>> from tlutils import probe
        >>> y = np.arange(30) % 3
        >>> x = np.eye(3)[y] + 0.1 * np.random.default_rng(0).normal(size=(30, 3))
        >>> bool((probe.cross_val_predict(x, y).argmax(axis=1) == y).all())
        True
    """
    rows, own = check_rows(x), group_codes(groups_of(x, groups), len(labels))
    fold, classes = assign_folds(labels, own, COARSE_FOLDS, seed), np.unique(labels)
    chances = np.full((len(rows), len(classes)), np.nan)
    for number in range(COARSE_FOLDS):
        learn, held = fold != number, fold == number
        if held.any() and np.isin(classes, labels[learn]).all():
            given = settings | {"groups": own[learn], "penalties": penalties, "seed": seed}
            fitted = fit_probe(rows[learn], labels[learn], folds=COARSE_FOLDS, **given)
            chances[held] = fitted.predict_proba(rows[held])
    return chances


def find_label_issues(labels: np.ndarray, probabilities: np.ndarray) -> list[LabelIssue]:
    """Return the images whose labels look wrong, the surest first; some of them are hard and not wrong.

    By cleanlab's confident learning: a label is doubted where another class gets at least the probability
    that images of that class get on average, and at most as many labels are doubted as the class is estimated
    to have wrong (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068).

    Args:
        labels: (N,), the class of each image, integers from 0.
        probabilities: (N, C), of each image by a classifier that has not learned from it; NaN for images that
            were never held out, which are not doubted.

    Example:
        >>> import numpy as np
        >>> from tlutils import probe
        >>> labels = np.repeat([0, 1], 10)
        >>> chances = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
        >>> chances[3] = 0.05, 0.95
        >>> probe.find_label_issues(labels, chances)
        [LabelIssue(row=3, label=0, suggested=1, probability=0.95)]
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that it imports
        from cleanlab.filter import find_label_issues as learn_confidently

        judged = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
        if not len(judged):
            return []
        known, chances = np.asarray(labels)[judged], probabilities[judged]
        doubtful = learn_confidently(known, chances, return_indices_ranked_by="self_confidence", n_jobs=1)
    suggested = chances.argmax(axis=1)
    return [
        LabelIssue(int(judged[i]), int(known[i]), int(suggested[i]), float(chances[i].max()))
        for i in doubtful
    ]
