"""Fingerprints: equal ingredients give equal keys, in another process too; any change gives another key."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from importlib.metadata import version
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .. import runtime
from ..surgery import Stage

CODE = 2  # raised with every change of this package's code that changes features
LIBRARIES = ("torch", "torchvision", "timm", "pillow", "numpy")


def short(*parts: Any) -> str:
    """Return 16 hex digits of any parts that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries that features depend on, and of the code here."""
    return {name: version(name) for name in LIBRARIES} | {"features": str(CODE)}


def of_model(model: nn.Module) -> str:
    """Return 16 hex digits of what a model computes: layers' code and settings, parameters, buffers.

    About 20 ms for 5 million parameters: cheap enough for every call, so no trained weight goes unseen.
    """
    digest = hashlib.sha256()
    _add_layers(digest, dict(model.named_modules()))
    _add_tensors(digest, _tensors(model))
    return digest.hexdigest()[:16]


def of_stages(model: nn.Module, stages: Iterable[Stage]) -> dict[str, str]:
    """Return for each stage 16 hex digits of what is computed up to its end; `stages` are all, stem to head.

    What comes after a stage has no part in its key: a new head or a trained suffix leaves the features valid.
    """
    modules, tensors = dict(model.named_modules()), _tensors(model)
    digest, found = hashlib.sha256(), {}
    for stage in stages:
        inside = {m for own in stage.modules for m in modules if f"{m}.".startswith(f"{own}.")}
        above = {own.rpartition(".")[0] for own in stage.modules} | {""}
        while deeper := {m.rpartition(".")[0] for m in above} - above:
            above |= deeper
        _add_layers(digest, {m: modules[m] for m in sorted(inside | above)})
        _add_tensors(digest, {name: tensors[name] for name in (*stage.parameters, *stage.buffers)})
        found[stage.name] = digest.copy().hexdigest()[:16]
    return found


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def _add_layers(digest: Any, modules: Mapping[str, nn.Module]) -> None:
    """Add each layer's class, forward code and plain settings; not its mode, nor the number of classes."""
    for path, module in modules.items():
        settings = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, bool | int | float | str | tuple | None)
            and name not in ("training", "num_classes")
            and not name.startswith("_")
        }
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        forward = vars(module).get("forward", type(module).forward)
        digest.update(json.dumps([path, kind, _describe(forward, ()), _describe(settings, ())]).encode())


def _add_tensors(digest: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def of_transform(transform: Callable[[Any], Any]) -> str:
    """Return 16 hex digits of a transform: its own `fingerprint`, or what it is made of and what it does.

    What it does is seen on a small picture under a fixed seed: an edited notebook class is another transform.
    """
    own = getattr(transform, "fingerprint", None)
    return own if isinstance(own, str) else short(_describe(transform, ()), _effect(transform, 0))


def is_random(transform: Callable[[Any], Any]) -> bool:
    """Return whether a transform gives something else under another seed (a coin flip may hide: 1 in 256)."""
    first = _effect(transform, 0)
    return any(_effect(transform, seed) != first for seed in range(1, 9))


def _effect(transform: Callable[[Any], Any], seed: int) -> Any:
    rows, columns = np.mgrid[0:48, 0:64]
    colours = np.stack([rows * 5, columns * 3, (rows * columns) % 256], axis=-1).astype(np.uint8)
    with runtime.seeded(seed):
        return _describe(torch.as_tensor(transform(Image.fromarray(colours))), ())


def _describe(thing: Any, above: tuple[int, ...]) -> Any:
    """Return nested lists and strings that say what a value is made of, without addresses."""
    if id(thing) in above:
        return "itself"
    above = (*above, id(thing))
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().cpu().numpy()
    if isinstance(thing, np.ndarray):
        return [str(thing.dtype), list(thing.shape), hashlib.sha256(thing.tobytes()).hexdigest()]
    if isinstance(thing, Mapping):
        return [[_describe(k, above), _describe(v, above)] for k, v in thing.items()]
    if isinstance(thing, list | tuple):
        return [_describe(item, above) for item in thing]
    if isinstance(thing, set | frozenset):
        return sorted(json.dumps(_describe(item, above)) for item in thing)
    if isinstance(thing, partial):
        return ["partial", *(_describe(part, above) for part in (thing.func, thing.args, thing.keywords))]
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        return [
            thing.__qualname__,
            *(_describe(p, above) for p in (thing.__code__, thing.__defaults__, cells)),
        ]
    if isinstance(thing, CodeType):
        return [thing.co_code.hex(), list(thing.co_names), _describe(thing.co_consts, above)]
    if hasattr(thing, "__dict__") and not isinstance(thing, type):
        kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
        return [kind, _without_addresses(repr(thing)), _describe(vars(thing), above)]
    return _without_addresses(repr(thing))


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
