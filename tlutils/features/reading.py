"""Features as rows: those of images that are at hand, as `extract` would give them, and those that arrive."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import surgery
from ..errors import LearnerError
from ..inference import device_of, dtype_of, evaluating
from .forward import pooled

log = logging.getLogger("tlutils")


def make_predictor(model: nn.Module) -> Callable[[torch.Tensor], tuple[np.ndarray, np.ndarray]]:
    """Return a function from prepared images (n, C, H, W) to probabilities (n, classes), embeddings (n, D).

    Both come from one pass; an embedding is what `features.extract` reads at the stage before the head.

    Args:
        model: Any image classifier.

    Example:
        >>> import torch
        >>> from tlutils import features, models
        >>> model = models.load("test_resnet", pretrained=False, input_size=32)
        >>> [part.shape for part in features.make_predictor(model)(torch.zeros(2, 3, 32, 32))]
        [(2, 1000), (2, 96)]
    """
    last = surgery.stages(model).embedding
    both, place = surgery.outputs(model, at=[last, "head"]), (device_of(model), dtype_of(model))
    layout = both.known_stages[last].layout
    layouts = [layout] if isinstance(layout, str) else layout

    def read(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        with evaluating(both), torch.no_grad():
            out = both(images.to(*place))
        parts = out[last] if isinstance(out[last], tuple) else (out[last],)
        embeddings = tuple(pooled(*each).float().cpu().numpy() for each in zip(parts, layouts, strict=True))
        return out["head"].float().softmax(1).cpu().numpy(), as_rows(embeddings)

    return read


def as_rows(values: Any) -> np.ndarray:
    """Return features of a stage as rows (n, D); those of a stage with several outputs are concatenated.

    Args:
        values: An array (n, …), or several in a tuple, as a `FeatureStore` gives them.

    Example:
        >>> import numpy as np
        >>> from tlutils import features
        >>> features.as_rows((np.zeros((2, 3)), np.zeros((2, 4)))).shape
        (2, 7)
    """
    parts = values if isinstance(values, tuple) else (values,)
    return np.concatenate([np.asarray(part).reshape(len(part), -1) for part in parts], axis=1)


def check_rows(x: Any) -> np.ndarray:
    """Return features as float64 (n, D), after a check that each image has a row of finite numbers.

    Args:
        x: Features (n, D), as an array, a tensor on any device, or lists.

    Raises:
        LearnerError: There is no row, or not one per image, or a value is complex or not finite.

    Example:
        >>> from tlutils import features
        >>> features.check_rows([[1, 2], [3, 4]]).shape
        (2, 2)
    """
    if x.is_complex() if isinstance(x, torch.Tensor) else np.iscomplexobj(x):
        raise LearnerError("Features are complex numbers. Expected real ones: take absolute values, say.")
    rows = np.asarray(x.detach().cpu().double() if isinstance(x, torch.Tensor) else x, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise LearnerError(
            f"Features of shape {rows.shape} arrived. Expected a row for each image, (images, features): "
            "take pooled ones, features.extract(..., pool=True), or flatten each image to a row."
        )
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise LearnerError(
            f"The features of {len(bad)} images have NaN or infinite values, the first in row {bad[0]}. "
            "Look at that image and at the model's weights."
        )
    return rows


def groups_of(x: Any, groups: Any = None) -> Any:
    """Return which rows show one picture: the groups that are given, else those that the features carry.

    None where every row stands for itself. Where rows of a `FeatureStore` have lost their groups, a warning
    says so.

    Args:
        x: Features (n, D).
        groups: A number or name (n,) for each row.

    Example:
        >>> import numpy as np
        >>> from tlutils import features
        >>> features.groups_of(np.eye(3), ["ann", "bob", "ann"])
        ['ann', 'bob', 'ann']
    """
    known = getattr(x, "groups", None) if groups is None else groups
    if known is None and hasattr(x, "groups"):  # rows of a store that were reshaped, say
        log.warning("These features have lost which rows show one picture. Pass groups=store.groups.")
    return known
