"""Run somebody's model without leaving a trace, and read the logits in whatever it returns."""

import contextlib
import copy
import copyreg
import dataclasses
import functools
import inspect
import math
import random
import sys
import threading
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from . import fingerprint, runtime
from .errors import LearnerError

_Out = TypeVar("_Out")

DRIFT = 0.02
"""How far what a model gives in bfloat16 may lie from what it gives in float32; see `measure_drift`."""

_HOOKS = frozenset(name for name in nn.Module().__dict__ if "_hooks" in name)
_PARTS = ("_parameters", "_buffers", "_modules")
_CONTAINERS = (list, dict, set, deque)
_FIXED = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size})


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network whose output `model` hands on as it is, however deep it lies; else `model` itself.

    Seen by trials in which no layer runs, on a copy: a wrapper is looked through when it gives the images
    that it got to one network within, and returns that network's output, or the scores in it. So averages
    (EMA, SWA), DataParallel, torch.compile, a trainer's module and wrappers of your own are looked through.
    One that changes images or output in either mode, for any of several sizes up to 521 pixels, batches up to
    65 images and widths of the scores, or has forward hooks or a `train()` of its own, is a model by itself.

    Args:
        model: Any module.

    Example:
        >>> from torch import nn
        >>> from torch.optim.swa_utils import AveragedModel
        >>> from tlutils import inference
        >>> average = AveragedModel(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
        >>> inference.unwrap(average) is average.module
        True
    """
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    """Return the network within that alone makes the scores of `model`; None where there is none."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return model.module
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile
        return model._orig_mod  # type: ignore[return-value]
    own = type(model).train is not nn.Module.train or not {"train", "forward"}.isdisjoint(vars(model))
    if own or isinstance(model, torch.jit.ScriptModule) or model._forward_hooks or model._forward_pre_hooks:
        return None
    for form in (lambda scores: scores), _Scores:
        try:
            with runtime.RANDOM, runtime.seeded(0), torch.inference_mode(False), torch.no_grad():
                return _handed_to(model, form)
        except _NoWrapper:
            return None
        except Exception:  # it may want more than images, or something else than a tensor of scores
            continue
    return None


# What a wrapper might treat in its own way: numbers of images, height, width; the smallest and largest value;
# and the number of scores, None for the network's own.
_TRIALS: tuple[tuple[tuple[int, int, int], tuple[float, float], int | None], ...] = (
    ((2, 8, 8), (-9.0, 9.0), 7),
    ((65, 9, 14), (0.0, 1.0), 1009),
    ((1, 521, 523), (-300.0, 300.0), None),
)


def _handed_to(model: nn.Module, form: Callable[[Tensor], Any]) -> nn.Module:
    """Return the network that gets what `model` gets, and whose output, in some form, `model` gives.

    Raises _NoWrapper where there is none, or `model` does more in one of the trials.
    """
    device, dtype = device_of(model), dtype_of(model)
    copier, found = _Sheller(), list[nn.Module]()
    shell = copier.root(model)
    with copier.guard():
        for (count, *size), (low, high), width in _TRIALS:
            images = _ramp((count, 3, *size), low, high, device, dtype)
            scores = _ramp((count, width or _width(found[0])), -300.0, 300.0, device, dtype)
            for training in (False, True):
                versions, output = (images._version, scores._version), form(scores)
                called = copier.begin(images, output, training)
                returned = shell(images)
                if (images._version, scores._version) != versions:
                    _ramp.cache_clear()
                    raise _NoWrapper
                found += called
                if not called or found[-1] is not found[0]:
                    raise _NoWrapper
                if returned is not output and not _equal(returned, scores):
                    raise _NoWrapper
    return found[0]


@functools.lru_cache(maxsize=16)
def _ramp(
    shape: tuple[int, ...], low: float, high: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    return torch.linspace(low, high, math.prod(shape), device=device, dtype=dtype).view(shape)


def _width(network: nn.Module) -> int:
    """Return how many scores a network gives, as the weight that it declares last lets one think."""
    last = deque(network.parameters(), maxlen=1)
    return next((len(p) for p in last if p.dim()), 7)


class _NoWrapper(Exception):
    """The module that runs is a part of its model."""


class _Scores(dict[Any, Tensor]):
    """Scores as a tuple, a dict or an object holds them."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__({0: scores, "logits": scores})

    @property
    def logits(self) -> Tensor:
        return self["logits"]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise _NoWrapper


def _equal(one: Any, other: Tensor) -> bool:
    return isinstance(one, Tensor) and one.dtype == other.dtype and torch.equal(one, other)


def require_module(model: object) -> nn.Module:
    """Return `model` without wrappers, after checking that it is a model of images.

    Args:
        model: What arrived where a model is expected.

    Raises:
        LearnerError: It is no nn.Module, has lazy layers without weights, or needs more than images.

    Example:
        >>> from tlutils import inference
        >>> inference.require_module("resnet18")
        Traceback (most recent call last):
        tlutils.errors.LearnerError: Expected a model (a torch.nn.Module) and got str. Make one with ...
    """
    if not isinstance(model, nn.Module):
        raise LearnerError(
            f"Expected a model (a torch.nn.Module) and got {type(model).__name__}. "
            "Make one with models.load('tf_efficientnet_lite0')."
        )
    if any(map(nn.parameter.is_lazy, _tensors(model))):
        raise LearnerError(
            f"{type(model).__name__} has lazy layers without weights yet. Run it once on a batch of images "
            "first."
        )
    bare = unwrap(model)
    try:
        inputs = inspect.signature(bare.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted model has none
        return bare
    needed = [
        p.name for p in inputs if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise LearnerError(
            f"{type(bare).__name__} needs {' and '.join(needed)}, and here it gets a batch of images alone. "
            "Wrap it in a module whose forward takes images and adds the rest."
        )
    return bare


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


def _tensors(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        yield from module._parameters.values()
        yield from module._buffers.values()


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


def logits_of(output: Any) -> Tensor:
    """Return the class scores (N, classes) in what a classifier returned.

    Args:
        output: A tensor; an object, such as a dataclass, with `.logits`, or a dict with "logits"; in any
            other dict, dataclass, tuple or list the first tensor with two axes (auxiliary outputs follow).

    Raises:
        LearnerError: Anything else, such as what a detector returns.

    Example:
        >>> import torch
        >>> from tlutils import inference
        >>> inference.logits_of({"logits": torch.zeros(4, 10), "loss": 0.5}).shape
        torch.Size([4, 10])
    """
    found = find_logits(output)
    if not isinstance(found, Tensor) or found.ndim != 2:
        within = "" if found is output else f" in a {type(output).__name__}"
        got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise LearnerError(
            f"The model returned {got}{within}. Expected class scores, one row per image, of shape "
            "(N, classes): a tensor, the first entry of a tuple, or `logits` in a dict or an object. "
            "A detector or a segmentation model is not an image classifier."
        )
    return found


def find_logits(output: Any) -> Any:
    """Return what stands where `logits_of` looks, be it class scores or not.

    Args:
        output: What a model returned.

    Example:
        >>> from tlutils import inference
        >>> inference.find_logits(("scores", "auxiliary scores"))
        'scores'
    """
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    parts = [part for part in parts_of(output) if part is not None]
    rows = (part for part in parts if isinstance(part, Tensor) and part.ndim == 2)
    return next(rows, parts[0] if parts else None if isinstance(output, Mapping) else output)


def auxiliary_logits(output: Any) -> list[Tensor]:
    """Return the class scores of auxiliary heads, as of GoogLeNet in training (Szegedy et al. 2015).

    Args:
        output: What a model returned. In a tuple or list they are all other tensors of the logits' shape; in
            a dict or an object those of them with "aux" in their name, since others may be probabilities.

    Example:
        >>> import torch
        >>> from tlutils import inference
        >>> scores = torch.zeros(4, 10)
        >>> output = {"logits": scores, "probabilities": scores.softmax(1), "aux": scores + 1}
        >>> len(inference.auxiliary_logits(output))
        1
    """
    main, by_place = logits_of(output), isinstance(output, tuple | list)
    return [
        part
        for name, part in _named_parts(output).items()
        if part is not main
        and getattr(part, "shape", None) == main.shape
        and (by_place or "aux" in str(name).lower())
    ]


def parts_of(output: Any) -> list[Any]:
    """Return what a model's output holds, in order: the values of a dict, a tuple or an object of any kind.

    Args:
        output: What a model returned.

    Example:
        >>> from tlutils import inference
        >>> inference.parts_of({"loss": 0.5, "scores": "a tensor"})
        [0.5, 'a tensor']
    """
    return list(_named_parts(output).values())


def _named_parts(output: Any) -> dict[Any, Any]:
    """Return what an output holds by key or attribute, or by place in a tuple or list."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    plain = dataclasses.is_dataclass(output) or isinstance(output, types.SimpleNamespace)
    return dict(vars(output)) if plain or hasattr(output, "logits") else {}


def measure_drift(plain: np.ndarray, fast: np.ndarray) -> float:
    """Return how far rows lie from what they should be, in units of the spread between the rows.

    Args:
        plain: what a model gives for some images, (N, …), in its own arithmetic.
        fast: the same in another one.

    Example:
        >>> import numpy as np
        >>> from tlutils import inference
        >>> inference.measure_drift(np.array([[1.0], [3.0]]), np.array([[1.1], [3.0]])).__round__(3)
        0.071
    """
    spread = np.linalg.norm(plain - plain.mean(axis=0))
    distance = np.linalg.norm(fast - plain)
    return float(distance / spread) if spread > 0 else float("inf") if distance > 0 else 0.0


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Yield `model` without wrappers, in eval mode; afterwards all is as it was, also after an error.

    Each module gets its own mode back. Modes are set module by module, because a model may define `train()`
    itself (frozen parts do). The block runs under one seed, because some models draw numbers in eval mode,
    too; the random generators come back. Gradients are the caller's: add `torch.no_grad()` where none are
    needed.

    Args:
        model: Any model.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import inference
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
        >>> with inference.evaluating(model) as quiet, torch.no_grad():
        ...     print(quiet.training, quiet(torch.zeros(1, 3)).shape)
        False torch.Size([1, 2])
        >>> model.training
        True
    """
    bare = require_module(model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        set_mode(model, training=False)
        with runtime.seeded(0):
            yield bare
    finally:
        for module, training in modes:
            if module.training is not training:
                module.training = training


def watch_draws(work: Callable[[], _Out]) -> tuple[_Out, bool]:
    """Return what a piece of work returns, and whether it draws from the global random generators.

    Other threads may draw at the same moment, as those of a cluster's worker do. What the work itself draws
    it draws again under the same seed, so it is repeated before it is said to. The generators come back.

    Args:
        work: a function that can be called again.

    Example:
        >>> import random
        >>> from tlutils import inference
        >>> inference.watch_draws(lambda: 1), inference.watch_draws(random.random)[1]
        ((1, False), True)
    """
    for _ in range(3):
        # Another seed than the one that features are made under: what follows it, differs.
        with runtime.seeded(1):
            before = fingerprint.of_generators()
            found = work()
            if fingerprint.of_generators() == before:
                return found, False
    return found, True


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
    copier = _Copier(meta)
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


class _Copier:
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
        if type(value) in _FIXED:  # most values, told first: large models have thousands
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if isinstance(value, _CONTAINERS):
            return self._container(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, Tensor):
            return self._keep(value, self._tensor(value))
        if isinstance(value, tuple) and not _FIXED.issuperset(map(type, value)):
            items = [self.copy(v) for v in value]
            if all(a is b for a, b in zip(items, value, strict=True)):
                return value
            return self._keep(value, type(value)(*items) if hasattr(value, "_fields") else type(value)(items))
        if isinstance(value, types.FunctionType) and value.__closure__:
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
        new = self._keep(module, object.__new__(type(module)))
        hooks = _HOOKS
        if Tensor in map(type, module.__dict__.values()):  # a weight that a hook makes
            hooks = _HOOKS - {"_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"}
        state = {k: OrderedDict() if k in hooks else self.copy(v) for k, v in module.__dict__.items()}
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
        if plain and _FIXED.issuperset(map(type, value.values() if isinstance(value, dict) else value)):
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
        old = function.__closure__ or ()
        cells = tuple(types.CellType() for _ in old)
        new = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
        )
        new.__kwdefaults__ = function.__kwdefaults__
        self._keep(function, new)
        for cell, original in zip(cells, old, strict=True):
            with contextlib.suppress(ValueError):  # an empty cell stays empty
                cell.cell_contents = self.copy(original.cell_contents)
        return new

    def _object(self, value: Any) -> Any:
        """Return a copy of an instance of somebody's own class, with copies of its attributes."""
        library = type(value).__module__.partition(".")[0]
        known = library == "torch" or library in sys.stdlib_module_names - {"types", "__main__"}
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


class _Sheller(_Copier):
    """Copies a module and what it holds, but for the modules in it: shells that do not run stand for those.

    The one that gets the images gives the output. A second call, other images, a single layer, or a module
    of the model itself raise _NoWrapper.
    """

    def __init__(self) -> None:
        super().__init__(meta=False)
        self._shells: list[nn.Module] = []
        self._training = False
        self._no_hooks: dict[str, Any] = {name: OrderedDict() for name in _HOOKS}

    def root(self, model: nn.Module) -> nn.Module:
        """Return the copy of a module, whose own forward runs."""
        shell = self._keep(model, object.__new__(type(model)))
        self._shells.append(shell)
        shell.__dict__.update({k: self.copy(v) for k, v in vars(model).items() if k not in _PARTS})
        return self._fill(shell, model)

    def begin(self, images: Tensor, output: Any, training: bool) -> list[nn.Module]:
        """Set up a pass; return the list in which the module that gets the images will be noted."""
        self._images, self._output, self._training = images, output, training
        self._called: list[nn.Module] = []
        for shell in self._shells:
            shell.training = training
        return self._called

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Let no module run in this thread but the shells."""
        thread = threading.get_ident()

        def refuse(module: nn.Module, inputs: Any) -> None:
            if threading.get_ident() == thread and all(module is not shell for shell in self._shells):
                raise _NoWrapper

        handle = register_module_forward_pre_hook(refuse)
        try:
            yield
        finally:
            handle.remove()

    def _module(self, module: nn.Module) -> Any:
        scripted = isinstance(module, torch.jit.ScriptModule)
        shell = self._keep(module, nn.Module() if scripted else object.__new__(type(module)))
        if not scripted:
            shell.__dict__.update(vars(module), **self._no_hooks, training=self._training)
            self._fill(shell, module)
        shell.__dict__["forward"] = functools.partial(self._answer, module)
        self._shells.append(shell)
        return shell

    def _fill(self, shell: nn.Module, module: nn.Module) -> nn.Module:
        shell.__dict__.update({name: _Lazy(vars(module)[name], self.copy) for name in _PARTS})
        return shell

    def _answer(self, module: nn.Module, *args: Any, **settings: Any) -> Any:
        given = [value for value in (*args, *settings.values()) if isinstance(value, Tensor)]
        alone = len(given) == 1 and not self._called and any(module.children())
        if not alone or not (given[0] is self._images or _equal(given[0], self._images)):
            raise _NoWrapper
        self._called.append(module)
        return self._output

    def _tensor(self, tensor: Tensor) -> Tensor:
        new = tensor.detach().clone()
        return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


class _Lazy(dict[Any, Any]):
    """A dict whose values are copied when they are asked for, since most never are."""

    def __init__(self, values: Mapping[Any, Any], copy: Callable[[Any], Any]) -> None:
        super().__init__(values)
        self.copied = copy

    def __getitem__(self, key: Any) -> Any:
        return self.copied(super().__getitem__(key))

    def values(self) -> Any:
        return [self[key] for key in self]

    def items(self) -> Any:
        return [(key, self[key]) for key in self]


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
    return torch.empty_like(tensor, device="meta", requires_grad=False)


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
    for module in model.modules():
        if module.training is not training:  # to set an attribute of a module takes a while
            module.training = training
