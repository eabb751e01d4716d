"""What the way from an image to its features does, seen on a few images of the split, each alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import fingerprint, runtime
from ..inference import evaluating
from .forward import COARSE, Forward
from .store import Arrays


class Trial:
    """The rows of two images, each run alone, and what was read and drawn on the way.

    What differs between the two runs, such as a hook's counter or a map that a model keeps, is working memory
    and no setting: it has no part in a key. What it does shows in the rows.
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Callable[[Any], Any],
        forward: Forward,
        load: Callable[[int], torch.Tensor],
        images: int,
        arithmetic: str,
    ) -> None:
        self.images = (images // 4, 3 * images // 4)
        self.forward = forward
        self.draws_images = self.draws_model = False
        self.trouble: Exception | None = None
        self._inputs: list[torch.Tensor] = []
        self._rows: dict[str, list[dict[str, Arrays]]] = {}
        seen: list[tuple[fingerprint.Settings, fingerprint.Settings]] = []
        for i in self.images:
            # Another seed than the one that features are made under: what follows it, differs.
            with runtime.seeded(1):
                before = fingerprint.of_generators()
                self._inputs.append(load(i)[:1])
                self.draws_images |= fingerprint.of_generators() != before
                of_transform = fingerprint.of_settings(transform)
            with evaluating(forward.trunk), runtime.seeded(1):
                before = fingerprint.of_generators()
                self._run(self._inputs[-1], arithmetic)
                self.draws_model |= fingerprint.of_generators() != before
                seen.append((of_transform, fingerprint.of_settings(model)))
        (first, of_model), (second, of_model_2) = seen
        self.transform, self.model = _same(first, second), _same(of_model, of_model_2)
        self.own_generator = first.generators != second.generators
        self.draws_model |= of_model.generators != of_model_2.generators

    @property
    def unlike(self) -> str:
        """Why features would not come out alike again, as far as that is known beforehand, or ""."""
        if self.own_generator:
            return "the transform has a random generator of its own, which `seed` does not reach"
        if self.draws_model:
            return "the model draws random numbers in evaluation mode"
        return f"the model cannot take one image alone ({self.trouble})" if self.trouble else ""

    def _run(self, image: torch.Tensor, arithmetic: str) -> None:
        rows = self._rows.setdefault(arithmetic, [])
        try:
            rows.append(self.forward.run(image, arithmetic))
        except Exception as error:  # whatever a model says that cannot take one image alone, or no bfloat16
            if arithmetic == "bfloat16":
                self.forward.fast = False
                self._run(image, self.forward.likely)
            else:
                self.trouble = error

    def agrees(self, stage: str, arrays: Arrays, rows: int, arithmetic: str) -> bool:
        """Whether the stored arrays of a stage, `rows` rows for each image, hold what the two gave."""
        if arithmetic not in self._rows:
            with evaluating(self.forward.trunk):
                for image in self._inputs:
                    self._run(image, arithmetic)
        tried = self._rows.get(arithmetic, [])
        return len(tried) == len(self.images) and all(
            _near(array[i * rows][None], value, self.forward.tolerance(arithmetic))
            for i, out in zip(self.images, tried, strict=True)
            for array, value in zip(arrays, out[stage], strict=True)
        )


def _same(one: fingerprint.Settings, other: fingerprint.Settings) -> Mapping[str, str]:
    return {place: digits for place, digits in one.parts.items() if other.parts.get(place) == digits}


def _near(stored: np.ndarray, tried: np.ndarray, tolerance: float) -> bool:
    if stored.shape != tried.shape or stored.dtype != tried.dtype:
        return False
    size = max(1, stored.size) ** 0.5
    scale = np.linalg.norm(stored[np.isfinite(stored)].astype(np.float64)) / size
    if tolerance >= COARSE and np.isfinite(stored).all():  # single values move more, by chance
        return bool(np.linalg.norm(tried.astype(np.float64) - stored) / size <= tolerance * scale)
    return np.allclose(tried, stored, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
