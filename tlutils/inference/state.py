"""What a model runs in: its device, the type of its numbers, its mode."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LearnerError


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer; the processor for a model without any.

    Args:
        model: Any module.

    Example:
        >>> from torch import nn
        >>> from tlutils import inference
        >>> inference.device_of(nn.Linear(3, 2))
        device(type='cpu')
    """
    tensors = (t for found in (model.parameters(), model.buffers()) for t in found)
    return next((t.device for t in tensors), torch.device("cpu"))


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of a model's first floating-point parameter; float32 for a model without any.

    Args:
        model: Any module.

    Example:
        >>> from torch import nn
        >>> from tlutils import inference
        >>> inference.dtype_of(nn.Linear(3, 2).double())
        torch.float64
    """
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Run a block with the 16-bit tensors of a model held in 32 bits; afterwards each has its own type again.

    Small gradients and small steps vanish in 16 bits. Values that the block leaves alone come back bit by
    bit; others are rounded.

    Args:
        model: Any model; one of float32 or float64 is left alone.

    Example:
        >>> from torch import nn
        >>> from tlutils import inference
        >>> model = nn.Linear(3, 2).bfloat16()
        >>> with inference.in_float32(model):
        ...     print(model.weight.dtype)
        torch.float32
        >>> model.weight.dtype
        torch.bfloat16
    """

    def tensors() -> list[tuple[str, Tensor]]:
        return [*model.named_parameters(), *model.named_buffers()]

    short = {name: t.dtype for name, t in tensors() if t.dtype in (torch.float16, torch.bfloat16)}

    def convert(types: Mapping[str, torch.dtype]) -> None:
        for name, tensor in tensors():  # by name: a layer may have put another tensor in a buffer's place
            if name in types:
                tensor.data = tensor.data.to(types[name])

    convert(dict.fromkeys(short, torch.float32))
    try:
        yield
    finally:
        convert(short)


def set_mode(model: nn.Module, training: bool) -> None:
    """Put every module in training or evaluation mode; `train()` itself may have been changed.

    Args:
        model: Any model.
        training: The mode to set.

    Example:
        >>> from torch import nn
        >>> from tlutils import inference
        >>> with inference.mirror(nn.Sequential(nn.Dropout(0.5)), meta=True) as copy:
        ...     inference.set_mode(copy, training=False)
        ...     [module.training for module in copy.modules()]
        [False, False]
    """
    set_modes((module, training) for module in model.modules())


def set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        if module.training is not training:
            if "training" in vars(module):  # to set an attribute of a module takes ten times as long
                vars(module)["training"] = training
            else:  # a scripted one
                module.training = training


def refuse_quantised(modules: Iterable[nn.Module]) -> None:
    """Raise LearnerError where one of the modules is a quantised layer.

    Args:
        modules: Those of a model whose layers are to train or to be changed.

    Example:
        >>> from torch import nn
        >>> from tlutils import inference
        >>> inference.refuse_quantised(nn.Linear(3, 2).modules())
    """
    if found := [type(module).__name__ for module in modules if "quantized" in type(module).__module__]:
        raise LearnerError(
            f"The model is quantised ({found[0]}): no gradient passes, and its layers cannot be changed. Use "
            "the model before quantisation."
        )


def tensors_in(modules: Iterable[nn.Module]) -> Iterator[Any]:
    return chain.from_iterable(held.values() for m in modules for held in (m._parameters, m._buffers))
