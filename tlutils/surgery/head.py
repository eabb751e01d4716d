"""A new head on any image classifier, with everything else untouched."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .. import models, runtime
from ..errors import LearnerError
from ..inference import logits_of, require_module, twin
from ..models import layers


def head_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that make the class scores, {dotted name: layer}; the model is not changed.

    One layer for most models, two for distilled ones; auxiliary heads, used in training only, come last.

    Args:
        model: An image classifier.

    Raises:
        LearnerError: When the model is no image classifier.

    Example:
        >>> from tlutils import models, surgery
        >>> surgery.head_layers(models.load("test_resnet", pretrained=False))
        {'fc': Linear(in_features=96, out_features=1000, bias=True)}
    """
    model = require_module(model)
    return {name: model.get_submodule(name) for name in layers.find_layers(model).heads}


def replace_head(
    model: nn.Module, num_classes: int, *, seed: int = 0, dropout: float | None = None
) -> nn.Module:
    """Put a freshly initialised head for `num_classes` classes on `model`, in place, and return the model.

    Only the last layer changes (each of them, where a model has distilled or auxiliary heads): pooling, norms
    and dropout before it stay, and every other tensor is bit-identical. The new head has the old one's data
    type and device, and it trains.

    Args:
        model: An image classifier.
        num_classes: How many classes your images have, 1 or more.
        seed: The head is drawn from this seed; the global random generators do not advance.
        dropout: Rate of the dropout right before the head, from 0 to 1; None keeps it.

    Raises:
        LearnerError: With the model as it was, when it is no classifier, when it has no dropout to set, or
            when the new one does not give `num_classes` columns.

    Example:
        >>> from tlutils import models, surgery
        >>> surgery.replace_head(models.load("test_resnet", pretrained=False), 10, seed=0).fc
        Linear(in_features=96, out_features=10, bias=True)
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise LearnerError(f"num_classes is {num_classes!r}. Expected a whole number of classes, 1 or more.")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise LearnerError(
            f"The model is wrapped in {type(model).__name__}, which would not notice new parameters. "
            "Replace the head first, then wrap the model."
        )
    if dropout is not None and not 0 <= dropout <= 1:
        raise LearnerError(f"dropout is {dropout!r}. Expected the share of values to drop, between 0 and 1.")
    bare = require_module(model)
    if getattr(bare, "num_classes", None) == 0 and hasattr(bare, "reset_classifier"):
        _grow(bare, num_classes)
    trial = layers.find_layers(bare)
    if dropout is not None and not trial.dropouts:
        raise LearnerError(
            "This model has no dropout layer before its head, so its rate cannot be set. "
            "Leave dropout out; a timm model takes drop_rate when it is created."
        )
    with runtime.seeded(seed):
        new = {layer: _like(layer, num_classes) for layer in map(bare.get_submodule, trial.heads)}
    counts = _counts(bare, trial.heads)
    _put(bare, new, {owner: num_classes for owner in counts})
    try:
        _prove(bare, trial.images, num_classes)
    except LearnerError:
        _put(bare, {fresh: layer for layer, fresh in new.items()}, counts)
        raise
    if dropout is not None:
        for name in trial.dropouts:
            bare.get_submodule(name).p = dropout  # type: ignore[assignment]
    models.describe(bare, num_classes=num_classes, classes=None)
    return model


def _grow(model: nn.Module, num_classes: int) -> None:
    """Give a timm model that was made without a head (num_classes=0) one, where timm keeps it."""
    known = {id(p) for p in model.parameters()}
    like = next(p for p in model.parameters() if p.is_floating_point())
    with runtime.seeded(0):
        model.reset_classifier(num_classes)  # type: ignore[operator]
    for parameter in model.parameters():
        if id(parameter) not in known:  # older timm makes them on the processor, in float32
            parameter.data = parameter.data.to(like)


def _like(layer: nn.Module, outputs: int) -> nn.Module:
    """Return a fresh layer of the same kind, type, device and mode with another number of outputs."""
    kind = next(k for k in layers.LINEAR_OR_CONV if isinstance(layer, k))
    kept = ["in_features"] if kind is nn.Linear else ["in_channels", "kernel_size", "stride", "padding"]
    kept += [] if kind is nn.Linear else ["dilation", "padding_mode"]
    width = "out_features" if kind is nn.Linear else "out_channels"
    options: dict[str, Any] = {name: getattr(layer, name) for name in kept} | {width: outputs}
    weight: Any = layer.weight
    new = kind(**options, bias=layer.bias is not None, device=weight.device, dtype=weight.dtype)
    return new.train(layer.training)


def _counts(model: nn.Module, heads: Iterable[str]) -> dict[nn.Module, int]:
    """Return the modules around the heads that keep a class count in `num_classes`, with that count."""
    parts = [name.split(".") for name in heads]
    owners = {model.get_submodule(".".join(p[:i])) for p in parts for i in range(len(p))}
    return {m: m.num_classes for m in owners if type(getattr(m, "num_classes", None)) is int}  # type: ignore[misc]


def _put(model: nn.Module, new: dict[nn.Module, nn.Module], counts: dict[nn.Module, int]) -> None:
    """Replace each layer that is a key of `new`, under all its names, and set the class counts."""
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if child in new:
                module._modules[key] = new[child]
    for owner, count in counts.items():
        owner.num_classes = count  # type: ignore[assignment]


def _prove(model: nn.Module, images: torch.Tensor, num_classes: int) -> None:
    """Raise LearnerError unless the model gives scores of shape (2, num_classes)."""
    failure: Exception | None = None
    with twin(model) as copy, torch.no_grad():
        try:
            shape = tuple(logits_of(copy(images)).shape)
            got = f"scores of shape {shape}"
        except Exception as error:  # whatever a layer says about a width that it did not expect
            failure, shape, got = error, (), f"{type(error).__name__}: {error}"
    if shape != (2, num_classes):
        raise LearnerError(
            f"With the new head the model gave {got}. Expected scores of shape (2, {num_classes}). "
            "The model was put back as it was. Does its forward, or something behind the last layer, count "
            "on the old number of classes?"
        ) from failure
