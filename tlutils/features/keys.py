"""Fingerprints: equal ingredients give equal keys, in another process too; any change gives another key."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from types import FunctionType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .. import runtime

CODE = 1  # raised with every change of this package's code that changes features
LIBRARIES = ("torch", "torchvision", "timm", "pillow", "numpy")


def short(*parts: Any) -> str:
    """Return 16 hex digits of any parts that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that features depend on, and of the code here."""
    return {name: version(name) for name in LIBRARIES} | {"features": str(CODE)}


def of_weights(module: nn.Module) -> str:
    """Return 16 hex digits of a module's structure and of every parameter and buffer, bit for bit.

    About 20 ms for 5 million parameters: cheap enough for every call, so no trained weight goes unseen.
    """
    digest = hashlib.sha256(_without_addresses(repr(module)).encode())
    code = getattr(module, "code", None)  # of a traced graph: its layers alone do not say how they are joined
    digest.update(code.encode() if isinstance(code, str) else b"")
    for tensors in (module.named_parameters(), module.named_buffers()):
        for name, tensor in tensors:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def of_transform(transform: Callable) -> str:
    """Return 16 hex digits of a transform: its own `fingerprint`, or what it is made of and what it does.

    What it does is seen on a small picture under a fixed seed: an edited notebook class is another transform.
    """
    own = getattr(transform, "fingerprint", None)
    return own if isinstance(own, str) else short(_describe(transform, ()), _effect(transform, 0))


def is_random(transform: Callable) -> bool:
    """Return whether a transform gives something else under another seed (a coin flip may hide: 1 in 256)."""
    first = _effect(transform, 0)
    return any(_effect(transform, seed) != first for seed in range(1, 9))


def _effect(transform: Callable, seed: int) -> Any:
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
        parts = (thing.__code__.co_code.hex(), thing.__code__.co_consts, thing.__defaults__, cells)
        return [thing.__qualname__, *(_describe(part, above) for part in parts)]
    if hasattr(thing, "__dict__") and not isinstance(thing, type):
        kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
        return [kind, _without_addresses(repr(thing)), _describe(vars(thing), above)]
    return _without_addresses(repr(thing))


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
