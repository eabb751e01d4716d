"""What an audit finds by trying: what depends on more than the image, and is the frozen part still."""

import functools
import random
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import runtime
from ...errors import LearnerError
from ...inference import device_of, set_mode, twin
from ...models import layers
from ..freeze import record
from ..split import find_stage, halves
from ..stages import plan
from ..tracing.receptive_field import tensors


@dataclass
class Effects:
    """Names of modules (and of buffers outside of them), by what a few passes showed.

    In evaluation mode: `random` draws numbers, `mixing` lets other images act on one: those of its batch, how
    many these are, or those that came before. In training mode, of the frozen part: `dropping` draws numbers,
    `drifting` moves its buffers, `changing` computes something else than in evaluation mode.
    """

    random: list[str] = field(default_factory=list)
    mixing: list[str] = field(default_factory=list)
    dropping: list[str] = field(default_factory=list)
    drifting: list[str] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)


def try_out(model: nn.Module, images: Tensor) -> Effects:
    """Return what a copy does with one image twice, beside and after others, alone, and in training mode."""
    found = Effects()
    beside = torch.cat([images[:1], *(5 - i * images[1:] for i in range(1, 5))])
    with twin(model) as copy, torch.no_grad():
        first = _Pass(copy, copy, images)
        found.random = _drawers(first, replace(first, seed=1))
        for other in (beside, images[:1]) if not found.random else ():
            found.mixing = found.mixing or _differing(first, replace(first, images=other))
        if not found.random and not found.mixing:
            found.mixing = _differing(first, replace(first, before=beside))
    if any(not p.requires_grad for p in model.parameters()):
        _try_frozen(model, images, found)
    return found


def _try_frozen(model: nn.Module, images: Tensor, found: Effects) -> None:
    """Note what `model.train()` sets to work in the frozen part: all before the cut, else frozen modules."""
    last = record(model)
    loose_norms, loose_dropout = (last.train_frozen_norms, last.keep_dropout) if last else (False, False)
    with twin(model) as copy, torch.no_grad():
        part, own = copy, find_frozen(model)
        buffers = {n for n, _ in model.named_buffers() if n.rpartition(".")[0] in own}
        try:
            ready = plan(model)
            k = find_stage(ready, last.from_stage) if last and last.from_stage else 0
            if k and isinstance(
                ready.flows[True], str
            ):  # no cut in training mode: its forward is in question
                own = own | {""}
            elif k:
                half, _ = halves(copy, ready, k)
                part = half
                own = {name for name, _ in part.named_modules()}
                buffers = {name for stage in ready.stages[:k] for name in stage.buffers}
                if half.takes_one_size:
                    images = torch.randn(2, *ready.size).to(images)
        except LearnerError:
            pass  # it cannot be cut; its modules can still be looked at
        before = {name: b.clone() for name, b in copy.named_buffers()}
        first = _Pass(copy, part, images, training=True)
        try:
            dropping = _drawers(first, replace(first, seed=1))
            after = {name: b.clone() for name, b in copy.named_buffers()}
            for name in (n for n in before if n in buffers):
                module = name.rpartition(".")[0]
                loose = loose_norms and layers.is_norm(model.get_submodule(module))
                if not torch.equal(before[name], after[name]) and not loose:
                    found.drifting.append(module or name)
            if not loose_norms and not loose_dropout:
                found.dropping = [name for name in dropping if name in own]
                if not found.dropping and not found.drifting:
                    changing = _differing(replace(first, training=False), first)
                    found.changing = [name for name in changing if name in own]
        except Exception:  # somebody's model that does not run in training mode, or on so few images
            return


def find_frozen(model: nn.Module) -> set[str]:
    """Return the modules that, or the nearest around them that has parameters, have frozen ones only."""
    last, found = record(model), set()
    for name, module in model.named_modules():  # a module comes after those that it is in
        if own := list(module.parameters()):
            frozen = not any(p.requires_grad for p in own)
        else:
            frozen = name.rpartition(".")[0] in found
        if frozen and not (last and last.train_frozen_norms and layers.is_norm(module)):
            found.add(name)
    return found


@dataclass
class _Call:
    """One call of a module; `drew` says that it drew random numbers, and no module within did."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    drew: bool


@dataclass(frozen=True)
class _Pass:
    """A pass of a part of a model, in a mode and under a seed; the mode is set on the whole `model`, too.

    The images of `before` pass it first, where there are any.
    """

    model: nn.Module
    part: nn.Module
    images: Tensor
    training: bool = False
    seed: int = 0
    before: Tensor | None = None

    @functools.cached_property
    def outputs(self) -> list[Tensor]:
        """What came out last; the pass is made once."""
        return self.calls(every=False)[-1].outputs

    def calls(self, *, every: bool) -> list[_Call]:
        """Return the calls of modules, innermost first, with `every` value or the last output alone."""
        calls: list[_Call] = []
        within: list[tuple[Any, int]] = []  # of modules that run now: the generators and calls at their start

        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            within.append((_generators(self.model), len(calls)))

        def leave(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            state, start = within.pop()
            drew = state != _generators(self.model) and not any(call.drew for call in calls[start:])
            kept = (args, kwargs) if every else (), output if every or not name else ()
            given, made = ([t.detach().clone() for t in tensors(v)] for v in kept)
            calls.append(_Call(name, given, made, drew))

        set_mode(self.model, training=False)
        self.part.eval()
        if self.training:
            self.model.train()
            self.part.train()
        if self.before is not None:
            self._run(self.before)
        watched = [(n, m) for n, m in self.part.named_modules() if not isinstance(m, torch.jit.ScriptModule)]
        handles: list[Any] = []
        for name, module in watched:
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(functools.partial(leave, name), with_kwargs=True))
        try:
            self._run(self.images)
        finally:
            for handle in handles:
                handle.remove()
        return calls

    def _run(self, images: Tensor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as checkpointing's, where no gradient is wanted
            runtime.seed_everything(self.seed)
            self.part(images)


def _generators(model: nn.Module) -> tuple[Any, ...]:
    numpy: Any = np.random.get_state()  # noqa: NPY002
    device = device_of(model)
    cuda = torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b""
    torchs = torch.get_rng_state().numpy().tobytes()
    return torchs, cuda, random.getstate(), numpy[1].tobytes(), numpy[2]


def _drawers(first: _Pass, again: _Pass) -> list[str]:
    drew = [call.name for call in first.calls(every=False) if call.drew]
    if drew:  # under one seed a module draws again, and another thread does not
        once_more = {call.name for call in first.calls(every=False) if call.drew}
        drew = [name for name in dict.fromkeys(drew) if name in once_more]
    return drew or _differing(first, again)


def _differing(one: _Pass, other: _Pass) -> list[str]:
    """Return the innermost modules that give different outputs for the same inputs.

    Where batches differ, only the first image counts: of each tensor, what belongs to it.
    """
    sizes = (1, 1) if one.images is other.images else (len(one.images), len(other.images))
    try:
        if _alike(one.outputs, other.outputs, sizes):
            return []
        a, b = one.calls(every=True), other.calls(every=True)
    except Exception:
        if len(one.images) == len(other.images):
            raise
        return [""]  # it takes the one batch and not the other
    if [call.name for call in a] != [call.name for call in b]:
        return [""]
    found: list[str] = []
    for x, y in zip(a, b, strict=True):
        inner = any(name.startswith(f"{x.name}." if x.name else "") for name in found)
        if not inner and _alike(x.inputs, y.inputs, sizes) and not _alike(x.outputs, y.outputs, sizes):
            found.append(x.name)
    return list(dict.fromkeys(found))


def _alike(one: list[Tensor], other: list[Tensor], sizes: tuple[int, int]) -> bool:
    return len(one) == len(other) and all(_same(a, b, sizes) for a, b in zip(one, other, strict=True))


def _same(a: Tensor, b: Tensor, sizes: tuple[int, int]) -> bool:
    """Return whether what belongs to the first image is alike in both; all, where it has no rows."""
    if a.dim() and b.dim() and a.shape[0] * sizes[1] == b.shape[0] * sizes[0]:
        each, rest = divmod(a.shape[0], sizes[0])
        a, b = (a, b) if rest else (a[:each], b[:each])
    return a.shape == b.shape and _close(a, b)


def _close(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors differ by rounding only, which another batch size changes."""
    exact = a.device.type == "cpu" and a.element_size() > 2
    a, b = a.double(), b.double()
    return torch.equal(a, b) or torch.allclose(
        a, b, rtol=0, atol=(1e-4 if exact else 0.05) * float(a.nan_to_num().abs().max()), equal_nan=True
    )
