"""A new head on any image classifier, with everything else untouched."""

import contextlib
import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .. import models, runtime
from ..errors import LearnerError
from ..inference import logits_of, set_mode, twin
from ..models import layers
from .editable import require_editable


def head_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that make the class scores, {dotted name: layer}; the model is not changed.

    One layer for most models, two for distilled ones; auxiliary heads, used in training only, come last.

    Args:
        model: An image classifier.

    Raises:
        LearnerError: When the model is not an image classifier.

    Example:
        >>> from tlutils import models, surgery
        >>> surgery.head_layers(models.load("test_resnet", pretrained=False))
        {'fc': Linear(in_features=96, out_features=1000, bias=True)}
    """
    model = require_editable(model)
    return {name: model.get_submodule(name) for name in layers.find_layers(model).heads}


def linear_head(model: nn.Module) -> nn.Linear | None:
    """Return the head of a model where it is one plain linear layer, which a probe can become; else None.

    Args:
        model: An image classifier.

    Raises:
        LearnerError: When the model is not an image classifier.

    Example:
        >>> from tlutils import models, surgery
        >>> surgery.linear_head(models.load("test_resnet", pretrained=False))
        Linear(in_features=96, out_features=1000, bias=True)
    """
    found = list(head_layers(model).values())
    return found[0] if len(found) == 1 and type(found[0]) is nn.Linear else None


def replace_head(
    model: nn.Module, num_classes: int, *, seed: int = 0, dropout: float | None = None
) -> nn.Module:
    """Put a freshly initialised head for `num_classes` classes on `model`, in place, and return the model.

    As timm's `reset_classifier`, on any network. Only the last layer changes (each of them, where a model has
    distilled or auxiliary heads): pooling, norms and dropout before it stay, and every other tensor is
    bit-identical. The new head has the old one's data type, device and kind (a cosine layer stays one), and
    it trains.

    Args:
        model: An image classifier.
        num_classes: How many classes your images have, 1 or more.
        seed: The head is drawn from this seed; the global random generators do not advance.
        dropout: Rate of the dropout right before the head, from 0 to 1; None keeps it.

    Raises:
        LearnerError: With the model as it was, when it is no classifier, when it has no dropout to set, when
            a head's weight is made by a hook or a parametrization, or when the new one does not give
            `num_classes` columns, in training mode too.

    Example:
        >>> from tlutils import models, surgery
        >>> surgery.replace_head(models.load("test_resnet", pretrained=False), 10, seed=0).fc
        Linear(in_features=96, out_features=10, bias=True)
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise LearnerError(f"num_classes is {num_classes!r}. Expected a whole number of classes, 1 or more.")
    refuse_parallel(model)
    if dropout is not None and not 0 <= dropout <= 1:
        raise LearnerError(f"dropout is {dropout!r}. Expected the share of values to drop, between 0 and 1.")
    bare = require_editable(model)
    if getattr(bare, "num_classes", None) == 0 and hasattr(bare, "reset_classifier"):
        _grow(bare, num_classes)
    trial = layers.find_layers(bare)
    if dropout is not None and not trial.dropouts:
        raise LearnerError(
            "This model has no dropout layer before its head, so its rate cannot be set. "
            "Leave dropout out; a timm model takes drop_rate when it is created."
        )
    for name in trial.heads:
        require_own_weight(bare, name)
    with runtime.seeded(seed):
        # A compiled head goes with its compiler's wrapper, which would go on to run the old one.
        new = {
            bare.get_submodule(name.removesuffix("._orig_mod")): _like(bare, name, num_classes)
            for name in trial.heads
        }
    counts = _counts(bare, trial.heads)
    _put(bare, new, {owner: num_classes for owner in counts})
    try:
        _prove(bare, trial, num_classes)
    except LearnerError:
        _put(bare, {fresh: layer for layer, fresh in new.items()}, counts)
        raise
    if dropout is not None:
        for name in trial.dropouts:
            layers.set_drop_rate(bare.get_submodule(name), dropout)
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


def refuse_parallel(model: nn.Module) -> None:
    """Raise LearnerError for a model in a wrapper that would go on with the parameters of an old head."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise LearnerError(
            f"The model is wrapped in {type(model).__name__}, which would not notice new parameters. "
            "Replace the head first, then wrap the model."
        )


def require_own_weight(model: nn.Module, name: str) -> None:
    """Raise LearnerError unless the weight of the layer of that name is a parameter."""
    if "weight" not in model.get_submodule(name)._parameters:
        raise LearnerError(
            f"The weight of {name} is made at each pass, by pruning, weight or spectral norm, or another "
            "hook or parametrization, and cannot be replaced. Take that off first, with remove_weight_norm, "
            "prune.remove or parametrize.remove_parametrizations, and put it on the new layer."
        )


def _like(model: nn.Module, name: str, outputs: int) -> nn.Module:
    """Return a fresh layer of the same kind, type, device and mode with another number of outputs."""
    layer: Any = model.get_submodule(name)
    new = layers.like(layer, outputs=outputs)
    kind = type(new)
    if type(layer).forward is not kind.forward:
        new = _same_kind(name, layer, new, "out_features" if kind is nn.Linear else "out_channels")
    return new.train(layer.training)


def _same_kind(name: str, layer: Any, plain: Any, width: str) -> Any:
    """Return a layer of the same class with the weights of `plain`, tried with rows of the old ones."""
    old, outputs = getattr(layer, width), getattr(plain, width)
    rows = torch.arange(outputs, device=layer.weight.device) % old
    new = copy.deepcopy(layer)
    for key in (width, "num_classes"):
        if getattr(new, key, None) == old:
            setattr(new, key, outputs)
    with torch.no_grad():
        for module in new.modules():
            for group in (module._parameters, module._buffers):
                for key, tensor in group.items():
                    if tensor is not None and tensor.dim() and tensor.shape[0] == old:
                        row = tensor[rows]
                        group[key] = nn.Parameter(row) if isinstance(tensor, nn.Parameter) else row
        try:
            x = torch.randn(2, layer.weight.shape[1], *([8] * (layer.weight.dim() - 2))).to(layer.weight)
            like = torch.allclose(new.eval()(x), layer(x)[:, rows], rtol=1e-3, atol=1e-5)
        except Exception:  # somebody's own layer, which may want more than its input
            like = False
        if not like:
            raise LearnerError(
                f"The head {name} is a {type(layer).__name__}, which cannot be made for another number of "
                "classes from outside. Put a new one where the model keeps it, or make the model for your "
                "classes."
            )
        for key, fresh in plain.named_parameters():
            new.get_parameter(key).copy_(fresh)
    return new.requires_grad_()


def _counts(model: nn.Module, heads: Iterable[str]) -> dict[nn.Module, int]:
    """Return the modules around the heads that keep a class count in `num_classes`, with that count."""
    parts = [name.split(".") for name in heads]
    owners = {model.get_submodule(".".join(p[:i])) for p in parts for i in range(len(p))}
    return {m: m.num_classes for m in owners if type(getattr(m, "num_classes", None)) is int}  # type: ignore[misc]


def _put(model: nn.Module, new: dict[nn.Module, nn.Module], counts: dict[nn.Module, int]) -> None:
    """Replace each layer that is a key of `new`, and set the class counts."""
    layers.put(model, new)
    for owner, count in counts.items():
        owner.num_classes = count  # type: ignore[assignment]


def _prove(model: nn.Module, trial: layers.Layers, num_classes: int) -> None:
    """Raise LearnerError unless the model gives (2, num_classes) scores, and no others of the old width."""
    failure: Exception | None = None
    old = trial.logits.shape
    with twin(model) as copy:
        try:
            output = copy(trial.images)
            shape = tuple(logits_of(output).shape)
            got = f"scores of shape {shape}"
        except Exception as error:  # whatever a layer says about a width that it did not expect
            failure, shape, got = error, (), f"{type(error).__name__}: {error}"
        if shape == (2, num_classes) != old:
            outputs = [output, layers.kept_tensors(copy, output)]
            set_mode(copy, training=True)
            with contextlib.suppress(Exception):  # two small images may not do for training mode
                output = copy(trial.images)
                outputs += [output, layers.kept_tensors(copy, output)]
            if any(t.shape == old for t in layers.tensors_within(outputs)):
                shape, got = (), f"other scores of shape {tuple(old)} beside the new ones"
    if shape != (2, num_classes):
        raise LearnerError(
            f"With the new head the model gave {got}. Expected scores of shape (2, {num_classes}). "
            "The model was put back as it was. Does its forward, or something after the last layer, count "
            "on the old number of classes?"
        ) from failure
