"""Look through wrappers, such as averages of weights and DataParallel, to the network within."""

import functools
import inspect
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from .. import runtime
from ..errors import LearnerError
from .model_copies import HOOKS, Copier
from .state import device_of, dtype_of, tensors_in

_PARTS = ("_parameters", "_buffers", "_modules")


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


class _Sheller(Copier):
    """Copies a module and what it holds, but for the modules in it: shells that do not run stand for those.

    The one that gets the images gives the output. A second call, other images, a single layer, or a module
    of the model itself raise _NoWrapper.
    """

    def __init__(self) -> None:
        super().__init__(meta=False)
        self._shells: list[nn.Module] = []
        self._training = False
        self._no_hooks: dict[str, Any] = {name: OrderedDict() for name in HOOKS}

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
        closed = isinstance(module, torch.jit.ScriptModule) or "_orig_mod" in module._modules
        shell = self._keep(module, nn.Module() if closed else object.__new__(type(module)))
        if not closed:
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
    if any(map(nn.parameter.is_lazy, tensors_in(model.modules()))):
        raise LearnerError(
            f"{type(model).__name__} has lazy layers without weights yet. Run it once on a batch of images "
            "first."
        )
    bare = unwrap(model)
    try:
        signature = inspect.signature(bare.forward)
    except (TypeError, ValueError):  # a scripted model has none
        return bare
    try:
        signature.bind("images")
    except TypeError as error:
        rest = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        needed = [
            name for name, p in signature.parameters.items() if p.default is p.empty and p.kind not in rest
        ]
        raise LearnerError(
            f"{type(bare).__name__} needs {' and '.join(needed) or 'no input'}, and here it gets a batch of "
            f"images alone, by its place ({error}). Wrap it in a module whose forward takes images and gives "
            "it the rest."
        ) from error
    return bare
