"""A tracer that knows, for every step, its value at two batch sizes and what that value depends on."""

import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import timm.layers
import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator
from torch.fx.proxy import Attribute
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from ... import runtime
from ...inference import empty_like
from .receptive_field import Reach, Receptive, tensors

BATCHES = (2, 3)
_PLAIN = (type(None), int, float, str, slice, torch.dtype, torch.device, torch.layout)
NOTHING, SHAPE, DATA = range(3)  # what a value depends on; each includes the ones before


class _Proxy(fx.Proxy):
    """A traced value that also answers what Python asks of sizes: truth, length, index."""

    tracer: "Tracer"

    def __getattr__(self, name: str) -> "_Attribute":
        return _Attribute(self, name)

    def __len__(self) -> int:
        if isinstance(self.tracer.values[self.node][0], Tensor):
            raise fx.proxy.TraceError("it asks for len(x) of a tensor, where x.shape[0] can be followed")
        return len(self.tracer.concrete(self))

    def __index__(self) -> int:
        return self.tracer.concrete(self).__index__()

    def __int__(self) -> int:
        return int(self.tracer.concrete(self))

    def __float__(self) -> float:
        return float(self.tracer.concrete(self))


class _Attribute(Attribute, _Proxy):  # type: ignore[misc]
    """An attribute of a traced value, recorded when it is used."""


class Note(NamedTuple):
    """A step as it was first written down; earlier steps are named by their number in `call`."""

    node: fx.Node
    call: tuple[str, Any, Any]


class _Products(TorchDispatchMode):
    """Counts what runs within by PyTorch's formulas: a multiply-add is two operations.

    `FlopCounterMode` also tells in which module, and takes several times as long.
    """

    supports_higher_order_operators = True
    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):  # such as `torch.cond`, of which one branch counts
            with FlopCounterMode(display=False) as count:
                out = func(*args, **kwargs)
            self.flops += count.get_total_flops()
            return out
        out = func(*args, **kwargs)
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


class Tracer(fx.Tracer):
    """Traces a model and evaluates each step as it is written down; see `graph` for what it notes."""

    proxy_buffer_attributes = True

    def __init__(self, images: list[Tensor], opened: set[str], *, measured: bool) -> None:
        super().__init__(autowrap_functions=tuple(timm.layers.get_notrace_functions()))  # type: ignore[attr-defined, no-untyped-call]
        self.images, self.opened = images, opened
        self.where = ""
        self.fixed = False
        self.values: dict[fx.Node, tuple[Any, Any]] = {}
        self.depends: dict[fx.Node, int] = {}
        self.macs: dict[fx.Node, int] = {}
        self.reach: dict[fx.Node, Reach | None] = {}
        self.changed: dict[fx.Node, list[fx.Node]] = {}
        self.notes: list[Note] = []
        self.by_value = False
        self._number: dict[fx.Node, int] = {}
        self._given: list[tuple[fx.Node, Tensor]] = []  # by the steps so far, for the first batch
        self._thread = threading.get_ident()
        self.receptive = Receptive(images[0] if measured else torch.empty(0))
        self._measured = measured
        self._evaluating = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self._evaluating or threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        if (path := self.path_of_module(m)) in self.opened:
            self.where, outer = path, self.where
            out = super().call_module(m, forward, args, kwargs)
            self.where = outer  # not after an error: then it names the module that failed
            return out
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        elsewhere = self._evaluating or threading.get_ident() != self._thread  # fx watches all modules
        return attr_val if elsewhere else super().getattr(attr, attr_val, parameter_proxy_cache)

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
        self.by_value |= self.depends[proxy.node] == NOTHING and not self.images[0].is_meta
        return first

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        numbered = replaced(
            (node.args, dict(node.kwargs)),
            lambda a: f"step {self._number[a]}" if isinstance(a, fx.Node) else a,
        )
        self._number[node] = len(self.notes)
        self.notes.append(Note(node, (kind, target, numbered)))
        if kind != "output":
            with self._evaluation():
                self._evaluate(node)
        return node

    def create_proxy(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        proxy = super().create_proxy(kind, target, *args, **kwargs)
        missing = target is operator.getitem and self.values[proxy.node][0] is None
        return None if missing else proxy  # so that `is None` is answered

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        self._evaluating = True
        try:
            with nullcontext() if self.images[0].is_meta else runtime.seeded(0):
                yield  # what the layers draw is theirs; what their callers draw would be found afterwards
        finally:
            self._evaluating = False

    def _evaluate(self, node: fx.Node) -> None:
        versions = [tensor._version for _, tensor in self._given]
        count = _Products()  # type: ignore[no-untyped-call]
        try:
            with self.receptive:
                with count if self._measured else nullcontext():
                    first = self._run(node, 0)
                products = self.receptive.products
                second = self._run(node, 1)
        except Exception as error:
            got = ", ".join(
                str(tuple(t.shape)) for n in node.all_input_nodes for t in tensors(self.values[n][0])
            )
            raise RuntimeError(
                f"{str(node.target).removeprefix('model.')} fails on {got}: {error}"
            ) from error
        self.values[node] = first, second
        for (earlier, tensor), version in zip(self._given, versions, strict=True):
            if tensor._version != version:
                self.changed.setdefault(earlier, []).append(node)
        self._given += [(node, tensor) for tensor in tensors(first)]
        self.macs[node] = (count.flops // 2 + products) // BATCHES[0]
        self.receptive.products = 0
        self.reach[node] = self.receptive.of(first)
        above = max((self.depends[n] for n in node.all_input_nodes), default=NOTHING)
        if node.op == "placeholder":
            above = DATA
        elif above == DATA and is_size(first) and (self.images[0].is_meta or _asks_size(node)):
            above = SHAPE  # a tensor without data can tell nothing else
        self.depends[node] = above

    def _run(self, node: fx.Node, i: int) -> Any:
        def leaf(value: Any) -> Any:
            return self.values[value][i] if isinstance(value, fx.Node) else value

        args, kwargs = (replaced(a, leaf) for a in (node.args, dict(node.kwargs)))
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


class OtherNumber(Exception):
    """A model computes with another number than before."""


class Replay(Tracer):
    """Traces a model without running a layer, as long as it takes the steps of the flow that it follows."""

    _flow: Any = None

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._proxies: dict[str, Any] = {}  # before any flow, since fx lets other threads ask, too

    def follow(self, flow: Any) -> Any:
        """Begin a flow, in a graph of its own since messages may name its steps; return its image."""
        self._flow, self.graph = flow, fx.Graph(tracer_cls=type(self))
        self.notes, self._number = [], {}
        self._proxies = {}
        return self.create_proxy("placeholder", "image", (), {})

    def finish(self, output: Any) -> None:
        """End a flow. Raises an error unless all steps were taken, with the same output and constants."""
        self.create_node("output", "output", (self.create_arg(output),), {})
        constants = {name: vars(self.root).pop(name) for name in self._flow.constants}
        self.tensor_attrs = {t: name for t, name in self.tensor_attrs.items() if name not in constants}
        if len(self.notes) < len(self._flow.notes) or self.notes[-1].call != self._flow.notes[-1].call:
            raise fx.proxy.TraceError("it gives something else")
        if not all(torch.equal(c, self._flow.constants[name]) for name, c in constants.items()):
            raise OtherNumber

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return super().getattr(attr, attr_val, self._proxies)

    def _evaluate(self, node: fx.Node) -> None:
        if self._flow is None:  # before any flow
            return
        old, call = self._flow.notes[len(self.notes) - 1]
        if call != (now := self.notes[-1].call):
            if _without_numbers(call) == _without_numbers(now):
                raise OtherNumber
            raise fx.proxy.TraceError("it takes another step")
        self.values[node], self.depends[node] = self._flow.values[old], self._flow.depends[old]


def _without_numbers(call: tuple[str, Any, Any]) -> Any:
    kind, target, inputs = call
    return kind, target, replaced(inputs, lambda v: float if isinstance(v, float | int) else v)


def replaced(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return nested arguments with `leaf` applied to everything that is not a container."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replaced(v, leaf) for v in value))
    if isinstance(value, tuple):
        return tuple(replaced(v, leaf) for v in value)
    if isinstance(value, list):
        return [replaced(v, leaf) for v in value]
    if isinstance(value, dict):
        return {k: replaced(v, leaf) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(replaced(v, leaf) for v in (value.start, value.stop, value.step)))
    return leaf(value)


def _asks_size(node: fx.Node) -> bool:
    name = node.args[1] if node.target is getattr else node.target
    return name in (
        "shape",
        "size",
        "dim",
        "ndim",
        "ndimension",
        "numel",
        "dtype",
        "device",
        "is_cuda",
        "stride",
    )


def fetch(module: nn.Module, path: str) -> Any:
    """Return the attribute at a dotted path."""
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value


def is_size(value: Any) -> bool:
    """Whether a value is a number, a dtype, a device, or a sequence of them: what a shape gives."""
    return isinstance(value, _PLAIN) or (isinstance(value, (tuple, list)) and all(map(is_size, value)))
