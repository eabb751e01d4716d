"""The labels that every score is given, checked; `features.check_rows` checks the features."""

from typing import Any

import numpy as np
import torch

from ..data import FEW_IMAGES
from ..errors import LearnerError


def check_labels(labels: Any, rows: int) -> np.ndarray:
    """Return labels as (N,), numbered from 0 without gaps; there are two classes and two images of each."""
    array = check_integers(labels, rows)
    names, array, counts = np.unique(array, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise LearnerError(
            f"All {rows} labels are {names[0]}. A score says how well classes can be told apart: expected "
            "two or more of them."
        )
    if counts.min() < 2:
        raise LearnerError(
            f"Class {names[counts.argmin()]} has one image, which says nothing about how its class varies. "
            f"Expected two or more of each class, better {FEW_IMAGES}: add images, or leave the class out."
        )
    return array


def check_integers(labels: Any, rows: int) -> np.ndarray:
    """Return integers (N,), one for each row."""
    array = np.asarray(labels.detach().cpu() if isinstance(labels, torch.Tensor) else labels)
    if array.shape != (rows,) or not np.issubdtype(array.dtype, np.integer):
        raise LearnerError(
            f"Labels of shape {array.shape} and type {array.dtype} arrived for {rows} images. Expected one "
            f"integer for each, shape ({rows},)."
        )
    return array
