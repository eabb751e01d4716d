"""A first layer for images with another number of channels, made from the pretrained one."""

from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import nn

from .. import models
from ..errors import LearnerError
from ..inference import logits_of, twin
from ..models import layers
from .editable import require_editable
from .head import require_own_weight


def replace_stem(model: nn.Module, in_chans: int) -> nn.Module:
    """Let `model` take images of `in_chans` channels, in place, and return it.

    Each layer that reads the image gets new weights made from the old: summed over the colours for one
    channel, so that a grey image x gives exactly what (x, x, x) gave; otherwise repeated in order and scaled
    by old / new channels. Everything else is bit-identical. `models.info` gets the average mean and std of
    the colours. torchvision's GoogLeNet and Inception stop normalising inside (`transform_input`) and state
    mean 0.5, std 0.5.

    Args:
        model: An image classifier that begins with a convolution.
        in_chans: Number of channels of your images: 1 for grey.

    Raises:
        LearnerError: With the model as it was, where the stem is no convolution, or when the new one does not
            do as promised.

    Example:
        >>> import torch
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> grey = torch.rand(1, 1, 160, 160)
        >>> before = model(grey.expand(1, 3, 160, 160))
        >>> torch.allclose(surgery.replace_stem(model, 1)(grey), before, atol=1e-5)
        True
    """
    if isinstance(in_chans, bool) or not isinstance(in_chans, int) or in_chans < 1:
        raise LearnerError(
            f"in_chans is {in_chans!r}. Expected a number of channels: 1 for grey, 3 for colours."
        )
    bare = require_editable(model)
    info = models.info(bare)
    channels, height, width = info.input_size
    if in_chans == channels:
        return model
    trial = layers.find_layers(bare)
    stems: list[Any] = [bare.get_submodule(name) for name in trial.stems]
    if not stems or not all(isinstance(s, nn.Conv2d) and s.groups == 1 for s in stems):
        raise LearnerError(
            f"{type(bare).__name__} reads the image with {', '.join(trial.stems) or 'no layer'}, which is no "
            f"plain convolution. Make the model with models.load(..., in_chans={in_chans}) instead."
        )
    for name in trial.stems:
        require_own_weight(bare, name)
    inside = bool(getattr(bare, "transform_input", False))
    if inside:
        bare.transform_input = False  # type: ignore[assignment]
    grey = trial.images[:, :1]
    before = _scores(bare, grey.expand_as(trial.images))
    old = [(s, s.weight, s.in_channels) for s in stems]
    for stem in stems:
        weight = adapt_input_conv(in_chans, stem.weight.detach(), channels)
        stem.weight = nn.Parameter(weight.contiguous(), requires_grad=stem.weight.requires_grad)
        stem.in_channels = weight.shape[1]
    try:
        after = _scores(bare, grey.expand(-1, in_chans, -1, -1))
        if not torch.allclose(after, before, rtol=1e-3, atol=1e-4 * (1 + before.abs().max().item())):
            raise LearnerError(
                f"The model for {in_chans} channels gave other scores for a grey image than the model for "
                f"{channels}. It was put back as it was; does it use the colours elsewhere?"
            )
    except Exception as error:
        for stem, parameter, count in old:
            stem.weight, stem.in_channels = parameter, count
        if inside:
            bare.transform_input = True  # type: ignore[assignment]
        if isinstance(error, LearnerError):
            raise
        raise LearnerError(
            f"With a stem for {in_chans} channels {type(bare).__name__} could not run: {error}. It was put "
            f"back as it was. Make the model with models.load(..., in_chans={in_chans}) instead."
        ) from error
    facts: dict[str, Any] = {"mean": 0.5, "std": 0.5} if inside else {}
    models.describe(bare, input_size=(in_chans, height, width), **facts)
    return model


def _scores(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with twin(model) as copy, torch.no_grad():
        return logits_of(copy(images))
