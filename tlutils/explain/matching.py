"""Images made to match features: inversion of a stage, textures from Gram matrices, style transfer.

Each function returns images in [0, 1] with the curve of its loss, which falls. The model is never changed.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import LearnerError
from ..runtime import seeded
from .channels import by_channel
from .hooks import Reader, examining, stages
from .optimise import OnStep, Synthesis, denormalize, descend, draw_noise


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
    """Return images, grown from grey noise, with the same features as x: what a stage still knows of it.

    The loss is ‖φ(image) − φ(x)‖² / ‖φ(x)‖², the share of the features that is missed. Mahendran and Vedaldi
    2015.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        at: The stage or module after which features are read.
        steps: How many steps of Adam there are.
        lr: Adam's learning rate: 0.01 is careful, 0.05 bold.
        tv: The weight of the total variation, which keeps out grain.
        seed: Seed of the noise.
        on_step: Called as `on_step(step, images, values)` after each step; returning False ends the work.

    Returns:
        The `images` (N, C, H, W) in [0, 1], and the `curve` (steps, N) of the loss without total variation.

    Raises:
        LearnerError: If there is no such place, an option is out of range, or the batch is not one that the
            model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> x = torch.randn(1, 3, 32, 32)
        >>> explain.feature_inversion(model, x, at="stage1", steps=5).images.shape
        torch.Size([1, 3, 32, 32])
    """
    with examining(model, x) as (model, x), seeded(seed):
        reader = Reader(model, [at], like=x)
        with torch.no_grad():
            wanted = reader(x)[at]
        start = draw_noise(model, len(x), x.shape[2:])
        return descend(
            lambda batch: _missed_share(reader(batch)[at], wanted),
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
    """Return new images with the textures of x: the same channels are active together, wherever it is.

    The loss is the share of the Gram matrices that is missed. Gatys, Ecker and Bethge 2015. The search begins
    with pixels of x in a random order, at a third of their contrast: noise in the colours of x.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        at: The stages after which Gram matrices are compared, the first four unless given.
        size: The side of the result in pixels, that of x unless given.
        steps: How many steps of Adam there are.
        lr: Adam's learning rate.
        tv: The weight of the total variation, which keeps out grain.
        seed: Of the noise to begin with.
        on_step: Called as `on_step(step, images, values)` after each step; returning False ends the work.

    Returns:
        The `images` (N, C, H, W) in [0, 1], and the `curve` (steps, N) of the loss without total variation.

    Raises:
        LearnerError: If there is no such place, an option is out of range, or the batch is not one that the
            model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> x = torch.randn(1, 3, 32, 32)
        >>> explain.texture_synthesis(model, x, at="stage1", size=16, steps=3).images.shape
        torch.Size([1, 3, 16, 16])
    """
    with examining(model, x) as (model, x), seeded(seed):
        loss = _style_loss(model, x, _first_four(model, x) if at is None else at)
        # From grey, few steps end in other colours: early features say little about the mean of a channel.
        pixels = denormalize(model, x).flatten(2)
        height, width = draw_noise(model, 1, x.shape[2:] if size is None else size).shape[2:]
        drawn = pixels[..., torch.randint(pixels.shape[2], (height * width,))].unflatten(2, (height, width))
        start = torch.lerp(pixels.mean(2)[..., None, None], drawn, 0.3)
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
    """Return images with the content of one batch and the textures of another.

    The search starts from the content. The loss is the share of its features that is missed, plus
    `style_weight` times the share of the style's Gram matrices that is missed. Gatys, Ecker and Bethge 2016.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        content: A preprocessed batch (N, C, H, W).
        style: A preprocessed batch (1 or N, C, H, W), of any size.
        content_at: The stage after which features are compared, the fourth unless given.
        style_at: The stages after which Gram matrices are compared, the first four unless given.
        style_weight: The weight of the style in the loss.
        steps: How many steps of Adam there are.
        lr: Adam's learning rate.
        tv: The weight of the total variation, which keeps out grain.
        on_step: Called as `on_step(step, images, values)` after each step; returning False ends the work.

    Returns:
        The `images` (N, C, H, W) in [0, 1], and the `curve` (steps, N) of the loss without total variation.

    Raises:
        LearnerError: If there is neither one style nor one per image, there is no such place, an option is
            out of range, or a batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> photo, cloth = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 24, 24)
        >>> at = {"content_at": "stage2", "style_at": "stage1"}
        >>> explain.style_transfer(model, photo, cloth, **at, steps=3).images.shape
        torch.Size([1, 3, 32, 32])
    """
    if len(style) not in (1, len(content)):
        raise LearnerError(
            f"{len(style)} styles for {len(content)} images. Give one style, or one per image."
        )
    with examining(model, content, style) as (model, content, style):
        first = _first_four(model, content)
        kept = first[-1] if content_at is None else content_at
        painted = _style_loss(model, style, first if style_at is None else style_at)
        reader = Reader(model, [kept], like=content)
        with torch.no_grad():
            wanted = reader(content)[kept]
        return descend(
            lambda batch: _missed_share(reader(batch)[kept], wanted) + style_weight * painted(batch),
            denormalize(model, content), model=model, steps=steps, lr=lr, tv=tv, on_step=on_step,
            desc="style transfer",
        )  # fmt: skip


def gram_matrix(values: Tensor, layout: str) -> Tensor:
    """Return the mean product over positions of each pair of channels (N, C, C) that leave a stage."""
    flat = by_channel(values, layout)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _missed_share(values: Tensor, wanted: Tensor) -> Tensor:
    """Return ‖values − wanted‖² / ‖wanted‖² for each image (N,)."""
    missing = (values - wanted).flatten(1).square().sum(1)
    return missing / wanted.flatten(1).square().sum(1).clamp(min=1e-12)


def _first_four(model: nn.Module, x: Tensor) -> list[str]:
    return stages(model, x).names[:4]


def _style_loss(model: nn.Module, style: Tensor, at: str | Sequence[str]) -> Callable[[Tensor], Tensor]:
    reader = Reader(model, at, like=style)
    with torch.no_grad():
        wanted = {name: gram_matrix(values, reader.layouts[name]) for name, values in reader(style).items()}

    def loss(batch: Tensor) -> Tensor:
        found = {name: gram_matrix(values, reader.layouts[name]) for name, values in reader(batch).items()}
        return torch.stack([_missed_share(found[name], wanted[name]) for name in reader.at]).mean(0)

    return loss
