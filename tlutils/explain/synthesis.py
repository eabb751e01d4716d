"""What does this class, channel or stage respond to most? Images by gradient ascent.

Each function returns images in [0, 1] with the curve of its objective. The model is never changed: frozen
or not, under `no_grad` or not. Seeded; the global random generators come back as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import models
from ..errors import LearnerError
from ..runtime import progress, seeded
from .channels import as_maps, by_channel
from .hooks import (
    Reader,
    checked_batch,
    compute_gradient,
    compute_scores,
    examining,
    parse_indices,
    resolve_target,
    select_scores,
)
from .optimise import (
    OnStep,
    Synthesis,
    ascend,
    check_steps,
    denormalize,
    draw_noise,
    normalize,
    says_stop,
    stack_curve,
)


def class_visualization(
    model: nn.Module,
    target: int | Sequence[int],
    *,
    size: int | None = None,
    start: Tensor | None = None,
    steps: int = 150,
    lr: float = 0.02,
    l2: float = 1.0,
    jitter: int = 16,
    blur: float = 0.5,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Synthesis:
    """Return images that raise the unnormalised score of their class, one for each class in `target`.

    L2 penalty, jitter and blur as in CS231n (Simonyan et al. 2014; Yosinski et al. 2015).

    Args:
        model: An image classifier; it and its gradients stay as they were.
        target: A class, or several.
        size: The side of the images in pixels, the model's own unless given.
        start: A preprocessed batch (N, C, H, W) to begin with, grey noise unless given.
        steps: How many steps of gradient ascent there are.
        lr: How far a step moves an image (root mean square, in [0, 1] units); it falls to a tenth.
        l2: How strongly pixels are pulled towards mid-grey.
        jitter: Up to how many pixels the image is shifted before each step.
        blur: By how many pixels (standard deviation) every tenth result is blurred.
        seed: Of start and jitter.
        on_step: Called as `on_step(step, images, values)` after each step; returning False ends the work.

    Returns:
        The `images` (N, C, H, W) in [0, 1], and the `curve` (steps, N) of the class scores.

    Raises:
        LearnerError: If there is no such class, the size or an option is out of range, or `start` is not a
            batch that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.class_visualization(model, [0, 1], size=32, steps=5).images.shape
        torch.Size([2, 3, 32, 32])
    """
    with examining(model) as (model,), seeded(seed):
        index = parse_indices("target", target)
        first = (
            draw_noise(model, len(index), size)
            if start is None
            else denormalize(model, checked_batch(model, start))
        )
        with torch.no_grad():
            index = resolve_target(index, compute_scores(model, normalize(model, first)))
        return ascend(
            lambda x: select_scores(compute_scores(model, x), index),
            first, model=model, steps=steps, lr=lr, l2=l2, jitter=jitter, blur=blur, on_step=on_step,
            desc="class image",
        )  # fmt: skip


def maximise_activation(
    model: nn.Module,
    at: str,
    channel: int | Sequence[int] | None = None,
    *,
    unit: str = "mean",
    size: int | None = None,
    start: Tensor | None = None,
    steps: int = 100,
    lr: float = 0.02,
    l2: float = 1.0,
    jitter: int = 8,
    blur: float = 0.0,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Synthesis:
    """Return the image that activates a channel most, one for each channel, or a whole stage.

    Erhan et al. 2009; Olah, Mordvintsev and Schubert 2017.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        at: The stage or module after which activations are read.
        channel: A channel, or several; None for the mean square of all.
        unit: "mean" for the channel's mean over all places (tokens count as places), "centre" for its middle.
        size: The side of the images in pixels, the model's own unless given.
        start: A preprocessed batch (N, C, H, W) to begin with, grey noise unless given.
        steps: How many steps of gradient ascent there are.
        lr: How far a step moves an image (root mean square, in [0, 1] units); it falls to a tenth.
        l2: How strongly pixels are pulled towards mid-grey.
        jitter: Up to how many pixels the image is shifted before each step.
        blur: By how many pixels (standard deviation) every tenth result is blurred.
        seed: Of start and jitter.
        on_step: Called as `on_step(step, images, values)` after each step; returning False ends the work.

    Returns:
        The `images` (N, C, H, W) in [0, 1], and the `curve` (steps, N) of the activations.

    Raises:
        LearnerError: If there is no such place or channel, the size or an option is out of range, or `start`
            is not a batch that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.maximise_activation(model, "stage2", [0, 3], size=32, steps=5).images.shape
        torch.Size([2, 3, 32, 32])
    """
    if unit not in ("mean", "centre"):
        raise LearnerError(f"unit={unit!r}. Expected 'mean' (the whole map) or 'centre' (its middle unit).")
    with examining(model) as (model,), seeded(seed):
        wanted = None if channel is None else parse_indices("channel", channel)
        count = 1 if wanted is None else len(wanted)
        first = (
            draw_noise(model, count, size)
            if start is None
            else denormalize(model, checked_batch(model, start))
        )
        reader = Reader(model, [at], like=first)
        if wanted is not None:
            with torch.no_grad():
                width = by_channel(reader(normalize(model, first[:1]))[at], reader.layouts[at]).shape[1]
            if not ((wanted >= 0) & (wanted < width)).all():
                raise LearnerError(f"channel={channel!r}. {at!r} has {width} channels, 0 to {width - 1}.")

        def activation(x: Tensor) -> Tensor:
            values = reader(x)[at]
            flat = by_channel(values, reader.layouts[at])  # (N, C, positions)
            if wanted is None:
                return flat.square().mean((1, 2))
            own = flat[torch.arange(len(x)), wanted]
            return own.mean(1) if unit == "mean" else own[:, _middle(values, reader.layouts[at])]

        return ascend(
            activation,
            first, model=model, steps=steps, lr=lr, l2=l2, jitter=jitter, blur=blur, on_step=on_step,
            desc="activation maximisation",
        )  # fmt: skip


def _middle(values: Tensor, layout: str) -> int:
    maps = as_maps(values, layout)
    if maps is None:
        return by_channel(values, layout).shape[2] // 2
    height, width = maps.shape[2:]
    return height // 2 * width + width // 2


@dataclass(frozen=True)
class FoolingImages(Synthesis):
    """Images that look the same and that the model calls something else.

    Attributes:
        images: A tensor (N, C, H, W) in [0, 1].
        curve: The score of the target class before each step (steps, N).
        difference: Ten times the change, on mid-grey (N, C, H, W).
        fooled: Where the model now sees the target class (N,).
        steps: How many steps each image took (N,).
    """

    difference: Tensor
    fooled: Tensor
    steps: Tensor


def fooling_images(
    model: nn.Module,
    x: Tensor,
    target: int | Sequence[int] | Tensor,
    *,
    steps: int = 100,
    lr: float = 0.002,
    on_step: OnStep | None = None,
) -> FoolingImages:
    """Return x, changed by gradient ascent until the model just predicts another class: adversarial examples.

    Each image stops changing once the model is fooled. Szegedy et al. 2014; CS231n assignment 3.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class that the model should see: one, or one per image.
        steps: At most how many steps there are.
        lr: How far a step moves a pixel (root mean square, in [0, 1] units).
        on_step: Called as `on_step(step, images, values)` after each step; returning False ends the work.

    Returns:
        The `images` in [0, 1] and the `curve` (steps, N) of the scores; the `difference` (N, C, H, W), ten
        times the change on mid-grey; `fooled` (N,), whether the model now sees the class, and after how many
        `steps` (N,).

    Raises:
        LearnerError: If there is no such class, or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> found = explain.fooling_images(model, torch.randn(2, 3, 16, 16), 1, steps=3)
        >>> found.images.shape, found.fooled.shape
        (torch.Size([2, 3, 16, 16]), torch.Size([2]))
    """
    check_steps(steps, lr)
    with examining(model, x) as (model, x):
        original = denormalize(model, x)
        images, curve = original.clone(), []
        taken = torch.full((len(images),), steps, device=images.device)
        for step in progress(range(steps + 1), desc="fooling"):
            images.requires_grad_()
            out = compute_scores(model, normalize(model, images))
            index = resolve_target(target, out)
            fooled = out.argmax(1) == index
            taken = torch.where(fooled, taken.clamp(max=step), taken)
            if fooled.all() or step == steps:
                break
            values = select_scores(out, index)
            gradient = compute_gradient(values.sum(), images)
            length = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
            with torch.no_grad():
                moved = (images + lr * gradient / length).clamp(0, 1)
                images = torch.where(fooled.view(-1, 1, 1, 1), images, moved)
            curve.append(values.detach())
            if says_stop(on_step, step, images, curve[-1]):
                break
        images = images.detach()
    change = (0.5 + 10 * (images - original)).clamp(0, 1)
    return FoolingImages(images, stack_curve(curve, original), change, fooled, taken)


def deepdream(
    model: nn.Module,
    x: Tensor,
    *,
    at: str,
    channel: int | None = None,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    lr: float = 0.02,
    jitter: int = 8,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Synthesis:
    """Return x with more of what a stage, or one channel of it, already sees there, from small to full size.

    At each size the mean square of the activations is raised. Mordvintsev, Olah and Tyka 2015.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        at: The stage or module after which activations are read.
        channel: One channel of them, all unless given.
        octaves: How many sizes there are.
        octave_scale: How much larger each size is than the one before, above 1.
        steps: How many steps of gradient ascent there are at each size.
        lr: How far a step moves an image (root mean square, in [0, 1] units); it falls to a tenth.
        jitter: Up to how many pixels the image is shifted before each step.
        seed: Of the jitter.
        on_step: Called as `on_step(step, images, values)` after each step, with images of the size in hand;
            returning False ends the work.

    Returns:
        The `images` (N, C, H, W) in [0, 1], and the `curve` (steps, N) of the mean square, through all sizes.

    Raises:
        LearnerError: If there is no such place or channel, the image is too small for so many octaves, the
            model takes one size only, or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explain.deepdream(model, torch.randn(1, 3, 32, 32), at="stage2", octaves=1, steps=3).curve.shape
        torch.Size([3, 1])
    """
    if octaves < 1 or octave_scale <= 1:
        raise LearnerError(
            f"octaves={octaves}, octave_scale={octave_scale}. Expected octaves ≥ 1 and a scale above 1."
        )
    with examining(model, x) as (model, x), seeded(seed):
        original = denormalize(model, x)
        full = original.shape[2:]
        sizes = [tuple(round(side / octave_scale**k) for side in full) for k in reversed(range(octaves))]
        if octaves > 1 and models.info(model).fixed_size:
            raise LearnerError(f"{models.info(model).name} takes one image size only. Use octaves=1.")
        if min(sizes[0]) < 32:
            raise LearnerError(
                f"The smallest octave would be {sizes[0][0]}×{sizes[0][1]} pixels, and 32 are needed. Use "
                "fewer octaves or a larger image."
            )
        reader = Reader(model, [at], like=x)

        def activation(batch: Tensor) -> Tensor:
            flat = by_channel(reader(batch)[at], reader.layouts[at])
            if channel is not None and not 0 <= channel < flat.shape[1]:
                raise LearnerError(
                    f"channel={channel}. {at!r} has {flat.shape[1]} channels, 0 to {flat.shape[1] - 1}."
                )
            return (flat if channel is None else flat[:, [channel]]).square().mean((1, 2))

        curves: list[Tensor] = []
        dream, stopped = original, False

        def shown(step: int, images: Tensor, values: Tensor) -> bool:
            nonlocal stopped
            done = sum(len(curve) for curve in curves)
            stopped = says_stop(on_step, done + step, images, values)
            return not stopped

        for size in sizes:
            # What was dreamt so far, on top of the photograph's own detail at this size.
            detail = dream - _resize(original, dream.shape[2:])
            start = (_resize(original, size) + _resize(detail, size)).clamp(0, 1)
            result = ascend(
                activation, start,
                model=model, steps=steps, lr=lr, jitter=jitter, on_step=shown, desc="deepdream",
            )  # fmt: skip
            dream = result.images
            curves.append(result.curve)
            if stopped:
                break
        return Synthesis(_resize(dream, full), torch.cat(curves))


def _resize(images: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False, antialias=True)
