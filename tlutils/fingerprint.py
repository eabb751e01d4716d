"""What decides a result, as short digits: equal things give equal ones, in another process too.

There is no list of what may be in a model or a transform. Whatever can be reached from it takes part: code,
defaults, closures, attributes, hooks, tensors, the state of its random generators, and the globals, modules
and environment variables that its code reads by name. What an object holds are its attributes and what it
would hand to `pickle`. Installed libraries go by name: their versions belong in a key of their own.

Some changes cannot be found by reading code: an edit inside a library, a file that is read, names that are
put together (`getattr`, `globals()[name]`) or imported inside of a function, what is put into Python's
builtins, and what a weak reference, or an object of a library that cannot be pickled, refers to. For those,
compare the outputs on a few inputs, as `features.extract` does.
"""

import copyreg
import dis
import hashlib
import inspect
import io
import json
import os
import pickle
import random
import re
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import xxhash
from torch import nn

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), type(...)})
_CODE = (FunctionType, MethodType)
_GENERATORS = (
    random.Random,
    np.random.Generator,
    np.random.RandomState,
    np.random.BitGenerator,
    torch.Generator,
)
_TENSORS = ("_parameters", "_buffers")
# The mode, and the number of classes, which is the head's shape.
_NO_SETTINGS = frozenset(
    {
        *_TENSORS,
        "_modules",
        "training",
        "num_classes",
        "_compiled_call_impl",
    }
)
_MODE = ("train", "reset_running_stats")  # this package's own marks of a frozen module stand there
_FRESH = frozenset(vars(nn.Module()))  # what torch gives each module, most of it lists of hooks
_LIBRARIES = tuple(
    str(Path(folder).resolve())
    for folder in {
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        torch.__path__[0],
    }
)


class Settings(NamedTuple):
    """What a thing is made of, but for a model's tensors: digits by place, and those of its generators."""

    parts: dict[str, str]
    generators: tuple[str, ...]


def short(*parts: Any) -> str:
    """Return 16 hex digits of any parts that JSON can hold.

    Args:
        *parts: numbers, texts, lists and dicts.

    Example:
        >>> from tlutils import fingerprint
        >>> fingerprint.short("a", 1) == fingerprint.short("a", 2)
        False
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def of(thing: Any) -> str:
    """Return 16 hex digits of a function, a transform, a model or any other value, with all that it reads.

    Args:
        thing: anything.

    Example:
        >>> from tlutils import fingerprint
        >>> def scaled(factor):
        ...     return lambda image: image * factor
        >>> fingerprint.of(scaled(1)) == fingerprint.of(scaled(2))
        False
    """
    return _Walk().digest(thing)


def of_tensors(model: nn.Module, names: Collection[str] | None = None) -> dict[str, str]:
    """Return the digits of each parameter and buffer of a model, by name.

    Args:
        model: any model.
        names: only these, since hashing large weights takes a while; all for None.

    Example:
        >>> from torch import nn
        >>> from tlutils import fingerprint
        >>> sorted(fingerprint.of_tensors(nn.Linear(3, 2)))
        ['bias', 'weight']
    """
    found = dict([*model.named_parameters(), *model.named_buffers()])
    return {name: _tensor(t) for name, t in found.items() if names is None or name in names}


def of_settings(thing: Any) -> Settings:
    """Return the digits of each setting of a thing, by the place where it stands, without a model's tensors.

    The places of a model's parts begin with the dotted name of their module and a colon.

    Args:
        thing: a model, or a function or object that is called.

    Example:
        >>> from torch import nn
        >>> from tlutils import fingerprint
        >>> one, other = (fingerprint.of_settings(nn.Dropout(p)).parts for p in (0.1, 0.2))
        >>> [place for place in one if one[place] != other[place]]
        [':p']
    """
    walk = _Walk()
    modules = thing.named_modules() if isinstance(thing, nn.Module) else [("", thing)]
    parts = {f"{path}:{place}": digits for path, part in modules for place, digits in walk.spread(part)}
    return Settings(parts, tuple(walk.generators))


def of_generators() -> str:
    """Return the digits of the states of the global random generators: any draw changes them.

    Example:
        >>> import random
        >>> from tlutils import fingerprint
        >>> before = fingerprint.of_generators()
        >>> _ = random.random()
        >>> fingerprint.of_generators() == before
        False
    """
    torchs = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        torchs += torch.cuda.get_rng_state_all()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return _hash(pickle.dumps((random.getstate(), numpy, [state.numpy() for state in torchs])))


class _Walk:
    """One walk over all that can be reached; each thing is looked at once."""

    def __init__(self) -> None:
        self.generators: list[str] = []
        self._seen: dict[int, str] = {}
        self._alive: list[Any] = []  # so that no two things of a walk share an id
        self._classes: dict[type, list[tuple[str, str]]] = {}
        self._bases: dict[type, list[tuple[str, str]]] = {}
        self._functions: dict[int, list[tuple[str, str]]] = {}

    def digest(self, thing: Any) -> str:
        """Return digits of a thing."""
        if type(thing) in _PLAIN or _is_short_and_plain(thing):
            return repr(thing)
        if id(thing) not in self._seen:
            self._seen[id(thing)] = "loop"
            self._alive.append(thing)
            self._seen[id(thing)] = _hash(type(thing).__name__, *self._inside(thing))
            if isinstance(thing, _GENERATORS):
                self.generators.append(self._seen[id(thing)])
        return self._seen[id(thing)]

    def spread(self, thing: Any) -> Iterator[tuple[str, str]]:
        """Yield the settings of a thing that is called, one by one: (place in it, digits)."""
        if isinstance(thing, FunctionType):
            yield from self._function(thing)
        elif isinstance(thing, MethodType):
            yield from ((f"method {place}", digits) for place, digits in self.spread(thing.__func__))
            yield "self", self.digest(thing.__self__)
        elif isinstance(thing, nn.Module):
            yield from self._module(thing)
        elif hasattr(thing, "__dict__") and not isinstance(thing, type):
            yield from self._class(type(thing))
            for name, value in vars(thing).items():
                yield from self._setting(name, value)
            yield "state", self.digest(thing)
        else:
            yield "", self.digest(thing)

    def _setting(self, place: str, value: Any) -> Iterator[tuple[str, str]]:
        """Yield one setting, with the parts of a function, or of a chain of things that are called, apart."""
        if isinstance(value, _CODE):
            yield from ((f"{place} {inner}", digits) for inner, digits in self.spread(value))
        elif isinstance(value, (list, tuple)) and value and all(map(callable, value)):
            yield place, str(len(value))
            for i, item in enumerate(value):
                yield from ((f"{place} {i} {inner}", digits) for inner, digits in self.spread(item))
        else:
            yield place, self.digest(value)

    def _module(self, module: nn.Module) -> Iterator[tuple[str, str]]:
        yield from self._class(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            # Its classes are numbered, and its parts have addresses, in this process.
            code = module._c.dump_to_str(True, True, False)
            yield "scripted", _hash(re.sub(r"\.___torch_mangle_\d+| at 0x[0-9a-f]+", "", code))
            return
        for name, value in vars(module).items():
            if name in _NO_SETTINGS or (name in _FRESH and not value):
                continue
            if name in _MODE and str(getattr(value, "__module__", "")).startswith(f"{__package__}."):
                continue
            if type(value) in _PLAIN or _is_short_and_plain(value):  # most of them
                yield name, repr(value)
            elif name.endswith("_hooks") and isinstance(value, dict):
                for i, hook in enumerate(value.values()):  # its keys count the hooks of this process
                    yield from self._setting(f"{name} {i}", hook)
            elif "_hooks_" not in name:
                yield from self._setting(name, value)
        for name, tensor in (item for kind in _TENSORS for item in getattr(module, kind).items()):
            if tensor is not None and vars(tensor):
                yield f"{name} attributes", self.digest(vars(tensor))
        if (
            type(module)._save_to_state_dict is not nn.Module._save_to_state_dict
        ):  # quantised weights are here
            saved: dict[str, Any] = {}
            module._save_to_state_dict(saved, "", False)
            own = {id(t) for name in _TENSORS for t in getattr(module, name).values()}
            yield "saved", self.digest({k: v for k, v in saved.items() if id(v) not in own})

    def _class(self, kind: type) -> list[tuple[str, str]]:
        if kind not in self._classes:
            self._classes[kind] = []  # its methods may name it
            bases = (*inspect.getmro(kind), *inspect.getmro(type(kind)))
            found = (part for base in bases for part in self._base(base))
            self._classes[kind] = [("class", _name(kind)), *found]
        return self._classes[kind]

    def _base(self, base: type) -> list[tuple[str, str]]:
        """Return what stands in one class itself."""
        if base not in self._bases:
            self._bases[base] = found = list[tuple[str, str]]()
            for name, value in list(vars(base).items()):  # looking may note something in it
                value = getattr(value, "__func__", getattr(value, "fget", value))
                # A library's class goes by its name, unless somebody put another method in.
                own = not _from_library(base.__module__) or (
                    isinstance(value, FunctionType) and not _from_library(value.__module__)
                )
                if own and (isinstance(value, FunctionType) or not name.startswith("__")):
                    found += self._setting(f"{base.__qualname__}.{name}", value)
        return self._bases[base]

    def _function(self, function: FunctionType) -> list[tuple[str, str]]:
        if id(function) not in self._functions:
            self._functions[id(function)] = []  # it may call itself
            self._alive.append(function)
            self._functions[id(function)] = list(self._read(function))
        return self._functions[id(function)]

    def _read(self, function: FunctionType) -> Iterator[tuple[str, str]]:
        yield "code", _hash(_name(function), *_code(function.__code__))
        yield "defaults", self.digest([function.__defaults__, function.__kwdefaults__])
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":  # the class that it stands in, which is what led here
                try:
                    yield from self._named(name, cell.cell_contents, _names(function.__code__), set())
                except ValueError:  # not bound yet
                    yield name, "empty"
        if not _from_library(function.__globals__.get("__name__")):
            for name, value in vars(function).items():
                yield from self._setting(f"attribute {name}", value)
            names, met = _names(function.__code__), set[str]()
            for name in _globals_read(function.__code__):
                if name in function.__globals__:
                    yield from self._named(f"global {name}", function.__globals__[name], names, met)
            for name in sorted(_texts(function.__code__) & set(os.environ)):
                yield f"environment {name}", repr(os.environ[name])

    def _named(self, place: str, value: Any, names: set[str], met: set[str]) -> Iterator[tuple[str, str]]:
        """Yield what code that uses `names` reads: of the user's own modules, and those in them, no more."""
        if not isinstance(value, ModuleType):
            yield from self._setting(place, value)
        elif _from_library(value.__name__):
            yield place, value.__name__
        elif value.__name__ not in met:
            met.add(value.__name__)
            read = sorted(names & set(vars(value)))
            for own in read:
                yield from self._named(f"{place}.{own}", getattr(value, own), names, met)
            if not read:  # it is handed on
                yield from self._setting(place, value)

    def _inside(self, thing: Any) -> Iterator[str]:
        if type(thing) in (list, tuple):
            yield from map(self.digest, thing)
        elif type(thing) in (dict, OrderedDict):
            yield from (f"{self.digest(k)} {self.digest(v)}" for k, v in thing.items())
        elif isinstance(thing, (set, frozenset)):
            yield from sorted(map(self.digest, thing))
        elif isinstance(thing, torch.Tensor):
            yield from (_tensor(thing), self.digest(vars(thing)))
        elif type(thing) is np.ndarray and not thing.dtype.hasobject:
            yield from (thing.dtype.str, str(thing.shape), _hash(np.ascontiguousarray(thing).tobytes()))
        elif isinstance(thing, nn.Module):
            for path, module in thing.named_modules():
                yield from (f"{path}:{place} {digits}" for place, digits in self._module(module))
            yield from (f"{name} {digits}" for name, digits in of_tensors(thing).items())
        elif isinstance(thing, FunctionType):
            yield from map(str, self._function(thing))
        elif isinstance(thing, MethodType):
            yield from map(str, self.spread(thing))
        elif isinstance(thing, CodeType):
            yield from _code(thing)
        elif isinstance(thing, type):
            yield from map(str, self._class(thing))
        elif thing is os.environ:
            yield "of which counts what code names"
        elif isinstance(thing, ModuleType):
            yield thing.__name__
            if not _from_library(thing.__name__):
                held = {k: v for k, v in vars(thing).items() if type(v).__module__ == "builtins"}
                yield from (f"{k} {self.digest(held[k])}" for k in sorted(held) if not k.startswith("__"))
        elif isinstance(thing, BuiltinFunctionType) and not hasattr(thing, "__self__"):
            yield _name(thing)
        elif isinstance(thing, torch.jit.ScriptFunction):
            yield _hash(thing.save_to_buffer({}))
        else:
            yield from self._object(thing)

    def _object(self, thing: Any) -> Iterator[str]:
        yield from map(str, self._class(type(thing)))
        saved: Any = []
        try:
            if not _from_library(type(thing).__module__):  # whatever it would keep from `pickle`
                yield self.digest(object.__getstate__(thing))
            reduce = copyreg.dispatch_table.get(type(thing))  # that of a regular expression, say
            saved = reduce(thing) if reduce else thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except Exception:  # a lock, an open file: nothing that could be told; or a view of other things
            if isinstance(thing, Mapping):
                saved = list(thing.items())
            elif isinstance(thing, Collection):
                saved = list(thing)
        if isinstance(saved, str):  # a name: there may be more behind it, such as the function of a cache
            saved = [saved, getattr(thing, "__dict__", None)]
        for part in saved:
            # What is in a list or dict of a kind of its own comes as an iterator.
            yield self.digest(list(part) if isinstance(part, Iterator) else part)


def _is_short_and_plain(thing: Any) -> bool:
    """Whether it is a stride, a padding or the like, whose text takes less time than a hash."""
    return type(thing) in (list, tuple) and len(thing) <= 8 and _PLAIN.issuperset(map(type, thing))


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode(errors="surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _tensor(tensor: torch.Tensor) -> str:
    # Weights are many: a hash that nobody can forge would take ten times as long, and nobody forges here.
    digest = xxhash.xxh3_128()
    plain = tensor.detach()
    try:
        if type(plain) is not torch.Tensor or plain.is_quantized:
            raise TypeError  # more than its numbers makes it what it is
        digest.update(f"{plain.dtype} {tuple(plain.shape)};".encode())
        values = plain.cpu().contiguous()
        if values.dtype not in (torch.float32, torch.int64):  # most are; NumPy does not know all others
            values = values.flatten().view(torch.uint8)
        digest.update(values.numpy().data)
    except (RuntimeError, ValueError, TypeError, NotImplementedError):  # sparse, say, or without data
        buffer = io.BytesIO()
        try:
            torch.save(plain, buffer)
        except Exception:  # of a class that `pickle` does not find, or one that only stands for a tensor
            buffer.write(repr(plain).encode())
        digest.update(buffer.getbuffer())
    return digest.hexdigest()


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        yield from _code(constant) if isinstance(constant, CodeType) else [_constant(constant)]


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


@cache
def _globals_read(code: CodeType) -> list[str]:
    """Return the names of the globals that code reads, also in functions that it defines."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = (name for part in code.co_consts if isinstance(part, CodeType) for name in _globals_read(part))
    return sorted(found.union(inner))


@cache
def _names(code: CodeType) -> set[str]:
    inner = (name for part in code.co_consts if isinstance(part, CodeType) for name in _names(part))
    return {*code.co_names, *inner}


def _texts(code: CodeType) -> set[str]:
    """Return the texts that code holds, also in functions that it defines."""
    inner = (text for part in code.co_consts if isinstance(part, CodeType) for text in _texts(part))
    return {*(part for part in code.co_consts if isinstance(part, str)), *inner}


def _name(thing: Any) -> str:
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "")
    return f"{getattr(thing, '__module__', None)}.{name}"


@cache
def _from_library(module: str | None) -> bool:
    """Whether a module is an installed library's, Python's, or this package's own."""
    if module in ("__main__", "__mp_main__"):
        return False
    if not isinstance(module, str) or module.partition(".")[0] == __package__:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.modules
    return str(Path(file).resolve()).startswith(_LIBRARIES)
