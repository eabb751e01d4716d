"""Read the logits in whatever a model returns, and how far two outputs lie apart."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import LearnerError

DRIFT = 0.02
"""How far what a model gives in bfloat16 may lie from what it gives in float32; see `measure_drift`."""

DRIFT_IMAGES = 8
"""By how many images that is measured."""


def logits_of(output: Any) -> Tensor:
    """Return the class scores (N, classes) in what a classifier returned.

    Args:
        output: A tensor; an object, such as a dataclass, with `.logits`, or a dict with "logits"; in any
            other dict, dataclass, tuple or list the first tensor with two axes (auxiliary outputs follow).

    Raises:
        LearnerError: Anything else, such as what a detector returns.

    Example:
        >>> import torch
        >>> from tlutils import inference
        >>> inference.logits_of({"logits": torch.zeros(4, 10), "loss": 0.5}).shape
        torch.Size([4, 10])
    """
    found = find_logits(output)
    if not isinstance(found, Tensor) or found.ndim != 2:
        within = "" if found is output else f" in a {type(output).__name__}"
        got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise LearnerError(
            f"The model returned {got}{within}. Expected class scores, one row per image, of shape "
            "(N, classes): a tensor, the first entry of a tuple, or `logits` in a dict or an object. "
            "A detector or a segmentation model is not an image classifier."
        )
    return found


def find_logits(output: Any) -> Any:
    """Return what stands where `logits_of` looks, be it class scores or not.

    Args:
        output: What a model returned.

    Example:
        >>> from tlutils import inference
        >>> inference.find_logits(("scores", "auxiliary scores"))
        'scores'
    """
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    parts = [part for part in parts_of(output) if part is not None]
    rows = (part for part in parts if isinstance(part, Tensor) and part.ndim == 2)
    return next(rows, parts[0] if parts else None if isinstance(output, Mapping) else output)


def auxiliary_logits(output: Any) -> list[Tensor]:
    """Return the class scores of auxiliary heads, as of GoogLeNet in training (Szegedy et al. 2015).

    Args:
        output: What a model returned. In a tuple or list they are all other tensors of the logits' shape; in
            a dict or an object those of them with "aux" in their name, since others may be probabilities.

    Example:
        >>> import torch
        >>> from tlutils import inference
        >>> scores = torch.zeros(4, 10)
        >>> output = {"logits": scores, "probabilities": scores.softmax(1), "aux": scores + 1}
        >>> len(inference.auxiliary_logits(output))
        1
    """
    main, by_place = logits_of(output), isinstance(output, tuple | list)
    return [
        part
        for name, part in _named_parts(output).items()
        if part is not main
        and getattr(part, "shape", None) == main.shape
        and (by_place or "aux" in str(name).lower())
    ]


def parts_of(output: Any) -> list[Any]:
    """Return what a model's output holds, in order: the values of a dict, a tuple or an object of any kind.

    Args:
        output: What a model returned.

    Example:
        >>> from tlutils import inference
        >>> inference.parts_of({"loss": 0.5, "scores": "a tensor"})
        [0.5, 'a tensor']
    """
    return list(_named_parts(output).values())


def _named_parts(output: Any) -> dict[Any, Any]:
    """Return what an output holds by key or attribute, or by place in a tuple or list."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    plain = dataclasses.is_dataclass(output) or isinstance(output, types.SimpleNamespace)
    return dict(vars(output)) if plain or hasattr(output, "logits") else {}


def measure_drift(plain: np.ndarray, fast: np.ndarray) -> float:
    """Return how far rows lie from what they should be, in units of the spread between the rows.

    Args:
        plain: what a model gives for some images, (N, …), in its own arithmetic.
        fast: the same in another one.

    Example:
        >>> import numpy as np
        >>> from tlutils import inference
        >>> inference.measure_drift(np.array([[1.0], [3.0]]), np.array([[1.1], [3.0]])).__round__(3)
        0.071
    """
    spread = np.linalg.norm(plain - plain.mean(axis=0))
    distance = np.linalg.norm(fast - plain)
    return float(distance / spread) if spread > 0 else float("inf") if distance > 0 else 0.0
