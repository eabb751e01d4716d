"""Labels that a classifier contradicts which has not seen the image."""

import warnings
from dataclasses import dataclass

import numpy as np


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
