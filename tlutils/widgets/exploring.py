"""Explorers of what a network sees: a channel and its patches, a covered square, two attributions."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import explain, models, plots, surgery
from ..errors import LearnerError, unknown
from .base import Explorer, dropdown, int_slider, one_image, option_slider

METHODS = {
    "occlusion": "occlusion",
    "saliency": "saliency",
    "smoothgrad": "SmoothGrad",
    "guided_backprop": "guided backprop",
    "deconvnet": "deconvnet",
    "integrated_gradients": "integrated gradients",
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
}
"""The attributions of `explain`, and what they are called in prose."""


def explore_channels(
    model: nn.Module, images: Tensor, *, at: str | None = None, channel: int = 0, count: int = 6
) -> Explorer:
    """Return an explorer of channels: a photograph, a channel's activation map, and its top patches.

    A stage that is chosen for the first time passes all images through the network once.

    Args:
        model: An image classifier with at least one stage that has height and width.
        images: A preprocessed batch (N, C, H, W): one is shown, and the top patches come from all.
        at: The stage to begin with, the second that has feature maps unless given.
        channel: The channel to begin with, counted from 0.
        count: How many patches are shown.

    Raises:
        LearnerError: If no stage has feature maps, or there is no such stage or channel, or the batch is not
            one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import widgets
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explorer = widgets.explore_channels(model, torch.randn(2, 3, 32, 32), count=2)
        >>> explorer.set(at="stage1", channel=3)
        >>> explorer.controls["channel"].max
        3
    """
    images = explain.checked_batch(model, images).cpu()
    known = surgery.stages(model, input_size=(images.shape[1], images.shape[2], images.shape[3]))
    spatial = [s.name for s in known if s.map_size not in (None, (1, 1))]
    if not spatial:
        raise LearnerError(
            f"{models.info(model).name} has no stage with feature maps: nothing with two spatial axes leaves "
            f"{', '.join(known.names)}. A convolutional network has some, as 'tf_efficientnet_lite0' does."
        )
    if at is not None and at not in spatial:
        raise unknown("stage with feature maps", at, spatial)
    sizes = {name: known[name].num_channels for name in spatial}
    at = at or spatial[min(1, len(spatial) - 1)]
    if not 0 <= channel < sizes[at]:
        raise LearnerError(f"There is no channel {channel}: {at!r} has {sizes[at]}, 0 to {sizes[at] - 1}.")
    photos = explain.denormalize(model, images)

    @cache
    def patches(at: str) -> dict[int, list[Any]]:
        return explain.top_patches(
            model, images.split(16), at=at, channels=range(sizes[at]), count=len(images)
        )

    @cache
    def maps(at: str, image: int) -> Tensor:
        x = images[image : image + 1]
        found = explain.as_maps(explain.activations(model, x, at=[at])[at], known[at].layout)
        assert found is not None  # the stage has more than one place
        return found[0]

    def draw(at: str, channel: int, image: int) -> plots.Picture:
        values = maps(at, image)[channel]
        ranked = patches(at)[channel]  # of every picture, so the one that is shown is among them
        best, own = ranked[:count], next(patch for patch in ranked if patch.image == image)
        seen = own.box[3] - own.box[1], own.box[2] - own.box[0]
        alt = (
            f"{at}, channel {channel} of {sizes[at]}, picture {image}: the activation map has "
            f"{values.shape[0]}×{values.shape[1]} places. {_strength(values)} "
            f"That place sees {seen[0]}×{seen[1]} pixels. The {len(best)} best patches "
            f"come from {_pictures(sorted({patch.image for patch in best}))}."
        )
        shown = [explain.denormalize(model, patch.pixels[None])[0] for patch in best]
        return plots.explorers.channel(
            photos[image], values, shown, box=own.box, title=f"{at}, channel {channel}", alt=alt
        )

    steps = option_slider("at", spatial, at)
    slider = int_slider("channel", 0, sizes[at] - 1, channel)
    for control in (steps, slider):
        control.continuous_update = False
    steps.observe(lambda change: setattr(slider, "max", sizes[change.new] - 1), "value")
    pictures = dropdown("picture", list(range(len(images))), 0)
    note = "a photograph, a channel's activation map, and the patches that activate the channel most"
    return Explorer("Channels", draw, note=note, at=steps, channel=slider, image=pictures)


def _strength(values: Tensor) -> str:
    if float(values.max() - values.min()) == 0:
        return "It is the same everywhere: the channel is silent here."
    return f"It is strongest {_where(values)}, at {float(values.max()):.2g}."


def _pictures(numbers: Sequence[int]) -> str:
    return f"picture{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _where(values: Any) -> str:
    """Return in words where a map (h, w) is strongest."""
    height, width = values.shape
    row, column = divmod(int(np.argmax(np.asarray(values))), width)
    down = ("at the top", "in the middle", "at the bottom")[min(2, 3 * row // height)]
    across = ("left", "", "right")[min(2, 3 * column // width)]
    return f"{down} {across}".strip()


def explore_occlusion(
    model: nn.Module, image: Tensor, target: int | None = None, *, window: int | None = None
) -> Explorer:
    """Return an explorer of what a covered square does to the score of a class (Zeiler and Fergus 2014).

    The square has the data's mean colour. Sliders, or a mouse on the photograph, move its centre in steps of
    a 28th of the shorter side.

    Args:
        model: An image classifier.
        image: One preprocessed photograph (C, H, W) or (1, C, H, W).
        target: The class to ask about, the model's own answer unless given.
        window: The side of the square in pixels, a quarter of the shorter side unless given.

    Raises:
        LearnerError: If there is no such class, the square is larger than the image, or the batch is not one
            that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import widgets
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explorer = widgets.explore_occlusion(model, torch.randn(3, 32, 32), window=8)
        >>> explorer.set(row=4, column=4)
        >>> explorer.screen.message[:32]
        'A square of 8×8 pixels around ro'
    """
    x, index, before, names = _ask(model, image, target)
    _, _, height, width = x.shape
    side = min(height, width)
    window = max(1, side // 4) if window is None else window
    if not 1 <= window <= side:
        raise LearnerError(f"window={window} on an image of {height}×{width} pixels. Expected 1 to {side}.")

    def draw(row: int, column: int, window: int) -> plots.Picture:
        hidden, (top, left) = x.clone(), (row - window // 2, column - window // 2)
        box = max(0, left), max(0, top), min(width, left + window), min(height, top + window)
        hidden[:, :, box[1] : box[3], box[0] : box[2]] = 0
        after = explain.score_classes(model, hidden)[0][0].cpu()
        fall = float(before[index] - after[index])
        now, moved = int(after.argmax()), f"{'falls' if fall >= 0 else 'rises'} by {abs(fall):.1f}"
        alt = (
            f"A square of {window}×{window} pixels around row {row}, column {column} is covered. The score "
            f"of {names[index]} {moved} to {float(after[index]):.1f}. The network's "
            f"answer is {'still ' * (now == int(before.argmax()))}{names[now]}."
        )
        rivals = [int(k) for k in after.topk(min(5, len(after))).indices if int(k) != index][:3]
        shown = [index, *rivals]
        chances = [{names[k]: float(p[k]) for k in shown} for p in (before.softmax(0), after.softmax(0))]
        title = f"Covered: the score of “{names[index]}” {moved}"
        return plots.explorers.covered(
            explain.denormalize(model, hidden)[0], *chances, box=box, title=title, alt=alt
        )

    step = max(1, side // 28)

    def on_step(pixel: float) -> int:
        return step * round(pixel / step)

    controls = {
        "row": int_slider("row", 0, on_step(height - step), on_step(height / 2), step=step),
        "column": int_slider("column", 0, on_step(width - step), on_step(width / 2), step=step),
        "window": int_slider("window", step, on_step(side), max(step, on_step(window)), step=step),
    }
    note = "a covered square on a photograph, and what it does to the probabilities of classes"
    explorer = Explorer("Occluder", draw, note=note, pointed=True, **controls)

    def move(change: Any) -> None:
        """Bring the square's centre to the pixel of the photograph that the pointer is on."""
        right, down = change.new
        photo, box = explorer.picture.axes[0], explorer.picture.bbox
        column, row = photo.transData.inverted().transform((right * box.width, (1 - down) * box.height))
        if -0.5 <= row <= height - 0.5 and -0.5 <= column <= width - 0.5:
            explorer.set(row=on_step(row), column=on_step(column))

    explorer.screen.observe(move, "place")
    return explorer


def explore_attributions(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    left: str = "saliency",
    right: str = "grad_cam",
) -> Explorer:
    """Return an explorer of two attributions of one answer, side by side, each chosen from a list.

    A map is computed when it is first chosen: occlusion takes seconds. A method that has no meaning on this
    model says why.

    Args:
        model: An image classifier.
        image: One preprocessed photograph (C, H, W) or (1, C, H, W).
        target: The class to ask about, the model's own answer unless given.
        left: The name of an attribution in `explain`, for example "occlusion".
        right: Another one.

    Raises:
        LearnerError: If there is no such class or attribution, or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import widgets
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> explorer = widgets.explore_attributions(model, torch.randn(3, 32, 32), right="guided_backprop")
        >>> explorer.controls["right"].value
        'guided_backprop'
    """
    x, index, _, names = _ask(model, image, target)
    for name in (left, right):
        if name not in METHODS:
            raise unknown("attribution", name, METHODS)
    photo = explain.denormalize(model, x)[0]

    @cache
    def attributed(method: str) -> Tensor | LearnerError:
        try:
            return getattr(explain, method)(model, x, index)[0].detach().cpu().abs()
        except LearnerError as error:  # this method on this model; the picture and the class are right
            return error

    def draw(left: str, right: str) -> plots.Picture:
        found = {METHODS[name]: attributed(name) for name in (left, right)}
        maps = {name: None if isinstance(m, LearnerError) else m for name, m in found.items()}
        refusals = [str(m) for m in found.values() if isinstance(m, LearnerError)]
        told = [f"{name} is strongest {_where(m)}" for name, m in maps.items() if m is not None]
        alt = f"Why “{names[index]}”? " + ", ".join(told) + ". " * bool(told) + " ".join(refusals)
        if len(maps) == 2 and not refusals:
            alt += _agreement(*maps.values())
        return plots.explorers.two_maps(photo, maps, title=f"Why “{names[index]}”?", alt=alt.strip())

    options = [(words, name) for name, words in METHODS.items()]
    note = "a photograph and two maps of where the network's answer came from, side by side"
    sides = {"left": dropdown("left", options, left), "right": dropdown("right", options, right)}
    return Explorer("Attributions", draw, note=note, **sides)


def _agreement(one: Tensor | None, other: Tensor | None) -> str:
    from scipy.stats import spearmanr

    # On squares of eight pixels: fine maps and coarse ones are compared at a coarse map's scale.
    coarse = [torch.nn.functional.avg_pool2d(m[None], 8, ceil_mode=True).flatten() for m in (one, other)]  # type: ignore[index]
    if any(float(c.max() - c.min()) == 0 for c in coarse):
        return "One of them is the same everywhere."
    correlation = float(spearmanr(*coarse).statistic)
    return f"Their order of places agrees with a rank correlation of {correlation:.2f} (1 is the same order)."


def _ask(model: nn.Module, image: Tensor, target: int | None) -> tuple[Tensor, int, Tensor, Sequence[str]]:
    """Return the checked image (1, C, H, W), the class to ask about, all scores (K,), and classes' names."""
    x = explain.checked_batch(model, one_image(image))
    out, index = explain.score_classes(model, x, target)
    known = models.info(model).classes
    names = known if known and len(known) == out.shape[1] else [f"class {k}" for k in range(out.shape[1])]
    return x.cpu(), int(index), out[0].cpu(), names
