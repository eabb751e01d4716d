"""Copies of a model that may be run and changed instead of it."""

import contextlib
import copy
import copyreg
import functools
import random
import sys
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from .. import runtime
from ..errors import LearnerError
from .state import set_mode

HOOKS = frozenset(name for name in nn.Module().__dict__ if "_hooks" in name)
_CONTAINERS = (list, dict, set, deque)
_META = torch.device("meta")

PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size})


@contextmanager
def twin(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a twin of `model` in eval mode, to run in its place: views of its parameters, copies of all else.

    All parameters of the twin take gradients. It runs under one seed; the random generators come back.

    Args:
        model: Any model.

    Raises:
        LearnerError: As `mirror` does.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import inference
        >>> model = nn.Linear(3, 2).requires_grad_(False)
        >>> with inference.twin(model) as copy:
        ...     copy(torch.rand(8, 3)).requires_grad, copy.training, model.training
        (True, False, True)
    """
    with runtime.seeded(0), torch.inference_mode(False), mirror(model, meta=False) as copy:
        for parameter in copy.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        set_mode(copy, training=False)
        yield copy


@contextmanager
def mirror(model: nn.Module, *, meta: bool) -> Iterator[nn.Module]:
    """Yield a model of the same structure; nothing in `model` changes, whatever is done to it.

    Functions, bound methods and objects that hold parts of the model hold the mirror's parts in it. Hooks are
    left out, but for those that make a layer's weight before it runs, as in pruning and weight norm.

    Args:
        model: Any model.
        meta: True gives tensors with shapes and no data, False views of parameters and copies of the rest.

    Raises:
        LearnerError: The mirror runs a layer of the model itself, or writes into its tensors, because the
            model reaches it in a way that cannot be copied, such as a global variable.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import inference
        >>> with inference.mirror(nn.Conv2d(3, 8, 3), meta=True) as copy:
        ...     copy(torch.empty(1, 3, 32, 32, device="meta")).shape
        torch.Size([1, 8, 30, 30])
    """
    copier = Copier(meta)
    mirrored = copier.copy(model)
    name, thread = type(model).__name__, threading.get_ident()

    def refuse(module: nn.Module, inputs: Any) -> None:
        if id(module) in copier.modules and threading.get_ident() == thread:
            raise LearnerError(
                f"A copy of {name} runs a {type(module).__name__} of the model itself, which it reaches in a "
                "way that cannot be copied, such as a global variable. Call layers as attributes of self."
            )

    guard = register_module_forward_pre_hook(refuse)
    try:
        yield mirrored
    finally:
        guard.remove()
        written = [pair for pair in copier.values if not _same_values(*pair)]
        for tensor, value in written:
            tensor.data.copy_(value)
    if written:
        raise LearnerError(
            f"A copy of {name} writes into a tensor of the model itself, which it reaches in a way that "
            "cannot be copied, such as a global variable. Its values were put back. Reach it through self."
        )


def _same_values(one: Tensor, other: Tensor) -> bool:
    if one.is_floating_point() or one.is_complex():
        one, other = one.nan_to_num(), other.nan_to_num()
    return one.is_meta or torch.equal(one, other)


class Copier:
    """Copies a model and all that its modules hold; `modules` are the ids of those copied.

    `values` lists the tensors that a run may write into, each with its values at the start.
    """

    def __init__(self, meta: bool) -> None:
        self.meta = meta
        self.modules: set[int] = set()
        self.values: list[tuple[Tensor, Tensor]] = []
        self._done: dict[int, Any] = {}

    def copy(self, value: Any) -> Any:
        """Return a copy of a value; the value itself where it is no part of a model's state."""
        if type(value) in PLAIN:  # most values, told first: large models have thousands
            return value
        if type(value) is tuple and PLAIN.issuperset(map(type, value)):
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if isinstance(value, _CONTAINERS):
            return self._container(value)
        if type(value) in weakref.ProxyTypes:
            return self._keep(value, self.copy(value.__repr__.__self__))
        if type(value) in (weakref.ref, weakref.WeakMethod) and value() is not None:
            return self._keep(value, type(value)(self.copy(value())))
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, Tensor):
            new = self._keep(value, self._tensor(value))
            new.__dict__.update({k: self.copy(v) for k, v in vars(value).items()})
            return new
        if isinstance(value, tuple):
            items = [self.copy(v) for v in value]
            if all(a is b for a, b in zip(items, value, strict=True)):
                return value
            return self._keep(value, type(value)(*items) if hasattr(value, "_fields") else type(value)(items))
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self.copy(value.__func__), self.copy(value.__self__))
        if isinstance(value, functools.partial):
            return functools.partial(
                self.copy(value.func),
                *(self.copy(a) for a in value.args),
                **{k: self.copy(v) for k, v in value.keywords.items()},
            )
        if isinstance(value, torch.Generator):
            return self._keep(value, torch.Generator(value.device).set_state(value.get_state()))
        if isinstance(value, np.ndarray | np.random.Generator | np.random.RandomState | random.Random):
            return self._keep(value, copy.deepcopy(value))
        return self._object(value)

    def _keep(self, old: Any, new: Any) -> Any:
        self._done[id(old)] = new
        return new

    def _module(self, module: nn.Module) -> Any:
        self.modules.add(id(module))
        if isinstance(module, torch.jit.ScriptModule):
            return self._keep(module, copy.deepcopy(module))
        if "_orig_mod" in module._modules:
            return self._keep(module, _Eager(self.copy(module._modules["_orig_mod"])))
        new = self._keep(module, object.__new__(type(module)))
        hooks = HOOKS
        if Tensor in map(type, module.__dict__.values()):  # a weight that a hook makes
            hooks = HOOKS - {"_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"}
        state = {
            k: v if type(v) in PLAIN else OrderedDict() if k in hooks else self.copy(v)
            for k, v in module.__dict__.items()
        }
        if "grad_checkpointing" in state:
            state["grad_checkpointing"] = False  # it changes memory, never values
        state["_compiled_call_impl"] = None
        new.__dict__.update(state)
        return new

    def _tensor(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, nn.Parameter):
            view = empty_like(tensor) if self.meta else tensor.detach()
            return nn.Parameter(view, tensor.requires_grad and not self.meta)
        if self.meta:
            return empty_like(tensor)
        if not tensor.is_inference():
            self.values.append((tensor, tensor.detach().clone()))
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)

    def _container(self, value: Any) -> Any:
        plain = type(value) in (dict, list, set, OrderedDict)
        new = self._keep(value, value.copy() if plain else copy.copy(value))
        if plain and PLAIN.issuperset(map(type, value.values() if isinstance(value, dict) else value)):
            return new
        if isinstance(value, list):
            new[:] = [self.copy(v) for v in value]
        elif isinstance(value, dict):
            for key, item in value.items():
                new[key] = self.copy(item)
        else:
            new.clear()
            (new.update if isinstance(value, set) else new.extend)(self.copy(v) for v in value)
        return new

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        """Return a copy of a function with copies of all that it holds; itself where that is nothing."""
        old = function.__closure__ or ()
        cells = tuple(types.CellType() for _ in old)
        new = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
        self._keep(function, new)
        for cell, original in zip(cells, old, strict=True):
            with contextlib.suppress(ValueError):  # an empty cell stays empty
                cell.cell_contents = self.copy(original.cell_contents)
        held = [function.__defaults__, function.__kwdefaults__, *vars(function).values()]
        new.__defaults__, new.__kwdefaults__, *values = copies = [self.copy(v) for v in held]
        new.__dict__.update(zip(vars(function), values, strict=True))
        alone = not old and all(a is b for a, b in zip(held, copies, strict=True))
        return self._keep(function, function) if alone else new

    def _object(self, value: Any) -> Any:
        """Return a copy of an instance of somebody's own class, with copies of its attributes."""
        library = type(value).__module__.partition(".")[0]
        known = library == "torch" or library in sys.stdlib_module_names - {
            "types",
            "collections",
            "__main__",
        }
        if known or isinstance(value, type):
            return value
        held: Any = getattr(value, "__dict__", None)
        held, slots = held if isinstance(held, dict) else {}, copyreg._slotnames(type(value))  # type: ignore[attr-defined]
        if not held and not slots:
            return value
        try:
            new = copy.copy(value)
        except Exception:  # somebody's own class may refuse; `mirror` then sees what it leads to
            return value
        if new is value:  # a member of an enumeration
            return value
        self._keep(value, new)
        for key, item in held.items():
            new.__dict__[key] = self.copy(item)
        for name in slots:
            if hasattr(value, name):
                object.__setattr__(new, name, self.copy(getattr(value, name)))
        return new


class _Eager(nn.Module):
    """Runs what torch.compile compiled, under the same names and without its compiler."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod, self.training = module, module.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_orig_mod"), name)

    def forward(self, *args: Any, **settings: Any) -> Any:
        return self._orig_mod(*args, **settings)


def empty_like(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape, strides and dtype that holds no data.

    Args:
        tensor: Any tensor.

    Example:
        >>> import torch
        >>> from tlutils import inference
        >>> inference.empty_like(torch.zeros(2, 3))
        tensor(..., device='meta', size=(2, 3))
    """
    return torch.empty_like(tensor, device=_META)
