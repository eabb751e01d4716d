"""What a stage gives: activations, dead channels, and the patches that activate a channel most."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import surgery
from ..errors import LearnerError
from ..runtime import progress
from .hooks import Reader, examining


def as_maps(values: Tensor, layout: str) -> Tensor | None:
    """Return what leaves a stage as maps (N, C, h, w); None for tokens, vectors, and maps of one place.

    Args:
        values: What leaves the stage, as `activations` returns it.
        layout: The order of its axes, as "NCHW" or "NHWC": `Stage.layout` of `surgery.stages`.

    Example:
        >>> import torch
        >>> from tlutils import explain
        >>> explain.as_maps(torch.zeros(2, 7, 5, 16), "NHWC").shape
        torch.Size([2, 16, 7, 5])
    """
    if sorted(layout) != sorted("NCHW"):
        return None
    maps = values.permute([layout.index(letter) for letter in "NCHW"])
    return maps if maps[0, 0].numel() > 1 else None


def by_channel(values: Tensor, layout: str) -> Tensor:
    """Return what leaves a stage as (N, channels, positions); tokens are positions, a vector has one."""
    if values.ndim < 3:
        return values.reshape(len(values), -1, 1)
    return values.movedim(layout.index("C"), 1).flatten(2)


def activations(model: nn.Module, x: Tensor, *, at: str | Sequence[str]) -> dict[str, Tensor]:
    """Return {name: what leaves there} for a batch, as the model gives it, without gradients.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        at: The stage or module after which activations are read, or a list of them.

    Returns:
        A tensor for each name: a convolutional stage gives (N, C, h, w), a transformer's tokens (N, T, D).

    Raises:
        LearnerError: If there is no such place, no single tensor leaves there, or the batch is not one that
            the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> found = explain.activations(model, torch.randn(2, 3, 16, 16), at=["stage1", "pool"])
        >>> {at: tuple(values.shape) for at, values in found.items()}
        {'stage1': (2, 4, 7, 7), 'pool': (2, 8)}
    """
    with examining(model, x) as (model, x), torch.no_grad():
        return Reader(model, at, like=x)(x)


def _read(model: nn.Module, x: Tensor, at: str) -> tuple[Tensor, str]:
    """Return what leaves a stage or module for a batch, and its layout."""
    with examining(model, x) as (model, x), torch.no_grad():
        reader = Reader(model, at, like=x)
        return reader(x)[at], reader.layouts[at]


@surgery.assume_unchanged()
def dead_channels(model: nn.Module, batches: Iterable[Tensor], *, at: str) -> Tensor:
    """Return which channels of a stage are dead (C,): the same value everywhere, on every image.

    After a ReLU such a channel is zero throughout. On a few images of one kind many late channels look dead:
    take many, and different ones.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        batches: Preprocessed batches (N, C, H, W): a list of tensors, or a loader of tensors or (tensor,
            label).
        at: The stage or module after which activations are read.

    Raises:
        LearnerError: If no batch arrives, there is no such place, or a batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> _ = torch.nn.init.constant_(model[0].bias, -100.0)
        >>> explain.dead_channels(model, [torch.randn(2, 3, 16, 16)], at="stage1")
        tensor([True, True, True, True])
    """
    ends: list[tuple[Tensor, Tensor]] = []
    for x in progress(_batches(batches), desc=f"channels of {at}"):
        values = by_channel(*_read(model, x, at))
        ends.append((values.amin((0, 2)), values.amax((0, 2))))
    if not ends:
        raise LearnerError("No batch arrived, so nothing can be said about channels. Give at least one.")
    low, high = torch.stack([e[0] for e in ends]).amin(0), torch.stack([e[1] for e in ends]).amax(0)
    return high - low <= 1e-6 * torch.maximum(high.abs(), low.abs())


def _batches(batches: Iterable[Any]) -> Iterable[Tensor]:
    if isinstance(batches, Tensor):
        batches = [batches]
    return (batch[0] if isinstance(batch, tuple | list) else batch for batch in batches)


@dataclass(frozen=True)
class Patch:
    """A piece of an image that activates a channel.

    Attributes:
        image: The number of the image, in the order in which they came.
        value: The activation of the strongest unit.
        unit: Its place (row, column) on the activation map.
        box: What this unit sees: (left, top, right, bottom) in pixels, right and bottom excluded.
        pixels: The preprocessed image there (C, h, w).
    """

    image: int
    value: float
    unit: tuple[int, int]
    box: tuple[int, int, int, int]
    pixels: Tensor


@surgery.assume_unchanged()
def top_patches(
    model: nn.Module, batches: Iterable[Tensor], *, at: str, channels: Sequence[int], count: int = 9
) -> dict[int, list[Patch]]:
    """Return, for each channel, the images that activate it most, cropped to what their strongest unit sees.

    At the border the crop is cut off. Where a unit sees the whole image the patch is the image. Zeiler and
    Fergus 2014.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        batches: Preprocessed batches (N, C, H, W): a list of tensors, or a loader of tensors or (tensor,
            label).
        at: The stage or module after which activations are read.
        channels: The channels, counted from 0.
        count: How many patches there are for each channel, one per image.

    Returns:
        {channel: patches}, the strongest first. A patch has the number of its `image`, the `value` and place
        (row, column) of its `unit`, the `box` (left, top, right, bottom) that this unit sees, right and
        bottom excluded, and the `pixels` (C, h, w) there.

    Raises:
        LearnerError: If no batch arrives, what leaves there has no height and width, there is no such place
            or channel, or a batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> batches = [torch.randn(8, 3, 16, 16)]
        >>> patches = explain.top_patches(model, batches, at="stage1", channels=[0, 2], count=3)
        >>> {channel: [tuple(patch.pixels.shape) for patch in found] for channel, found in patches.items()}
        {0: [(3, 3, 3), (3, 3, 3), (3, 3, 3)], 2: [(3, 3, 3), (3, 3, 3), (3, 3, 3)]}
    """
    wanted = list(channels)
    found: dict[int, list[tuple[float, int, tuple[int, int], Tensor]]] = {channel: [] for channel in wanted}
    seen = 0
    for x in progress(_batches(batches), desc=f"patches for {at}"):
        output, layout = _read(model, x, at)
        values = as_maps(output, layout)
        if values is None:
            raise LearnerError(f"{at!r} gives {tuple(output.shape)}, which has no spatial axes to crop by.")
        wrong = [channel for channel in wanted if not 0 <= channel < values.shape[1]]
        if wrong:
            known = values.shape[1]
            raise LearnerError(f"There is no channel {wrong[0]}: {at!r} has {known}, 0 to {known - 1}.")
        best, where = values[:, wanted].flatten(2).max(2)  # (N, channels)
        for c, channel in enumerate(wanted):
            units = [divmod(int(w), values.shape[3]) for w in where[:, c]]
            found[channel] += [(float(best[i, c]), seen + i, units[i], x[i]) for i in range(len(x))]
            found[channel] = sorted(found[channel], key=lambda item: -item[0])[:count]
        seen += len(x)
    if not seen:
        raise LearnerError("No batch arrived, so no patch was found. Give at least one.")
    units = [unit for channel in wanted for _, _, unit, _ in found[channel]]
    boxes = iter(receptive_boxes(model, x[:1], units, at=at))
    return {channel: [_patch(*item, next(boxes)) for item in found[channel]] for channel in wanted}


def _patch(
    value: float, image: int, unit: tuple[int, int], x: Tensor, box: tuple[int, int, int, int]
) -> Patch:
    left, top, right, bottom = box
    return Patch(image, value, unit, box, x[:, top:bottom, left:right])


def receptive_boxes(
    model: nn.Module, x: Tensor, units: Sequence[tuple[int, int]], *, at: str
) -> list[tuple[int, int, int, int]]:
    """Return the receptive field of units of a stage: (left, top, right, bottom) in the image for each.

    Measured, not derived from kernel sizes, so padding of any kind is right: pixels are set to NaN to see
    which units become NaN. Binary search finds the fields of three units per axis; the others follow from
    the stride.

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W), of which the size counts.
        units: Places (row, column) on the stage's activation maps.
        at: The stage or module after which activations are read.

    Returns:
        (left, top, right, bottom) in pixels for each unit, right and bottom excluded.

    Raises:
        LearnerError: If what leaves there has no height and width, there is no such place, or the batch is
            not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils.explain import channels
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> channels.receptive_boxes(model, torch.randn(1, 3, 16, 16), [(0, 0), (1, 2)], at="stage2")
        [(0, 0, 7, 7), (8, 4, 15, 11)]
    """
    with examining(model, x[:1]) as (model, x), torch.no_grad():
        reader = Reader(model, [at], like=x)

        def maps(images: Tensor) -> Tensor:
            found = as_maps(reader(images)[at], reader.layouts[at])
            if found is None:
                raise LearnerError(
                    f"{at!r} has no two spatial axes, so its units see no box. Choose an earlier stage."
                )
            return found

        sides = [_extent(maps, x, axis) for axis in (2, 3)]
    boxes = []
    for unit in units:
        (top, bottom), (left, right) = (side(index) for side, index in zip(sides, unit, strict=True))
        boxes.append((left, top, right, bottom))
    return boxes


def _extent(run: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Callable[[int], tuple[int, int]]:
    """Return the function from a unit's index along `axis` to the pixels [first, last) that it sees there."""
    length = x.shape[axis]
    count = run(x).shape[axis]
    # Each question is (unit, whether pixels from `cut` on count, or those before), bisected in one batch.
    asked = [(0, True), (min(1, count - 1), True), (count - 1, False)]
    low, high = [0] * len(asked), [length] * len(asked)
    pixels = torch.arange(length, device=x.device)
    while any(h - b > 1 for b, h in zip(low, high, strict=True)):
        cuts = [(b + h) // 2 for b, h in zip(low, high, strict=True)]
        batch = x.repeat(len(asked), 1, 1, 1)
        for image, cut, (_, after) in zip(batch, cuts, asked, strict=True):
            image.transpose(0, axis - 1)[(pixels >= cut) if after else (pixels < cut)] = torch.nan
        seen = run(batch).isnan().any(1).transpose(1, axis - 1)  # (questions, along the axis, across)
        for i, (unit, after) in enumerate(asked):
            if bool(seen[i, unit].any()) == after:
                low[i] = cuts[i]
            else:
                high[i] = cuts[i]
    first_end, second_end, last_start = low[0] + 1, low[1] + 1, low[2]
    step = second_end - first_end if first_end < second_end < length else round(length / count)

    def extent(index: int) -> tuple[int, int]:
        start = last_start - (count - 1 - index) * step
        return max(0, start), min(length, first_end + index * step)

    return extent
