"""Trace how data flows through a model's top modules, each run once on tensors without data.

Only the modules in `opened` are looked into; every other module stays one step of the graph, run as it is.
Each step is evaluated at two batch sizes, so that what follows from the batch size, from the image size and
from the image itself can be told apart.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm.layers
import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute

from .. import runtime
from .measure import Multiplications, Reach, Receptive
from .mirror import empty_like, mirror

BATCHES = (2, 3)
NOTHING, SHAPE, DATA = range(3)  # what a value depends on; each includes the ones before


class Untraceable(Exception):
    """The flow cannot be followed through module `path` ("" is the model itself), for this reason."""

    def __init__(self, path: str, reason: BaseException | str) -> None:
        super().__init__(f"{path or 'the model'}: {reason}")
        self.path, self.reason = path, reason


@dataclass
class Flow:
    """One forward pass as a graph; see the module's first lines. Dictionaries are keyed by node.

    `values` holds each node's value for both batch sizes; `depends` NOTHING, SHAPE or DATA; `macs`
    multiply-adds an image; `reach` receptive fields; `changed` the nodes that later write into a value.
    `fixed` is true when the path taken depends on the image size.
    """

    graph: fx.Graph
    image: fx.Node
    output: fx.Node
    steps: list[fx.Node]
    values: dict[fx.Node, tuple[Any, Any]]
    depends: dict[fx.Node, int]
    macs: dict[fx.Node, int]
    reach: dict[fx.Node, Reach | None]
    changed: dict[fx.Node, list[fx.Node]]
    constants: dict[str, Tensor]
    fixed: bool


def trace(model: nn.Module, size: tuple[int, ...], opened: set[str], *, training: bool = False) -> Flow:
    """Return the flow of images (C, H, W) = `size` through `model`, which is not run and not changed.

    Tensors without data are used; where a model looks at values, real images are, on a copy of its buffers.
    Raises Untraceable.
    """
    try:
        return _trace(model, size, opened, training=training, meta=True)
    except Untraceable as error:
        if error.path and error.path in opened:
            raise
        with runtime.seeded(0):
            return _trace(model, size, opened, training=training, meta=False)


def _trace(model: nn.Module, size: tuple[int, ...], opened: set[str], *, training: bool, meta: bool) -> Flow:
    entry = _Entry(mirror(model, meta=meta))
    for module in entry.modules():  # not by train(), which a model may have changed
        if not isinstance(module, torch.jit.ScriptModule):
            module.training = training
    weight = next((p for p in entry.parameters() if p.is_floating_point()), torch.empty(0))
    images = [torch.zeros(n, *size, dtype=weight.dtype, device="meta") for n in BATCHES]
    if not meta:
        images = [torch.randn(i.shape, device=weight.device).to(weight.dtype) for i in images]
    tracer = _Tracer(images, {"model", *(f"model.{path}" for path in opened)}, measured=not training)
    before = None if not meta else _generators()
    try:
        with torch.no_grad():
            graph = tracer.trace(entry)
    except Exception as error:
        raise Untraceable(tracer.where.removeprefix("model").removeprefix("."), error) from error
    if before is not None and before != _generators():
        raise Untraceable("", "its forward draws random numbers outside of a layer")
    constants = {
        str(n.target): getattr(entry, n.target)
        for n in graph.nodes
        if n.op == "get_attr" and not n.target.startswith("model.")
    }
    if meta and any(c.is_meta for c in constants.values()):
        raise Untraceable("", "it computes with its weights' values")
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = node.target.removeprefix("model.")
    image, *steps, output = graph.nodes
    return Flow(
        graph, image, output, steps, tracer.values, tracer.depends, tracer.macs, tracer.reach, tracer.changed,
        constants, tracer.fixed,
    )  # fmt: skip


def _generators() -> tuple[Any, ...]:
    numpy = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2]  # type: ignore[index,union-attr]


class _Entry(nn.Module):
    """Calls the model with one image batch, so that its other arguments keep their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Any:
        return self.model(image)


class _Proxy(fx.Proxy):
    """A traced value that also answers what Python asks of sizes: truth, length, index."""

    tracer: "_Tracer"

    def __getattr__(self, name: str) -> "_Attribute":
        return _Attribute(self, name)

    def __len__(self) -> int:
        return len(self.tracer.concrete(self))

    def __index__(self) -> int:
        return self.tracer.concrete(self).__index__()

    def __int__(self) -> int:
        return int(self.tracer.concrete(self))

    def __float__(self) -> float:
        return float(self.tracer.concrete(self))


class _Attribute(Attribute, _Proxy):  # type: ignore[misc]
    """An attribute of a traced value, recorded when it is used."""


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def __init__(self, images: list[Tensor], opened: set[str], *, measured: bool) -> None:
        super().__init__(autowrap_functions=tuple(timm.layers.get_notrace_functions()))
        self.images, self.opened = images, opened
        self.where = ""
        self.fixed = False
        self.values: dict[fx.Node, tuple[Any, Any]] = {}
        self.depends: dict[fx.Node, int] = {}
        self.macs: dict[fx.Node, int] = {}
        self.reach: dict[fx.Node, Reach | None] = {}
        self.changed: dict[fx.Node, list[fx.Node]] = {}
        self._receptive = Receptive(images[0] if measured else torch.empty(0))
        self._measured = measured
        self._evaluating = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self._evaluating:
            return forward(*args, **kwargs)
        if (path := self.path_of_module(m)) in self.opened:
            self.where, outer = path, self.where
            out = super().call_module(m, forward, args, kwargs)
            self.where = outer  # not after an error: then it names the module that failed
            return out
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.concrete(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return iter([obj[i] for i in range(len(self.concrete(obj)))])  # type: ignore[index]

    def concrete(self, proxy: fx.Proxy) -> Any:
        """Return the value of something that follows from sizes alone; the batch size may not decide."""
        first, second = self.values[proxy.node]
        if self.depends[proxy.node] == DATA or isinstance(first, Tensor) or first != second:
            raise fx.proxy.TraceError("what it does depends on the values in the image, or on the batch size")
        self.fixed |= self.depends[proxy.node] == SHAPE
        return first

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        if kind != "output":
            with self._evaluation():
                self._evaluate(node)
        return node

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False

    def _evaluate(self, node: fx.Node) -> None:
        versions = [(n, t, t._version) for n, (v, _) in self.values.items() for t in tensors(v)]
        count = Multiplications()
        with self._receptive:
            with count if self._measured else nullcontext():
                first = self._run(node, 0)
            second = self._run(node, 1)
        self.values[node] = first, second
        for earlier, tensor, version in versions:
            if tensor._version != version:
                self.changed.setdefault(earlier, []).append(node)
        self.macs[node] = count.total // BATCHES[0]
        self.reach[node] = self._receptive.of(first)
        above = max((self.depends[n] for n in node.all_input_nodes), default=NOTHING)
        if node.op == "placeholder":
            above = DATA
        elif above == DATA and not tensors(first) and is_size(first):
            above = SHAPE
        self.depends[node] = above

    def _run(self, node: fx.Node, i: int) -> Any:
        args: Any = fx.map_arg(node.args, lambda n: self.values[n][i])
        kwargs: Any = fx.map_arg(node.kwargs, lambda n: self.values[n][i])
        if node.op == "placeholder":
            return self.images[i]
        if node.op == "get_attr":
            value = fetch(self.root, str(node.target))
            return empty_like(value) if isinstance(value, Tensor) and self.images[0].is_meta else value
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return fetch(self.root, str(node.target))(*args, **kwargs)


def fetch(module: nn.Module, path: str) -> Any:
    """Return the attribute at a dotted path."""
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value


def is_size(value: Any) -> bool:
    """Whether a value is a number, a dtype, a device, or a sequence of them: what a shape gives."""
    if isinstance(value, tuple | list):
        return all(is_size(v) for v in value)
    return value is None or isinstance(
        value, int | float | str | slice | torch.dtype | torch.device | torch.layout
    )


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value, looking into lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [t for v in value for t in tensors(v)]
    return [t for v in value.values() for t in tensors(v)] if isinstance(value, dict) else []
