"""Make tensors fit a model that was built for another input or another number of classes."""

from collections.abc import Mapping, MutableMapping

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ..errors import LearnerError

COUNTER = "num_batches_tracked"  # older checkpoints lack it, and it changes no prediction


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d] | None:
    """Return the name and module of the last linear or convolutional layer: the head of a classifier."""
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else None


def first_conv(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Return the name and module of the first 2-d convolution: the stem."""
    return next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)


def set_stem_channels(model: nn.Module, in_chans: int) -> None:
    """Rebuild the first convolution in place for `in_chans` channels, its weights adapted by `sum_stem`."""
    found = first_conv(model)
    if found is None or found[1].groups != 1:
        raise LearnerError(
            f"{type(model).__name__} has no plain first convolution, so in_chans={in_chans} cannot be set."
        )
    name, old = found
    if old.in_channels == in_chans:
        return
    new = nn.Conv2d(
        in_chans,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    with torch.no_grad():
        new.weight.copy_(adapt_input_conv(in_chans, old.weight.detach()))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    model.set_submodule(name, new)


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
    stem, head = first_conv(model), last_layer(model)
    stem_name = f"{stem[0]}.weight" if stem else ""
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
    skipped = []
    for key, tensor in list(state.items()):
        if tensor.shape == own[key].shape:
            continue
        if (
            key == stem_name
            and tensor.shape[2:] == own[key].shape[2:]
            and tensor.shape[0] == own[key].shape[0]
        ):
            state[key] = adapt_input_conv(own[key].shape[1], tensor)
        elif head and key.rpartition(".")[0] == head[0] and tensor.shape[1:] == own[key].shape[1:]:
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


def in_order(model: nn.Module, state: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """Return `state` under the model's own names, tensor by tensor in order; shapes are compared first."""
    own = model.state_dict()
    if len(own) != len(state):
        raise LearnerError(f"{what} holds {len(state)} tensors and the model {len(own)}. Nothing was copied.")
    for (theirs, tensor), (ours, mine) in zip(state.items(), own.items(), strict=True):
        if tensor.shape != mine.shape:
            raise shape_error(what, theirs, ours, tensor, mine)
    return dict(zip(own, state.values(), strict=True))
