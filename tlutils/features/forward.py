"""The forward pass, in the fastest arithmetic that is near enough to the model's own."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import inference, runtime
from ..inference import dtype_of, measure_drift
from .converted import convert
from .store import Arrays

log = logging.getLogger(__name__)

ALIKE = 16
"""With at least this many images, in multiples of 8, an image's features were the same to the last bit in
every batch, on six networks."""

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How far an image's features may lie from those that it had in another batch, where kernels round otherwise:
a share of each value, and of the row's root mean square. Measured on ten networks: up to 8e-6."""

COARSE = 0.05
"""The same as a share of the row's length, for bfloat16 and half precision (measured: up to 0.009) and for
arithmetic that a device may shorten, as TF32 does."""

WORTH_CONVERTING = 60.0
"""Seconds of work left from which on OpenVINO is tried. On nine networks of 0.4 to 87 million parameters
(AVX2, float32) to convert took 2 to 12 s of processor time; a pass was 1.4 to 14 times as quick as torch."""

Passes = dict[str, dict[str, Arrays]]


class Forward:
    """The forward pass to the stages of `trunk`: (B, C, H, W) in, {stage: its arrays} out.

    With `layouts`, {stage: its layout}, what leaves a stage is averaged over rows, columns and tokens.

    `arithmetic` names that of each stage: "float32" (the model's own, whatever its type), "channels_last"
    (the same numbers in another order in memory, which may round otherwise) or "bfloat16". The first batch
    decides for stages that have none yet, each by itself: others that are asked for change no features.

    `runtime` tells who computes: "torch" or, from the first batch on, "openvino": where that package is
    there, a processor would be busy for long with the `left` images, and a batch comes out sooner and near
    enough. The arithmetic stays the same, so rows of both go together.

    Where stages differ in their arithmetic, each one takes a pass of its own, which ends at the last of its
    stages: `trunk_to` returns such a part.
    """

    def __init__(
        self,
        trunk: nn.Module,
        trunk_to: Callable[[Sequence[str]], nn.Module],
        layouts: dict[str, str | tuple[str, ...]] | None,
        device: torch.device,
        precision: str,
        batch_size: int,
    ) -> None:
        self.trunk, self.layouts, self.device, self.precision = trunk, layouts, device, precision
        self.trunk_to, self.batch_size = trunk_to, batch_size
        self._parts: dict[tuple[str, ...], nn.Module] = {}
        self.arithmetic: dict[str, str] = {}
        self.reorders = True  # until a model shows that it counts on the usual order in memory
        self.dtype = dtype_of(trunk)
        self.fast = self.dtype == torch.float32 and runtime.bfloat16_units(device)
        self.runtime = "torch"
        self.left = 0  # images to come, the first batch among them; 0 once that has decided
        self._converted: Callable[[torch.Tensor], dict[str, Arrays]] | None = None

    def __call__(self, images: torch.Tensor, stages: Iterable[str]) -> dict[str, Arrays]:
        stages = list(stages)
        if unknown := [stage for stage in stages if stage not in self.arithmetic]:
            self.arithmetic |= self._fastest(images[: inference.DRIFT_IMAGES], unknown)
        # Kernels may round otherwise for a small batch, and an image's features should not depend on how many
        # others are computed with it.
        extra = max(min(ALIKE, self.batch_size) - len(images), -len(images) % 8)
        padded = torch.cat([images, images[-1:].expand(extra, *images.shape[1:])]) if extra else images
        wanted: dict[str, list[str]] = {}
        for stage in stages:
            wanted.setdefault(self.arithmetic[stage], []).append(stage)
        if self._converted:
            passes = {a: self._converted(padded.to(self.dtype)) for a in wanted}
        else:
            parts = {a: self._part(own) if len(wanted) > 1 else self.trunk for a, own in wanted.items()}
            seconds, passes = timed(lambda: {a: self.run(padded, a, part) for a, part in parts.items()})
            if seconds * self.left / len(padded) >= WORTH_CONVERTING and self._can_convert(wanted):
                passes = self._try_openvino(padded, passes, seconds)
            self.left = 0
        return {s: tuple(a[: len(images)] for a in passes[self.arithmetic[s]][s]) for s in stages}

    @property
    def likely(self) -> str:
        """The arithmetic of most stages, before any batch."""
        if self.precision != "auto":
            return self.precision
        return "bfloat16" if self.fast else "channels_last"

    def tolerance(self, arithmetic: str) -> float:
        """Return how far features of one image may lie apart in two batches."""
        exact = arithmetic != "bfloat16" and (self.device.type == "cpu" or self.dtype == torch.float64)
        return TOLERANCE.get(self.dtype, COARSE) if exact else COARSE

    def _fastest(self, sample: torch.Tensor, stages: Sequence[str]) -> dict[str, str]:
        if self.likely != "bfloat16":
            return dict.fromkeys(stages, self.likely)
        plain, fast = self.run(sample, "float32"), self.run(sample, "bfloat16")
        chosen = {}
        for stage in stages:
            drift = max(measure_drift(a, b) for a, b in zip(plain[stage], fast[stage], strict=True))
            chosen[stage] = "bfloat16" if drift <= inference.DRIFT else "channels_last"
            if drift > inference.DRIFT:
                log.info(
                    "bfloat16 would move %s by %.1f %% of its spread; float32 it is.", stage, 100 * drift
                )
        return chosen

    def _can_convert(self, arithmetic: Collection[str]) -> bool:
        here = (self.device.type, self.dtype) == ("cpu", torch.float32) and find_spec("openvino") is not None
        return here and self.precision == "auto" and len(arithmetic) == 1

    def _try_openvino(self, images: torch.Tensor, passes: Passes, seconds: float) -> Passes:
        """Return the batch as OpenVINO gives it, which goes on from here, or that of torch, and say why."""
        ((arithmetic, _),) = passes.items()
        images, fast = images.to(self.dtype), arithmetic == "bfloat16"
        try:
            converted = convert(self.trunk, self._values, images[:2], bfloat16=fast)
            converted(images)  # the first pass prepares more
            sooner, found = timed(partial(converted, images))
        except Exception as error:  # whatever stands in the model's own code, or lacks in OpenVINO
            log.info("torch computes, since OpenVINO cannot: %s: %s", type(error).__name__, error)
            return passes
        plain = self.run(images[: inference.DRIFT_IMAGES], "float32")
        pairs = [(a, b[: len(a)]) for stage in plain for a, b in zip(plain[stage], found[stage], strict=True)]
        drift = max(measure_drift(*pair) for pair in pairs)
        alike = all(near(*pair, self.tolerance(arithmetic)) for pair in pairs)
        if not (drift <= inference.DRIFT if fast else alike):
            log.info("torch computes, since OpenVINO would move features by %.2g of their spread.", drift)
        elif sooner >= seconds:
            log.info("torch computes: a batch takes it %.2g s, and OpenVINO %.2g s.", seconds, sooner)
        else:
            log.info("OpenVINO computes: a batch takes it %.2g s, and torch %.2g s.", sooner, seconds)
            self.runtime, self._converted = "openvino", converted
            return {arithmetic: found}
        return passes

    def run(self, images: torch.Tensor, arithmetic: str, part: nn.Module | None = None) -> dict[str, Arrays]:
        """Return {stage: its arrays} of a batch as it is, in one of the arithmetics, by torch."""
        x = images.to(self.device, self.dtype)
        reordered = self.reorders and arithmetic != "float32"
        if reordered:
            x = x.to(memory_format=torch.channels_last)
        fast = arithmetic == "bfloat16"
        try:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=fast):
                out = (part or self.trunk)(x)
        except RuntimeError:
            if not reordered:
                raise
            self.reorders = False
            return self.run(images, arithmetic, part)
        return {stage: self._arrays(stage, value) for stage, value in out.items()}

    def _part(self, stages: Sequence[str]) -> nn.Module:
        """Return the part of the model that ends at the last of some stages, in the mode of `trunk`."""
        if (key := tuple(stages)) not in self._parts:
            self._parts[key] = self.trunk_to(stages)
            self._parts[key].training = self.trunk.training  # its layers are the model's own
        return self._parts[key]

    def _arrays(self, stage: str, value: torch.Tensor | Sequence[torch.Tensor]) -> Arrays:
        return tuple(v.cpu().numpy() for v in self._values(stage, value))

    def _values(self, stage: str, value: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
        values = [value] if isinstance(value, torch.Tensor) else list(value)
        values = [v.float() if v.dtype in (torch.bfloat16, torch.float16) else v for v in values]
        if self.layouts is not None:
            layout = self.layouts[stage]
            layouts = [layout] if isinstance(layout, str) else layout
            values = [pooled(*each) for each in zip(values, layouts, strict=True)]
        return values


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that `work` took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def near(stored: np.ndarray, tried: np.ndarray, tolerance: float) -> bool:
    """Whether features of one image, or several, are the same but for rounding: see `TOLERANCE`, `COARSE`."""
    if stored.shape != tried.shape or stored.dtype != tried.dtype:
        return False
    size = max(1, stored.size) ** 0.5
    scale = np.linalg.norm(stored[np.isfinite(stored)].astype(np.float64)) / size
    if tolerance >= COARSE and np.isfinite(stored).all():  # single values move more, by chance
        return bool(np.linalg.norm(tried.astype(np.float64) - stored) / size <= tolerance * scale)
    return np.allclose(tried, stored, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def pooled(value: torch.Tensor, layout: str) -> torch.Tensor:
    """Return feature maps or tokens averaged over their positions (N, C); a vector as it is."""
    places = [axis for axis, letter in enumerate(layout) if letter not in "NC"]
    return value.mean(dim=places) if places else value
