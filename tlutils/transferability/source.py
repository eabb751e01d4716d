"""Scores by what the source's own head says: do its classes tell the new ones apart?"""

from typing import Any

import numpy as np
from scipy.special import log_softmax

from ..features import check_rows
from .inputs import check_integers, check_labels


def leep(source_logits: Any, labels: Any) -> float:
    """Return LEEP: the mean log likelihood of the labels, given what the source's head says of each image.

    A classifier that needs no training: an image belongs to source class z with the head's probability, and
    an image of source class z to the new class y as often as z and y came together. 0 or less. Nguyen et al.
    2020 (arXiv:2002.12077).

    Cost: N · (source classes) · (classes), once the head has run.

    Known failure: it needs the source's head, and networks of the same source classes to compare; it sees
    logits and no features, and is judged on the images that its counts come from, so that many source classes
    and few images promise too much.

    Args:
        source_logits: (N, Z), what the head that the network came with gives, before softmax.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, values are not finite, there is one class, or a class of one
            image.

    Example:
        >>> from tlutils import transferability
        >>> sure = [[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]
        >>> [round(transferability.leep(sure, y), 2) for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
        [-0.0, -0.69]
    """
    logits = check_rows(source_logits)
    y = check_labels(labels, len(logits))
    theta = np.exp(log_softmax(logits, axis=1))
    joint = np.stack([theta[y == k].sum(axis=0) for k in range(y.max() + 1)])  # (C, Z), times N
    given = joint / np.maximum(joint.sum(axis=0), 1e-300)
    return float(np.log((theta * given[y]).sum(axis=1)).mean())


def nce(source_labels: Any, labels: Any) -> float:
    """Return the negative conditional entropy of the labels, given the source's labels, in nats.

    -H(Y | Z), minus what is left to guess once Z is known, for labels Y and source labels Z, by their
    counts. 0 or less: 0 where Z decides Y. Tran et al. 2019 (arXiv:1908.08142).

    Cost: a table of counts.

    Known failure: with as many source labels as images each is alone with its own and the score is 0; few
    images and many source classes come near that. The source's second choices do not count, as they do in
    `leep`.

    Args:
        source_labels: (N,), integers: classes of the source's task, such as the largest logit of its head.
        labels: (N,), integers, two or more of each class.

    Raises:
        LearnerError: the shapes do not fit, labels are no integers, there is one class, or a class of one
            image.

    Example:
        >>> from tlutils import transferability
        >>> round(transferability.nce([7, 7, 3, 3, 5, 5], [0, 1, 0, 0, 1, 1]), 3)  # a third of log 2
        -0.231
    """
    rows = np.size(labels)
    y = check_labels(labels, rows)
    _, z = np.unique(check_integers(source_labels, rows), return_inverse=True)
    joint = np.zeros((z.max() + 1, y.max() + 1))
    np.add.at(joint, (z, y), 1 / rows)
    together = joint[joint > 0]
    given = (joint / joint.sum(axis=1, keepdims=True))[joint > 0]
    return float((together * np.log(given)).sum())
