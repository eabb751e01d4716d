"""Images made to match features: inversion of a stage, textures from Gram matrices, style transfer.

Each function returns images in [0, 1] with the curve of its loss, which falls. The model is never changed.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import LearnerError
from ..runtime import seeded
from .activations import by_channel
from .hooks import Reader, examined, stages
from .optimise import OnStep, Synthesis, descend, noise, to_image


def feature_inversion(
    model: nn.Module,
    x: Tensor,
    *,
    at: str,
    steps: int = 100,
    lr: float = 0.01,
    tv: float = 0.2,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Synthesis:
    """Return images, grown from grey noise, that are to a stage what x (N, C, H, W) is: what it still knows.

    The curve is ‖φ(image) − φ(x)‖² / ‖φ(x)‖², the share of the stage's output that is missed; `tv` weighs
    the total variation that keeps out grain. Mahendran and Vedaldi 2015.
    """
    with examined(model, x) as (model, x), seeded(seed):
        reader = Reader(model, [at], like=x)
        with torch.no_grad():
            wanted = reader(x)[at]
        start = noise(model, len(x), x.shape[2:])
        return descend(
            lambda batch: _missed(reader(batch)[at], wanted),
            start, model=model, steps=steps, lr=lr, tv=tv, on_step=on_step, desc=f"inverting {at}",
        )  # fmt: skip


def texture_synthesis(
    model: nn.Module,
    x: Tensor,
    *,
    at: str | Sequence[str] | None = None,
    size: int | None = None,
    steps: int = 150,
    lr: float = 0.02,
    tv: float = 0.0,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Synthesis:
    """Return new images with the textures of x (N, C, H, W): the same channels together, at any place.

    The loss is the missed share of the Gram matrices, averaged over the stages `at` (the first four unless
    given). `size` is the side of the result in pixels. Gatys, Ecker and Bethge 2015.
    """
    with examined(model, x) as (model, x), seeded(seed):
        loss = _style_loss(model, x, _first_four(model, x) if at is None else at)
        start = noise(model, len(x), x.shape[2:] if size is None else size, spread=0.1)
        return descend(loss, start, model=model, steps=steps, lr=lr, tv=tv, on_step=on_step, desc="texture")


def style_transfer(
    model: nn.Module,
    content: Tensor,
    style: Tensor,
    *,
    content_at: str | None = None,
    style_at: str | Sequence[str] | None = None,
    style_weight: float = 1.0,
    steps: int = 100,
    lr: float = 0.01,
    tv: float = 0.0,
    on_step: OnStep | None = None,
) -> Synthesis:
    """Return `content` (N, C, H, W) repainted with the textures of `style` (1 or N, C, H, W).

    The search starts from `content`. The loss is the missed share of what leaves `content_at` (the fourth
    stage unless given), plus `style_weight` times the missed share of the style's Gram matrices at `style_at`
    (the first four). Gatys, Ecker and Bethge 2016.
    """
    if len(style) not in (1, len(content)):
        raise LearnerError(
            f"{len(style)} styles for {len(content)} pictures. Give one style, or one per picture."
        )
    with examined(model, content, style) as (model, content, style):
        first = _first_four(model, content)
        kept = first[-1] if content_at is None else content_at
        painted = _style_loss(model, style, first if style_at is None else style_at)
        reader = Reader(model, [kept], like=content)
        with torch.no_grad():
            wanted = reader(content)[kept]
        return descend(
            lambda batch: _missed(reader(batch)[kept], wanted) + style_weight * painted(batch),
            to_image(model, content), model=model, steps=steps, lr=lr, tv=tv, on_step=on_step,
            desc="style transfer",
        )  # fmt: skip


def gram(values: Tensor, layout: str) -> Tensor:
    """Return the mean product over positions of each pair of channels (N, C, C) that leave a stage."""
    flat = by_channel(values, layout)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _missed(values: Tensor, wanted: Tensor) -> Tensor:
    """Return ‖values − wanted‖² / ‖wanted‖² for each image (N,)."""
    missing = (values - wanted).flatten(1).square().sum(1)
    return missing / wanted.flatten(1).square().sum(1).clamp(min=1e-12)


def _first_four(model: nn.Module, x: Tensor) -> list[str]:
    return stages(model, x).names[:4]


def _style_loss(model: nn.Module, style: Tensor, at: str | Sequence[str]) -> Callable[[Tensor], Tensor]:
    reader = Reader(model, at, like=style)
    with torch.no_grad():
        wanted = {name: gram(values, reader.layouts[name]) for name, values in reader(style).items()}

    def loss(batch: Tensor) -> Tensor:
        found = {name: gram(values, reader.layouts[name]) for name, values in reader(batch).items()}
        return torch.stack([_missed(found[name], wanted[name]) for name in reader.at]).mean(0)

    return loss
