"""What in a folder of images makes a result less sure than it looks."""

from dataclasses import dataclass

import numpy as np

from .. import data, intervals, probe

FOLDS = 5  # in which labels are looked at by a probe that has not seen them
SHOWN = 5  # classes that are named


def list_doubts(dataset: data.DatasetSplits) -> list[str]:
    """Return, as sentences, what makes a result on a data set less sure than it looks, and what follows.

    Args:
        dataset: As `data.load` gives it.

    Example:
        >>> from tlutils import data, deploy
        >>> deploy.list_doubts(data.load("digits"))
        []
    """
    doubts, names = [], [repr(name) for name in dataset.classes]
    counts = np.array(list(dataset.train.counts.values()))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] >= data.IMBALANCE_RATIO * counts[least]:
        doubts.append(
            f"The classes are imbalanced: {counts[most]} training images of {names[most]}, {counts[least]} "
            f"of {names[least]}. So every class counts alike in training (class weights), and balanced "
            f"accuracy judges, the mean recall of the classes: always answering {names[most]} is right for "
            f"{counts[most] / counts.sum():.0%} of such images and has a balanced accuracy of "
            f"{1 / len(counts):.2f}."
        )
    few = [name for name, count in zip(names, counts, strict=True) if count < data.FEW_IMAGES]
    if few:
        listed = ", ".join(few[:SHOWN]) + (", …" if len(few) > SHOWN else "")
        doubts.append(
            f"{len(few)} of {len(names)} classes have fewer than {data.FEW_IMAGES} training images "
            f"({listed}). Collect more: nothing else helps as much."
        )
    judged = np.array(list(dataset.test.counts.values()))
    if not judged.any():
        doubts.append("There is no test image: nothing says how good the model is. Collect more images.")
        return doubts
    if absent := [name for name, count in zip(names, judged, strict=True) if not count]:
        listed = ", ".join(absent[:SHOWN]) + (", …" if len(absent) > SHOWN else "")
        doubts.append(f"Nothing will be known of {listed}: no test image is of that class.")
    labels = dataset.test.labels
    best = intervals.score_interval(np.ones(len(labels)), labels, groups=dataset.test.groups)
    if best.low < 0.9:
        doubts.append(
            f"{judged.sum()} test images say little: if all of them were right, the balanced accuracy could "
            f"still be {best.low:.2f}."
        )
    return doubts


@dataclass(frozen=True)
class Suspect:
    """An image whose label a probe that had not seen it contradicts.

    Attributes:
        row: Which of the images it is.
        label: The class that it was given.
        suggested: The class that the probe finds.
        probability: What the probe gives that class.
    """

    row: int
    label: int
    suggested: int
    probability: float


def find_suspects(
    x: np.ndarray, fitted: probe.Probe, labels: np.ndarray, groups: np.ndarray
) -> list[Suspect]:
    """Return the images whose labels look wrong, the surest first.

    Each is judged by a probe that has not seen it, with the penalty of the one that was fitted. Its label is
    doubted where another class gets at least the probability that images of that class get on average:
    confident learning, Northcutt, Jiang and Chuang 2021, arXiv:1911.00068.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    sizes = [len(np.unique(groups[labels == k])) for k in range(len(fitted.classes))]
    folds = min(FOLDS, *sizes)
    if folds < 3:  # without one of two pictures nobody knows a class well enough to doubt a label
        return []
    chances = np.full((len(labels), len(fitted.classes)), np.nan)
    for known, held in StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(x, labels, groups):
        if len(np.unique(labels[known])) == len(fitted.classes):
            one = probe.fit_probe(
                x[known], labels[known], classes=fitted.classes, penalties=[fitted.setting], folds=2
            )
            chances[held] = one.predict_proba(x[held])
    usual = np.array([np.nanmean(chances[labels == k, k]) for k in range(len(fitted.classes))])
    confident = np.where(chances >= usual, chances, 0)
    suggested, sure = confident.argmax(axis=1), confident.max(axis=1)
    rows = np.flatnonzero((suggested != labels) & (sure > 0))
    return [
        Suspect(int(i), int(labels[i]), int(suggested[i]), float(sure[i]))
        for i in sorted(rows, key=lambda i: -sure[i])
    ]
