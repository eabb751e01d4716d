"""Make tensors fit a model that was built for another input or another number of classes."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ..errors import LearnerError
from .layers import find_layers, shorten

COUNTER = "num_batches_tracked"  # older checkpoints lack it, and it changes no prediction


def stem_and_head(model: nn.Module) -> tuple[set[str], set[str]]:
    """Return the names of the tensors of the stem and of the head; none for a model that is no classifier."""
    try:
        found = find_layers(model)
    except LearnerError:
        return set(), set()
    stem, head = (
        {f"{layer}.{name}" for layer in names for name in model.get_submodule(layer).state_dict()}
        for names in (found.stems, found.heads)
    )
    return stem, head


def set_stem_channels(model: nn.Module, in_chans: int) -> None:
    """Let the layers that read the image take `in_chans` channels, in place, their weights adapted."""
    stems: list[Any] = [model.get_submodule(name) for name in find_layers(model).stems]
    if not stems or not all(isinstance(stem, nn.Conv2d) and stem.groups == 1 for stem in stems):
        raise LearnerError(
            f"{type(model).__name__} has no plain first convolution, so in_chans={in_chans} cannot be set."
        )
    for stem in stems:
        weight = adapt_input_conv(in_chans, stem.weight.detach(), stem.in_channels)
        stem.weight = nn.Parameter(weight.contiguous(), requires_grad=stem.weight.requires_grad)
        stem.in_channels = in_chans


def shorten_as_saved(
    model: nn.Module, identity: Sequence[str], tensors: Mapping[str, Tensor], *, what: str
) -> None:
    """Put identities where a file says, and a head as wide as the file's, in place. Raises LearnerError."""
    found, modules = find_layers(model), dict(model.named_modules(remove_duplicate=False))
    kept = [*found.stems, *found.heads]
    head = tensors.get(f"{found.heads[0]}.weight")
    wrong = ""
    for name in identity:
        if not name or name not in modules:
            wrong = f"it makes {name!r} an identity, which is no module of {type(model).__name__}"
        elif lost := [layer for layer in kept if f"{layer}.".startswith(f"{name}.")]:
            wrong = f"it makes {name!r} an identity, which has {lost[0]}, the stem or the head, in it"
        elif any(name.startswith(f"{other}.") for other in identity):
            wrong = f"it makes {name!r} an identity, and what that is in as well"
    if len(found.heads) > 1 or head is None or head.dim() < 2:
        wrong = f"it shortens a {type(model).__name__} without one head"
    elif not wrong:
        shorten(model, identity, found.heads[0], head.shape[1])
        try:
            if find_layers(model).heads != found.heads:
                wrong = f"its {type(model).__name__} makes the scores elsewhere than in {found.heads[0]}"
        except LearnerError as error:
            wrong = str(error).rstrip(".")
    if wrong:
        raise LearnerError(
            f"What {what} says of its model cannot be used: {wrong}. The file was changed, or written by "
            f"another version. Its tensors still go into a model: models.load_weights(model, {what!r})."
        )


def fit_tensors(
    model: nn.Module, state: MutableMapping[str, Tensor], *, what: str, ignore: tuple[str, ...] = ()
) -> list[str]:
    """Change `state` in place until `model` can take it, and return the names of the head tensors left out.

    Two differences are adapted: a stem for another number of channels (weights summed over RGB for one
    channel, repeated and rescaled for others), and a head of another width, which keeps the model's own
    initial values. Everything else raises LearnerError and names the tensor with both shapes, before anything
    is copied. `ignore`: prefixes of tensors in `state` that the model may lack (auxiliary heads).
    """
    own = model.state_dict()
    for key in [key for key in state if key not in own and key.startswith(ignore)] if ignore else []:
        del state[key]
    surplus = sorted(set(state) - set(own))
    missing = sorted(key for key in set(own) - set(state) if not key.endswith(COUNTER))
    if surplus or missing:
        raise LearnerError(
            f"{what} does not fit {type(model).__name__}: "
            + "; ".join(
                f"{len(keys)} tensors {word} (first: {keys[0]!r})"
                for keys, word in ((missing, "are missing"), (surplus, "are too many"))
                if keys
            )
            + ". The file belongs to another architecture or another version of it."
        )
    differ = [key for key, tensor in state.items() if tensor.shape != own[key].shape]
    stem, head = stem_and_head(model) if differ else (set(), set())
    skipped = []
    for key in differ:
        tensor, shape = state[key], own[key].shape
        if key in stem and tensor.ndim == 4 and tensor[:, 0].shape == own[key][:, 0].shape:
            state[key] = adapt_input_conv(shape[1], tensor, tensor.shape[1])
        elif key in head and tensor.shape[1:] == shape[1:]:
            skipped.append(key)
            del state[key]
        else:
            raise shape_error(what, key, key, tensor, own[key])
    return skipped


def shape_error(what: str, theirs: str, ours: str, tensor: Tensor, own: Tensor) -> LearnerError:
    """Return the error for two tensors that should have had one shape."""
    return LearnerError(
        f"{what} does not fit: its tensor {theirs!r} has shape {tuple(tensor.shape)}, "
        f"and the model's {ours!r} has {tuple(own.shape)}. Nothing was copied."
    )


def check_values(what: str, theirs: str, tensor: Tensor, own: Tensor) -> None:
    """Raise LearnerError unless a tensor holds finite numbers of the kind that the model's own holds.

    Infinity may stand where the model's own tensor has it, as masks do. Variances are 0 or more.
    """
    if tensor.is_meta or tensor.layout is not torch.strided:
        kind = "has no values (it was on the meta device)" if tensor.is_meta else f"is {tensor.layout}"
        raise LearnerError(
            f"{what} cannot be used: its tensor {theirs!r} {kind}. Expected plain tensors: save the "
            "state dict of a model that runs. Nothing was copied."
        )
    kinds = [_kind(tensor), _kind(own)]
    if kinds[0] != kinds[1]:
        raise LearnerError(
            f"{what} does not fit: its tensor {theirs!r} holds {kinds[0]} ({tensor.dtype}), and the model's "
            f"holds {kinds[1]} ({own.dtype}). Expected weights as they were trained, not compressed. "
            "Nothing was copied."
        )
    if kinds[0] != "floating point":
        return
    allowed = torch.zeros((), dtype=torch.bool) if own.is_meta else own.detach().cpu().isinf()
    lost = tensor.cpu().to(own.dtype).isinf() & ~allowed
    wrong = ""
    if tensor.isnan().any():
        wrong = "NaN, as after a training that diverged. Take an earlier checkpoint"
    elif (tensor.cpu().isinf() & ~allowed).any():
        wrong = "infinite values, as after a training that diverged. Take an earlier checkpoint"
    elif lost.any():
        wrong = (
            f"{tensor.abs().max():.3g}, too large for the model's {own.dtype}. Load it into a model of "
            f"{tensor.dtype}"
        )
    elif theirs.endswith("running_var") and tensor.numel() and tensor.min() < 0:
        wrong = "negative variances, which no training gives. The file is damaged: fetch or write it again"
    if wrong:
        raise LearnerError(f"{what} cannot be used: its tensor {theirs!r} holds {wrong}. Nothing was copied.")


def _kind(tensor: Tensor) -> str:
    """Return in words what numbers a tensor holds."""
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_complex():
        return "complex"
    if tensor.is_floating_point():
        return "floating point" if tensor.itemsize > 1 else "floating point of 8 bits"
    return "true or false" if tensor.dtype is torch.bool else "whole numbers"


def copy_in(model: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Copy tensors into a model, all or none: after an error, the model is as it was."""
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    versioned = model.state_dict()
    versions = versioned._metadata  # type: ignore[attr-defined]
    versioned.clear()
    versioned.update(state)
    versioned._metadata = versions  # type: ignore[attr-defined]  # some modules (MNASNet) insist on theirs
    try:
        model.load_state_dict(versioned, strict=False)
    except Exception as error:  # a model may load in a way of its own
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if not torch.equal(tensor, before[name]):
                    tensor.copy_(before[name])
        reason = str(error).strip().replace("\n", " ")
        raise LearnerError(
            f"{what} could not be copied into {type(model).__name__} ({reason}). The model is as it was."
        ) from error


def in_order(model: nn.Module, state: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """Return `state` under the model's own names, tensor by tensor in order; shapes are compared first."""
    own = model.state_dict()
    if len(own) != len(state):
        raise LearnerError(f"{what} holds {len(state)} tensors and the model {len(own)}. Nothing was copied.")
    for (theirs, tensor), (ours, mine) in zip(state.items(), own.items(), strict=True):
        if tensor.shape != mine.shape:
            raise shape_error(what, theirs, ours, tensor, mine)
    return dict(zip(own, state.values(), strict=True))
