"""Trace how data flows through a model's top modules, each run once on tensors without data.

Only the modules in `opened` are looked into; every other module stays one step of the graph, run as it is.
Each step is evaluated at two batch sizes, so that what follows from the batch size, from the image size and
from the image itself can be told apart.
"""

import functools
import itertools
import operator
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ... import runtime
from ...inference import device_of, dtype_of, find_logits, mirror, set_mode, watch_draws
from .receptive_field import Reach, layout_of
from .tracer import BATCHES, SHAPE, Note, OtherNumber, Replay, Tracer, is_size, replaced

_TRACING = threading.Lock()  # fx patches torch.nn.Module while it traces


class Untraceable(Exception):
    """The flow cannot be followed through module `path` ("" is the model itself), for this reason."""

    def __init__(self, path: str, reason: BaseException | str) -> None:
        super().__init__(f"{path or 'the model'}: {reason}")
        self.path, self.reason = path, reason


@dataclass
class Flow:
    """One forward pass as a graph; see the module's first lines. Dictionaries are keyed by node.

    `values` holds each node's value for both batch sizes; `depends` NOTHING, SHAPE or DATA; `macs`
    multiply-adds per image; `reach` receptive fields; `changed` the nodes that later write into a value.
    `fixed` is true when the path taken depends on the image size, `by_value` when it depends on the weights'
    values. `notes` are the steps as they were first written down.
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
    notes: list[Note]
    by_value: bool

    def layout(self, node: fx.Node) -> str:
        """Return a letter for each dimension of the tensor that a node gives; see `layout_of`."""
        size = self.values[self.image][0].shape[2:]
        return layout_of(self.values[node][0].shape, size, self.reach.get(node))


def trace(
    model: nn.Module,
    size: tuple[int, ...],
    opened: set[str],
    *,
    training: bool = False,
    chain: Sequence[str] = (),
) -> Flow:
    """Return the flow of images (C, H, W) = `size` through `model`, which is not run and not changed.

    Tensors without data are used; where a model looks at values, real images are, on a copy of its buffers.
    Raises Untraceable.
    """
    try:
        return _trace(model, size, opened, training=training, meta=True, chain=chain)
    except Untraceable as error:
        if error.path and error.path in opened:
            raise
        return _trace(model, size, opened, training=training, meta=False, chain=chain)


def is_current(flows: Mapping[bool, Flow | str], model: nn.Module, opened: set[str]) -> bool:
    """Whether `model` still takes the steps of `flows`, {training: flow}; no layer runs to find out."""
    try:
        return _replay(flows, model, opened, times=1)
    except Exception:  # it runs in another way, or not any more
        return False


def computes_with_other_numbers(flows: Mapping[bool, Flow | str], model: nn.Module, opened: set[str]) -> bool:
    """Whether a second pass has other numbers in the same steps: a draw or a count outside of a layer."""
    try:
        _replay(flows, model, opened, times=2)
    except OtherNumber:
        return True
    except Exception:  # such as a table that the first pass left for the next
        return False
    return False


def _replay(flows: Mapping[bool, Flow | str], model: nn.Module, opened: set[str], *, times: int) -> bool:
    known = {training: flow for training, flow in flows.items() if isinstance(flow, Flow)}
    if any(flow.by_value for flow in known.values()):
        return False
    with _TRACING, mirror(model, meta=True) as copy, torch.no_grad():
        replay = Replay([torch.empty(0, device="meta")], _paths(opened), measured=False)
        replay.trace(_Entries(copy, list(known.items()) * times, replay))
    return True


def _paths(opened: set[str]) -> set[str]:
    return {"model", *(f"model.{path}" for path in opened)}


_LIGHTS = ((0, 0), (1, 0), (30, 0), (1, 5), (1, -5), (0, 20), (0, -20))  # contrast, brightness


def chain_of(
    model: nn.Module, size: tuple[int, ...], *, lights: Sequence[tuple[int, int]] = _LIGHTS
) -> list[str]:
    """Return the children that the model calls if it just calls one after another, else an empty list.

    Tried on several real images, dark, bright and none, in both modes, on a copy.
    """
    calls: list[str] = []
    found: list[str] = []
    if any(isinstance(child, torch.jit.ScriptModule) for child in model.children()):
        return []  # whose calls cannot be seen
    with mirror(model, meta=False) as copy, torch.no_grad(), runtime.seeded(0):
        own = _Entry(copy)
        for name, child in copy.named_children():
            child.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
        trials = itertools.product(_images(model, size, meta=False), lights, (False, True))
        for noise, (contrast, brightness), mode in trials:
            image = noise * contrast + brightness
            set_mode(own, mode)
            calls.clear()
            try:
                runtime.seed_torch(0)
                out = own(image)
                order, found = found or list(calls), list(calls)
                runtime.seed_torch(0)
                again = _Entry(copy, chain=found)(image)
            except Exception:
                return []
            if found != order or not isinstance(out, Tensor) or not torch.equal(out, again):
                return []
    return found


def _images(model: nn.Module, size: tuple[int, ...], *, meta: bool) -> list[Tensor]:
    if meta:
        return [torch.empty(n, *size, dtype=dtype_of(model), device="meta") for n in BATCHES]
    with runtime.seeded(0):  # the caller's randomness stays as it was
        return [torch.randn(n, *size, device=device_of(model)).to(dtype_of(model)) for n in BATCHES]


def _trace(
    model: nn.Module,
    size: tuple[int, ...],
    opened: set[str],
    *,
    training: bool,
    meta: bool,
    chain: Sequence[str],
) -> Flow:
    images = _images(model, size, meta=meta)

    def follow() -> tuple[Tracer, _Entry, fx.Graph]:
        tracer = Tracer(images, _paths(opened), measured=not training)
        try:
            with _TRACING, mirror(model, meta=meta) as copy, torch.no_grad():
                entry = _Entry(copy, chain=chain)
                set_mode(entry, training)
                return tracer, entry, tracer.trace(entry)
        except Exception as error:
            raise Untraceable(tracer.where.removeprefix("model").removeprefix("."), error) from error

    (tracer, entry, graph), drawn = watch_draws(follow)
    if drawn:
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
    _unpack(graph, tracer)
    image, *steps, output = graph.nodes
    return Flow(
        graph, image, output, steps, tracer.values, tracer.depends, tracer.macs, tracer.reach, tracer.changed,
        constants, tracer.fixed, tracer.notes, tracer.by_value,
    )  # fmt: skip


def _unpack(graph: fx.Graph, tracer: Tracer) -> None:
    """Replace each list that goes from step to step as one value by its entries, which a cut can carry."""
    for node in list(graph.nodes):
        pair = tracer.values.get(node, (None, None))
        users = [u for u in node.users if u.op != "output" and u.target is not operator.getitem]
        if type(pair[0]) not in (list, tuple) or not users:
            continue
        entries: list[fx.Node] = []
        for i in reversed(range(len(pair[0]))):
            with graph.inserting_after(node):
                entry = graph.call_function(operator.getitem, (node, i))
            entries.insert(0, entry)
            tracer.values[entry] = pair[0][i], pair[1][i]
            sized = is_size(pair[0][i]) and tracer.images[0].is_meta
            tracer.depends[entry] = min(tracer.depends[node], SHAPE) if sized else tracer.depends[node]
            tracer.macs[entry], tracer.reach[entry] = 0, tracer.receptive.of(pair[0][i])
            if node in tracer.changed:
                tracer.changed[entry] = tracer.changed[node]
        whole = entries if type(pair[0]) is list else tuple(entries)
        swap = functools.partial(_swapped, node, whole)
        for user in users:
            user.args, user.kwargs = replaced(user.args, swap), replaced(dict(user.kwargs), swap)


def _swapped(node: fx.Node, whole: Any, value: Any) -> Any:
    return whole if value is node else value


class _Entry(nn.Module):
    """Calls the model, or its children in `chain`, with one image batch, and returns the logits.

    Other arguments keep defaults. In training mode a tuple stays: auxiliary logits may follow.
    """

    def __init__(self, model: nn.Module, *, chain: Sequence[str] = ()) -> None:
        super().__init__()
        self.model, self.chain = model, chain

    def forward(self, image: Tensor) -> Any:
        if not self.chain:
            out = self.model(image)
            whole = isinstance(out, Tensor | fx.Proxy) or (self.training and isinstance(out, tuple | list))
            return out if whole else find_logits(out)
        for name in self.chain:
            image = getattr(self.model, name)(image)
        return image


class _Entries(_Entry):
    """Calls the model in each mode of `flows`, (training, flow): to begin a trace takes a while."""

    def __init__(self, model: nn.Module, flows: list[tuple[bool, Flow]], replay: Replay) -> None:
        super().__init__(model)
        self.flows, self.replay = flows, replay

    def forward(self, _: Any) -> None:
        for training, flow in self.flows:
            set_mode(self, training)
            self.replay.finish(super().forward(self.replay.follow(flow)))
