"""What features depend on, as keys: equal ingredients give equal keys, any change gives another."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from .. import fingerprint, runtime
from ..surgery import Stage

CODE = 6  # raised with every change of this package's code that changes features
TRIES, TRIES_OF_SUSPECTS = 32, 400
LIBRARIES = ("torch", "torchvision", "timm", "pillow", "numpy")


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries that features depend on, and of the code here."""
    return {name: version(name) for name in LIBRARIES} | {"features": str(CODE)}


def is_random(transform: Callable[[Any], Any], *, suspect: bool) -> bool:
    """Return whether a small picture does not always become the same tensor under one seed.

    Generators that everybody shares, and those that can be reached from the transform, betray themselves by
    moving, see `Trial`. This is for the others; one that acts once in ten times hides in 1 of 30 cases, and
    never where the transform is a suspect, because it asks the system for randomness.
    """
    rows, columns = np.mgrid[0:48, 0:64]
    colours = np.stack([rows * 5, columns * 3, (rows * columns) % 256], axis=-1).astype(np.uint8)
    found = set()
    try:
        for _ in range(TRIES_OF_SUSPECTS if suspect else TRIES):
            with runtime.seeded(0):
                found.add(fingerprint.of(transform(Image.fromarray(colours))))
            if len(found) > 1:
                return True
    except Exception:  # it wants larger pictures, say
        pass
    return False


def of_stages(model: nn.Module, stages: Sequence[Stage], settings: Mapping[str, str]) -> dict[str, str]:
    """Return for each stage 16 hex digits of what is computed up to its end; `stages` begin with the stem.

    What comes after a stage has no part in its key: a new head or a trained suffix leaves the features valid.
    """
    tensors = fingerprint.of_tensors(model, {name for s in stages for name in (*s.parameters, *s.buffers)})
    places: dict[str, list[str]] = {path: [] for path, _ in model.named_modules()}
    for place in settings:
        places[place.partition(":")[0]].append(place)
    left = sorted(places)
    key, found = "", {}
    for stage in stages:
        own = tuple(f"{m}." for m in stage.modules)
        above = {m.rpartition(".")[0] for m in stage.modules} | {""}
        while deeper := {m.rpartition(".")[0] for m in above} - above:
            above |= deeper
        new = [m for m in left if m in above or f"{m}.".startswith(own)]
        left = sorted({*left}.difference(new))
        key = fingerprint.short(
            key,
            [(place, settings[place]) for path in new for place in places[path]],
            [(name, tensors[name]) for name in (*stage.parameters, *stage.buffers)],
        )
        found[stage.name] = key
    return found
