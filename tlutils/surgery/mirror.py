"""A stand-in for a model: the same structure, without its hooks and, if wanted, without data."""

import types
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = tuple(name for name in nn.Module().__dict__ if name.endswith("_hooks"))


def mirror(model: nn.Module, *, meta: bool) -> nn.Module:
    """Return a model of the same structure without hooks; nothing in `model` changes, whatever is done to it.

    With `meta`, its tensors have shapes and no data; otherwise parameters are shared and buffers copied.
    """
    memo: dict[int, Any] = {}
    modules = list(model.modules())
    for module in modules:
        memo[id(module)] = (
            module if isinstance(module, torch.jit.ScriptModule) else object.__new__(type(module))
        )
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in memo:
                memo[id(parameter)] = nn.Parameter(empty_like(parameter), False) if meta else parameter
        for buffer in module._buffers.values():
            if buffer is not None and id(buffer) not in memo:
                memo[id(buffer)] = empty_like(buffer) if meta else buffer.clone()

    def remap(value: Any) -> Any:
        if id(value) in memo:
            return memo[id(value)]
        if isinstance(value, Tensor):
            return empty_like(value) if meta else value
        if type(value) in (list, tuple):
            return type(value)(remap(v) for v in value)
        if type(value) in (dict, OrderedDict):
            return type(value)((k, remap(v)) for k, v in value.items())
        if isinstance(value, types.MethodType) and id(value.__self__) in memo:
            return types.MethodType(value.__func__, memo[id(value.__self__)])
        return value

    for module in modules:
        if memo[id(module)] is module:
            continue
        state = {key: remap(value) for key, value in module.__dict__.items() if key not in _HOOKS}
        state |= {key: OrderedDict() for key in _HOOKS if key in module.__dict__}
        state.pop("train", None)  # the mark of a frozen module, which knows the original
        if "grad_checkpointing" in state:
            state["grad_checkpointing"] = False  # it changes memory, never values
        state["_compiled_call_impl"] = None
        memo[id(module)].__dict__.update(state)
    return memo[id(model)]


def empty_like(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape, strides and dtype that holds no data."""
    return torch.empty_like(tensor, device="meta", requires_grad=False)


def set_mode(model: nn.Module, training: bool) -> None:
    """Put every module of a mirror in training or evaluation mode; `train()` itself may have been changed."""
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.training = training
