"""What the way from an image to its features does, seen on one or two images of the split."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .. import fingerprint, runtime
from ..inference import evaluating, watch_draws
from .forward import Forward, near
from .store import Arrays

OWN_GENERATOR = "the transform has a random generator of its own, which `seed` does not reach"

_RESEED = random.Random.seed.__code__


class _Known(NamedTuple):
    """A model's settings at its last trial, and the places that running it changes."""

    settings: fingerprint.Settings
    memory: set[str]


_KNOWN: "WeakKeyDictionary[nn.Module, _Known]" = WeakKeyDictionary()


class Trial:
    """The rows of two images, and what was read and drawn on the way.

    Each image is run alone. What differs between the two runs, such as a hook's counter or a map that a model
    keeps, is working memory and no setting: it has no part in a key. What it does shows in the rows. A model
    with the settings of its last trial is known to be such, and one image is enough.
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
        self.forward, self.load = forward, load
        self.draws_images = self.own_generator = self.draws_model = False
        self.trouble: Exception | None = None
        self.images: list[int] = []
        self._inputs: list[torch.Tensor] = []
        self._rows: dict[str, list[dict[str, Arrays]]] = {}
        readings = [fingerprint.of_settings(transform)]
        with evaluating(forward.trunk):
            readings.append(self._prepare(images // 4, transform))
            # A first use may have made something that stays, such as a table: a second image tells.
            known = self._run_known(model, arithmetic) if readings[0] == readings[1] else None
            if known is None:
                readings = [readings[1], self._prepare(3 * images // 4, transform)]
                known = self._run_each(model, arithmetic)
        self.own_generator = readings[0].generators != readings[1].generators
        self.transform = _without(readings[0], _changed(*readings))
        self.model = _without(*known)

    def _prepare(self, i: int, transform: Callable[[Any], Any]) -> fingerprint.Settings:
        """Load an image, note what that draws, and return the settings of the transform after it."""
        image, drawn = watch_draws(lambda: self.load(i)[:1])
        self._inputs.append(image)
        self.images.append(i)
        self.draws_images |= drawn
        return fingerprint.of_settings(transform)

    @property
    def asks_system(self) -> bool:
        """Whether the transform asks the system for randomness, as a generator made without a seed does."""
        with runtime.seeded(1), _system_asked() as asked:
            self.load(self.images[0])
        return bool(asked)

    def _run_known(self, model: nn.Module, arithmetic: str) -> _Known | None:
        """Run the first image; return None unless the model is the one of its last trial."""
        known = _KNOWN.get(model)
        if known is None:
            return None
        try:
            out, drawn = watch_draws(lambda: self.forward.run(self._inputs[0], arithmetic))
        except Exception:  # each alone will tell what it is
            return None
        now = fingerprint.of_settings(model)
        if (
            drawn
            or now.generators != known.settings.generators
            or _changed(now, known.settings) - known.memory
        ):
            return None
        self._rows[arithmetic] = [out]
        return known

    def _run_each(self, model: nn.Module, arithmetic: str) -> _Known:
        readings = []
        for image in self._inputs:
            with _system_asked() as asked:
                rows, drawn = watch_draws(partial(self._try, image, arithmetic))
            self._keep(*rows)
            self.draws_model |= drawn or bool(asked)
            readings.append(fingerprint.of_settings(model))
        self.draws_model |= readings[0].generators != readings[1].generators
        last = _KNOWN.pop(model, None)
        found = _Known(readings[1], _changed(*readings) | (last.memory if last else set()))
        if not self.unlike:
            _KNOWN[model] = found
        return found

    @property
    def unlike(self) -> str:
        """Why features would not come out alike again, as far as that is known beforehand, or ""."""
        if self.own_generator:
            return OWN_GENERATOR
        if self.draws_model:
            return "the model draws random numbers in evaluation mode"
        return f"the model cannot take one image alone ({self.trouble})" if self.trouble else ""

    def _try(self, image: torch.Tensor, arithmetic: str) -> tuple[str, dict[str, Arrays] | None]:
        """Return the arithmetic that an image could be run in, and its rows; None where it could not."""
        try:
            return arithmetic, self.forward.run(image, arithmetic)
        except Exception as error:  # whatever a model says that cannot take one image alone, or no bfloat16
            if arithmetic == "bfloat16":
                self.forward.fast = False
                return self._try(image, self.forward.likely)
            self.trouble = error
            return arithmetic, None

    def _keep(self, arithmetic: str, rows: dict[str, Arrays] | None) -> None:
        self._rows.setdefault(arithmetic, []).extend([] if rows is None else [rows])

    def agrees(self, stage: str, arrays: Arrays, rows: int, arithmetic: str) -> bool:
        """Whether the stored arrays of a stage, `rows` rows for each image, hold what the two gave."""
        if arithmetic not in self._rows:
            with evaluating(self.forward.trunk):
                for image in self._inputs:
                    self._keep(*self._try(image, arithmetic))
        tried = self._rows.get(arithmetic, [])
        return (
            bool(arrays)
            and len(tried) == len(self.images)
            and all(
                near(array[i * rows][None], value, self.forward.tolerance(arithmetic))
                for i, out in zip(self.images, tried, strict=True)
                for array, value in zip(arrays, out[stage], strict=True)
            )
        )

    def confirms(self, image: int, rows: dict[str, Arrays], arithmetic: dict[str, str]) -> bool:
        """Whether the stages of an image, each in its arithmetic, hold what `rows` (1, …) say."""
        with evaluating(self.forward.trunk):
            tensor = self.load(image)[:1]
            out = {name: self.forward.run(tensor, name) for name in set(arithmetic.values())}
        return all(
            near(stored, tried, self.forward.tolerance(arithmetic[stage]))
            for stage, arrays in rows.items()
            for stored, tried in zip(arrays, out[arithmetic[stage]][stage], strict=True)
        )


def _without(settings: fingerprint.Settings, places: set[str]) -> dict[str, str]:
    return {place: digits for place, digits in settings.parts.items() if place not in places}


@contextmanager
def _system_asked() -> Iterator[list[str]]:
    """Yield a list that holds, after the block, what asked the system for randomness."""
    found: list[str] = []
    profiler = sys.getprofile()

    def watch(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call":
            seeds = called.__name__ == "seed" and isinstance(
                getattr(called, "__self__", None), torch.Generator
            )
            asks = seeds or called is os.urandom
        else:
            asks = event == "call" and frame.f_code is _RESEED and frame.f_locals["a"] is None
        if asks:
            found.append(frame.f_code.co_name)

    if profiler is None:  # there is room for one alone
        sys.setprofile(watch)
    try:
        yield found
    finally:
        if profiler is None:
            sys.setprofile(None)


def _changed(one: fingerprint.Settings, other: fingerprint.Settings) -> set[str]:
    """Return the places of two readings that are not alike in both."""
    return {place for place, _ in one.parts.items() ^ other.parts.items()}
