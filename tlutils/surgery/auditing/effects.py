"""What an audit finds by trying: what depends on more than the image, and is the frozen part still."""

import functools
import random
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import runtime
from ...errors import LearnerError
from ...inference import device_of, twin
from ...models import layers
from ..freeze import record
from ..split import find_stage, halves
from ..stages import plan
from ..tracing.reach import tensors


@dataclass
class Effects:
    """Names of modules (and of buffers outside of them), by what a few passes showed.

    In evaluation mode: `random` draws numbers, `mixing` lets the images of a batch act on each other. In
    training mode, of the frozen part: `dropping` draws numbers, `drifting` moves its buffers, `changing`
    computes something else than in evaluation mode.
    """

    random: list[str] = field(default_factory=list)
    mixing: list[str] = field(default_factory=list)
    dropping: list[str] = field(default_factory=list)
    drifting: list[str] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)


def try_out(model: nn.Module, images: Tensor) -> Effects:
    """Return what a copy does with one image twice, beside another one, and in training mode."""
    found = Effects()
    with twin(model) as copy, torch.no_grad():
        first, again = _run(copy, images, 0), _run(copy, images, 1)
        found.random = _drawers(first, again)
        if not found.random:
            beside = torch.cat([images[:1], 5 - 3 * images[1:]])
            found.mixing = _differing(first, _run(copy, beside, 0), share=len(images))
    if any(not p.requires_grad for p in model.parameters()):
        _try_frozen(model, images, found)
    return found


def _try_frozen(model: nn.Module, images: Tensor, found: Effects) -> None:
    """Note what `model.train()` sets to work in the frozen part: all before the cut, else frozen modules."""
    last = record(model)
    loose_norms, loose_dropout = (last.train_frozen_norms, last.keep_dropout) if last else (False, False)
    with twin(model) as copy, torch.no_grad():
        part, own = copy, {name for name, _ in model.named_modules() if is_frozen(model, name)}
        buffers = {n for n, _ in model.named_buffers() if n.rpartition(".")[0] in own}
        try:
            ready = plan(model)
            if k := find_stage(ready, last.from_stage) if last and last.from_stage else 0:
                part, _ = halves(copy, ready, k)
                own = {name for name, _ in part.named_modules()}
                buffers = {name for stage in ready.stages[:k] for name in stage.buffers}
                images = torch.randn(2, *ready.size).to(images)
        except LearnerError:
            pass  # it cannot be cut; its modules can still be looked at
        try:
            still = _run(part, images, 0)
            copy.train()
            part.train()
            before = {name: b.clone() for name, b in copy.named_buffers()}
            first, again = _run(part, images, 0), _run(part, images, 1)
        except Exception:  # somebody's model that does not run in training mode, or on so few images
            return
        after = dict(copy.named_buffers())
    for name in (n for n in before if n in buffers):
        module = name.rpartition(".")[0]
        loose = loose_norms and layers.is_norm(model.get_submodule(module))
        if not torch.equal(before[name], after[name]) and not loose:
            found.drifting.append(module or name)
    if not loose_norms and not loose_dropout:
        found.dropping = [name for name in _drawers(first, again) if name in own]
        if not found.dropping and not found.drifting:
            found.changing = [name for name in _differing(still, first) if name in own]


def is_frozen(model: nn.Module, name: str) -> bool:
    """Return whether the module, or the nearest around it that has parameters, has frozen ones only."""
    last = record(model)
    if last and last.train_frozen_norms and layers.is_norm(model.get_submodule(name)):
        return False
    while True:
        own = list(model.get_submodule(name).parameters())
        if own or not name:
            return bool(own) and not any(p.requires_grad for p in own)
        name = name.rpartition(".")[0]


@dataclass
class _Call:
    """One call of a module; `drew` says that it drew random numbers, and no module within did."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    drew: bool


def _run(model: nn.Module, images: Tensor, seed: int) -> list[_Call]:
    """Return the calls of a pass under a seed, innermost first."""
    calls: list[_Call] = []
    within: list[tuple[Any, int]] = []  # of the modules that run now: the generators and calls at their start

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        within.append((_generators(model), len(calls)))

    def leave(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        state, start = within.pop()
        drew = state != _generators(model) and not any(call.drew for call in calls[start:])
        given, made = ([t.detach().clone() for t in tensors(v)] for v in ((args, kwargs), output))
        calls.append(_Call(name, given, made, drew))

    handles: list[Any] = []
    watched = [(n, m) for n, m in model.named_modules() if not isinstance(m, torch.jit.ScriptModule)]
    for name, module in watched:
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(functools.partial(leave, name), with_kwargs=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as checkpointing's, where no gradient is wanted
            runtime.seed_everything(seed)
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _generators(model: nn.Module) -> tuple[Any, ...]:
    numpy: Any = np.random.get_state()  # noqa: NPY002
    device = device_of(model)
    cuda = torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b""
    torchs = torch.get_rng_state().numpy().tobytes()
    return torchs, cuda, random.getstate(), numpy[1].tobytes(), numpy[2]


def _drawers(first: list[_Call], again: list[_Call]) -> list[str]:
    drew = [call.name for call in first if call.drew]
    return list(dict.fromkeys([*drew, *(_differing(first, again) if not drew else [])]))


def _differing(one: list[_Call], other: list[_Call], *, share: int = 1) -> list[str]:
    """Return the innermost modules that give different outputs for the same inputs.

    With `share`, only the first 1/share of each tensor counts: what belongs to the first image.
    """
    if [call.name for call in one] != [call.name for call in other]:
        return [one[-1].name]
    found: list[str] = []
    for a, b in zip(one, other, strict=True):
        inner = any(name.startswith(f"{a.name}." if a.name else "") for name in found)
        if not inner and _alike(a.inputs, b.inputs, share) and not _alike(a.outputs, b.outputs, share):
            found.append(a.name)
    return list(dict.fromkeys(found))


def _alike(one: list[Tensor], other: list[Tensor], share: int) -> bool:
    pairs = [(_first(a, share), _first(b, share)) for a, b in zip(one, other, strict=False)]
    return len(one) == len(other) and all(a.shape == b.shape and _close(a, b) for a, b in pairs)


def _first(tensor: Tensor, share: int) -> Tensor:
    each, rest = divmod(tensor.shape[0] if tensor.dim() else 1, share)
    return (tensor if rest or not each else tensor[:each]).double() if tensor.dim() else tensor.double()


def _close(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors differ by rounding only."""
    return not a.numel() or torch.allclose(
        a, b, rtol=0, atol=1e-4 * float(a.nan_to_num().abs().max()), equal_nan=True
    )
