"""What an audit asks of a transform: does it give the images that the weights were trained on."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import nn

from ... import models, runtime
from .finding import Finding

_OWN = "data.transform_for(model) gives the transform that the weights state."


def input_findings(model: nn.Module, transform: Callable[[Any], torch.Tensor]) -> Iterator[Finding]:
    """Yield where a transform differs from what the weights state, found by giving it a black and a white
    image.

    Every transform of a single image works, whatever it is made of: black gives (0 - mean) / std, white
    (1 - mean) / std.
    """
    info = models.info(model)
    try:
        with runtime.seeded(0):
            black, white = (transform(Image.new("RGB", (500, 375), colour)) for colour in ("black", "white"))
        shape = tuple(black.shape)
    except Exception as error:  # it is the user's function
        yield _finding(
            "input-type", "error", f"The transform failed on a PIL image: {type(error).__name__}: {error}."
        )
        return
    if len(shape) != 3 or not isinstance(black, torch.Tensor) or not black.is_floating_point():
        yield _finding(
            "input-type",
            "error",
            f"The transform gives {type(black).__name__} of shape {shape}. Expected a float tensor (C, H, "
            "W).",
        )
        return
    if shape[0] != info.input_size[0]:
        yield _finding(
            "input-channels",
            "error",
            f"The transform gives {shape[0]} channels, and the model takes {info.input_size[0]}.",
        )
        return
    if shape[1:] != info.input_size[1:]:
        yield _finding(
            "input-size",
            "error" if info.fixed_size else "warning",
            f"The transform gives images of {shape[1]}x{shape[2]}, and the model expects "
            f"{info.input_size[1]}x{info.input_size[2]}"
            + (", no other." if info.fixed_size else "; objects appear at another scale than it learned."),
        )
    # The median leaves out borders and erased patches.
    low, high = (image.flatten(1).median(dim=1).values.double() for image in (black, white))
    std = 1 / (high - low).clamp(min=1e-9)
    mean = -low * std
    wanted = torch.tensor([info.mean, info.std], dtype=torch.float64)
    if (torch.stack([mean, std]) - wanted).abs().max() > 0.02:
        expected = f"the weights expect mean {_short(info.mean)} and std {_short(info.std)}"
        yield _finding(
            "input-normalise", "error", f"The transform {_in_words(mean, std, low, high)}; {expected}."
        )


def _in_words(mean: torch.Tensor, std: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> str:
    if (high - low).abs().max() < 1e-3:
        return "gives the same for black and for white"
    if (high - low).min() > 100:
        return f"gives values from {low.min():.0f} to {high.max():.0f}: they were not scaled to 0 to 1"
    if low.abs().max() < 0.02 and (high - 1).abs().max() < 0.02:
        return "does not normalise"
    return f"normalises by mean {_short(mean.tolist())} and std {_short(std.tolist())}"


def _finding(code: str, severity: str, words: str) -> Finding:
    return Finding(code, severity, "transform", words, _OWN)


def _short(values: Any) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in values) + ")"
