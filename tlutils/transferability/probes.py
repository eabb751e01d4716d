"""The depth probe as a score: how well a linear classifier does on what leaves the best stage."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import LearnerError
from ..features import FeatureStore, check_rows, groups_of
from ..intervals import group_codes
from ..probe import fit_probe
from .inputs import check_labels


def depth_probe(features: Mapping[str, Any] | FeatureStore, labels: Any, *, seed: int = 0) -> float:
    """Return the balanced accuracy, in cross-validation, of a linear probe on the best of some stages.

    From 0 to 1. Each stage is probed with its penalty chosen by log loss; with one stage it is the score of a
    linear probe. Probes by depth: Alain and Bengio 2016 (arXiv:1610.01644).

    Cost: a path of logistic regressions for each stage, the most expensive score; seconds for 400 images.

    Known failure: the best of several stages was best by chance as well, so that the number is a little too
    high, most with few images. It knows frozen features only: where finetuning gains most, it says least.

    Args:
        features: by stage, features (N, D) of the images, D of each stage its own; or a `FeatureStore`, whose
            views and copies of one picture are held out together.
        labels: (N,), integers, two or more of each class.
        seed: what the folds are drawn from.

    Raises:
        LearnerError: there is no stage, the shapes do not fit, values are not finite, there is one class, or
            a class of one image.

    Example:
        >>> import numpy as np
        >>> from tlutils import transferability
        >>> y = np.arange(40) % 2
        >>> noise = np.random.default_rng(0).normal(size=(40, 3))
        >>> transferability.depth_probe({"stage1": noise, "pool": noise + 6 * y[:, None]}, y)
        1.0
    """
    if isinstance(features, FeatureStore):
        features = {stage: features[stage] for stage in features.at}
    if not isinstance(features, Mapping) or not features:
        raise LearnerError(
            f"A {type(features).__name__} arrived. Expected features by the name of their stage, such as "
            "{'pool': x} or what features.extract gives for several stages."
        )
    scores = []
    for own in features.values():
        x = check_rows(own)
        y = check_labels(labels, len(x))
        groups = group_codes(groups_of(own), len(x))
        each = [len(np.unique(groups[y == k])) for k in range(int(y.max()) + 1)]
        cv = fit_probe(x, y, groups=groups, folds=min(5, *each), seed=seed).cv
        scores.append(cv.loc[cv["chosen"], "balanced_accuracy"].item())
    return float(max(scores))
