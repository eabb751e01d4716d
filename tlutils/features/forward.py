"""The forward pass, in the fastest arithmetic that is near enough to the model's own."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..inference import dtype_of
from .store import Arrays

log = logging.getLogger(__name__)

DRIFT = 0.02
"""How far bfloat16 features may lie from float32 ones: a share of a sample's spread between its images."""

SAMPLE = 8  # images that the drift is measured on


class Forward:
    """The forward pass to the stages of `trunk`: (B, C, H, W) in, {stage: its arrays} out.

    With `layouts`, {stage: its layout}, what leaves a stage is averaged over rows, columns and tokens.

    `arithmetic` is "float32" (the model's own, whatever its type), "channels_last" (the same numbers in
    another order in memory, which may round otherwise) or "bfloat16"; None until the first batch decides.
    """

    def __init__(
        self,
        trunk: nn.Module,
        layouts: dict[str, str | tuple[str, ...]] | None,
        device: torch.device,
        precision: str,
    ) -> None:
        self.trunk, self.layouts, self.device = trunk, layouts, device
        self.arithmetic = None if precision == "auto" else precision
        self.dtype = dtype_of(trunk)

    def __call__(self, images: torch.Tensor) -> dict[str, Arrays]:
        if self.arithmetic is None:
            self.arithmetic = self._fastest(images[:SAMPLE])
        # Kernels may differ by batch size, above all for a batch of one, and an image's features should not.
        extra = -len(images) % 8
        padded = torch.cat([images, images[-1:].expand(extra, *images.shape[1:])]) if extra else images
        out = self._pass(padded, self.arithmetic)
        return {stage: tuple(a[: len(images)] for a in arrays) for stage, arrays in out.items()}

    def _fastest(self, sample: torch.Tensor) -> str:
        if self.dtype != torch.float32 or not bfloat16_units(self.device):
            return "channels_last"
        plain, fast = self._pass(sample, "float32"), self._pass(sample, "bfloat16")
        drift = max(_drift(a, b) for stage in plain for a, b in zip(plain[stage], fast[stage], strict=True))
        if drift <= DRIFT:
            return "bfloat16"
        log.info("bfloat16 would move features by %.1f %% of their spread; float32 it is.", 100 * drift)
        return "channels_last"

    def _pass(self, images: torch.Tensor, arithmetic: str) -> dict[str, Arrays]:
        x = images.to(self.device, self.dtype)
        if arithmetic != "float32":
            x = x.to(memory_format=torch.channels_last)
        fast = arithmetic == "bfloat16"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=fast):
            out = self.trunk(x)
        return {stage: self._arrays(stage, value) for stage, value in out.items()}

    def _arrays(self, stage: str, value: torch.Tensor | Sequence[torch.Tensor]) -> Arrays:
        values = [value] if isinstance(value, torch.Tensor) else value
        values = [v.float() if v.dtype in (torch.bfloat16, torch.float16) else v for v in values]
        if self.layouts is not None:
            layout = self.layouts[stage]
            layouts = [layout] if isinstance(layout, str) else layout
            values = [_pooled(*each) for each in zip(values, layouts, strict=True)]
        return tuple(v.cpu().numpy() for v in values)


def _pooled(value: torch.Tensor, layout: str) -> torch.Tensor:
    """Return feature maps or tokens averaged over their positions (N, C); a vector as it is."""
    places = [axis for axis, letter in enumerate(layout) if letter not in "NC"]
    return value.mean(dim=places) if places else value


def _drift(plain: np.ndarray, fast: np.ndarray) -> float:
    """Return the distance of two versions of the same rows, in units of the spread between the rows."""
    spread = np.linalg.norm(plain - plain.mean(axis=0))
    distance = np.linalg.norm(fast - plain)
    return float(distance / spread) if spread > 0 else float("inf") if distance > 0 else 0.0


def bfloat16_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return False  # ATEN_CPU_CAPABILITY may hold back a processor that has them
    supported = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in supported if ask)
