"""Turn a flow and a cut into two lists of instructions, with what has to cross from the first to the second.

Only tensors that hold one entry per image cross. Position embeddings and masks, which no image changes, are
computed again on the side that needs them; sizes are counted again or, where they follow from the image size,
noted once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from .graph import Flow
from .receptive_field import tensors
from .tracer import BATCHES, DATA, SHAPE, replaced

_RANDOM = re.compile(r"rand|bernoulli|multinomial|poisson|dropout|normal_?$|uniform_?$|exponential_?$")


class NoCut(Exception):
    """The model cannot be cut at this place; the text says why."""


@dataclass(frozen=True)
class Slot:
    """Stands for a value computed earlier, by its number, in an instruction's arguments."""

    number: int


@dataclass(frozen=True)
class BatchSize:
    """Stands for `times` x the number of images, in an instruction's arguments."""

    times: int


@dataclass(frozen=True)
class Device:
    """Stands for the device that the images are on, in an instruction's arguments."""


@dataclass
class Instruction:
    """A call of kind "module", "method", "attribute" or "function" into slot `out`; slots `free` end then.

    `again` says that the part before the cut computes it, too.
    """

    kind: str
    target: Any
    args: Any
    kwargs: Any
    out: int
    free: tuple[int, ...] = ()
    again: bool = False


@dataclass
class Program:
    """Instructions from slots `inputs` to `result`; `shapes` of an image's inputs if they must be these."""

    inputs: list[int]
    instructions: list[Instruction] = field(default_factory=list)
    result: Any = None
    shapes: list[tuple[int, ...]] | None = None

    def finish(self) -> "Program":
        """Note after which instruction each slot is used for the last time, so that memory is given back."""
        last: dict[int, int] = {slot: -1 for slot in self.inputs}
        for i, step in enumerate(self.instructions):
            last[step.out] = i
            for slot in slots((step.args, step.kwargs)):
                last[slot] = i
        kept = set(slots(self.result))
        for i, step in enumerate(self.instructions):
            step.free = tuple(slot for slot, end in last.items() if end == i and slot not in kept)
        return self


def slots(value: Any) -> list[int]:
    """Return the numbers of the slots in nested arguments."""
    if isinstance(value, Slot):
        return [value.number]
    if isinstance(value, tuple | list):
        return [n for v in value for n in slots(v)]
    if isinstance(value, dict):
        return [n for v in value.values() for n in slots(v)]
    return (
        [n for v in (value.start, value.stop, value.step) for n in slots(v)]
        if isinstance(value, slice)
        else []
    )


def crossing(flow: Flow, place: dict[fx.Node, int], cut: int) -> list[fx.Node]:
    """Return the steps whose tensors stages from number `cut` >= 1 on need from before. Raises NoCut."""
    found: dict[fx.Node, None] = {}
    done: set[fx.Node] = set()

    def need(node: fx.Node) -> None:
        if node in done or (place[node] >= cut and node is not flow.image):
            return
        done.add(node)
        value = flow.values[node][0]
        if flow.depends[node] == DATA:
            if not isinstance(value, Tensor):
                raise NoCut(f"{node.name} is not a tensor")
            fold(flow, node)
            found[node] = None
        elif tensors(value):
            if _random(node) or node in flow.changed:
                raise NoCut(f"{node.name} cannot be computed a second time")
            for other in node.all_input_nodes:
                need(other)
        else:
            rebuilt(flow, node)

    for step in [*flow.steps, flow.output]:
        if step is flow.output or place[step] >= cut:
            for node in step.all_input_nodes:
                need(node)
    order = {node: i for i, node in enumerate([flow.image, *flow.steps])}
    return sorted(found, key=order.__getitem__)


def fold(flow: Flow, node: fx.Node) -> int:
    """Return how many entries a tensor holds for each image along its first dimension. Raises NoCut."""
    first, second = (v.shape for v in flow.values[node])
    times = first[0] // BATCHES[0] if first else 0
    if not times or (first[0], second[0]) != tuple(b * times for b in BATCHES) or first[1:] != second[1:]:
        raise NoCut(f"{node.name} does not hold one entry per image")
    return times


def _random(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and _RANDOM.search(name.lower()) is not None


def rebuilt(flow: Flow, node: fx.Node) -> tuple[Any, bool]:
    """Return a size with `BatchSize` and `Device` in it, and whether it is tied to the image size."""

    def pair(first: Any, second: Any) -> Any:
        if isinstance(first, tuple | list):
            both = [pair(a, b) for a, b in zip(first, second, strict=True)]
            return tuple(both) if isinstance(first, tuple) else both
        if isinstance(first, torch.device):
            return Device()
        if first == second:
            return first
        times = first // BATCHES[0] if isinstance(first, int) else 0
        if not times or (first, second) != tuple(b * times for b in BATCHES):
            raise NoCut(f"{node.name} follows from the number of images")
        return BatchSize(times)

    value = pair(*flow.values[node])
    return value, flow.depends[node] == SHAPE and not isinstance(value, BatchSize | Device)


def program(
    flow: Flow,
    place: dict[fx.Node, int],
    span: range,
    inputs: list[fx.Node],
    results: dict[str, tuple[int, list[fx.Node] | None]],
) -> Program:
    """Return the instructions of the stages in `span`, from the tensors `inputs`.

    `results` gives {name: (k, steps)}: what the steps hold when stage k ends; None is the model's own output.
    The program's result is a dictionary {name: tensor, tuple of tensors, or the model's output}.
    """
    return _Writer(flow, place, span, inputs).write(results)


class _Writer:
    """Writes one program; `slot` says where each step's value is found."""

    def __init__(self, flow: Flow, place: dict[fx.Node, int], span: range, inputs: list[fx.Node]) -> None:
        self.flow, self.place, self.span, self.given = flow, place, span, inputs
        self.number = {node: i for i, node in enumerate([flow.image, *flow.steps])}
        self.fresh = len(self.number)
        self.slot: dict[fx.Node, Any] = {}
        self.tied = flow.fixed
        self.out = Program(inputs=[])

    def write(self, results: dict[str, tuple[int, list[fx.Node] | None]]) -> Program:
        flow, place = self.flow, self.place
        for node in self.given:
            self.slot[node] = Slot(self.new_slot())
            self.out.inputs.append(self.slot[node].number)
        for node in self.given:
            if fold(flow, node) > 1:
                self.slot[node] = self.call("flatten", self.slot[node], 0, 1)
            if any(place[m] in self.span for m in flow.changed.get(node, [])):
                # The caller's own tensor is never written to.
                self.slot[node] = self.call("clone", self.slot[node])
        saved: dict[tuple[str, fx.Node], Slot] = {}
        for step in flow.steps:
            if place[step] not in self.span or step in self.slot:
                continue
            for name, (k, nodes) in results.items():
                for node in nodes or []:
                    if place[step] > k and step in flow.changed.get(node, []) and (name, node) not in saved:
                        saved[name, node] = self.call("clone", self.argument(node))
            self.emit(step)
        self.out.result = {}
        for name, (_, nodes) in results.items():
            if nodes is None:
                self.out.result[name] = _resolve(flow.output.args[0], self.argument)
                continue
            found = [saved.get((name, node)) or self.argument(node) for node in nodes]
            folds = [fold(flow, node) for node in nodes]
            found = [
                s if n == 1 else self.call("unflatten", s, 0, (-1, n))
                for s, n in zip(found, folds, strict=True)
            ]
            self.out.result[name] = found[0] if len(found) == 1 else tuple(found)
        if self.tied:
            self.out.shapes = [tuple(flow.values[node][0].shape[1:]) for node in self.given]
        return self.out.finish()

    def new_slot(self) -> int:
        self.fresh += 1
        return self.fresh - 1

    def call(self, method: str, slot: Any, *rest: Any) -> Slot:
        """Append a call of a tensor's method; return where its result is."""
        self.out.instructions.append(Instruction("method", method, (slot, *rest), {}, self.new_slot()))
        return Slot(self.fresh - 1)

    def argument(self, node: fx.Node) -> Any:
        """Return what stands for an earlier step's value, computed again here when it comes from before."""
        if node not in self.slot:
            before = self.place[node] not in self.span and self.flow.depends[node] != DATA
            if before and not tensors(self.flow.values[node][0]):
                self.slot[node], tied = rebuilt(self.flow, node)
                self.tied |= tied
            else:
                self.emit(node)
        return self.slot[node]

    def emit(self, node: fx.Node) -> None:
        args, kwargs = (_resolve(a, self.argument) for a in (node.args, node.kwargs))
        kind = {"call_module": "module", "call_method": "method", "get_attr": "attribute"}.get(
            node.op, "function"
        )
        target = str(node.target) if kind != "function" else node.target
        self.slot[node] = Slot(self.number[node])
        again = self.place[node] < self.span.start
        self.out.instructions.append(Instruction(kind, target, args, kwargs, self.number[node], again=again))


def _resolve(value: Any, argument: Callable[[fx.Node], Any]) -> Any:
    return replaced(value, lambda leaf: argument(leaf) if isinstance(leaf, fx.Node) else leaf)


def key_of(flow: Flow) -> dict[fx.Node, Any]:
    """Return for each step a key that the same step has in the flow of the other mode, training or not."""
    keys: dict[fx.Node, Any] = {flow.image: "image"}
    count: dict[Any, int] = {}
    for step in flow.steps:
        parts = replaced(
            (step.args, dict(step.kwargs)),
            lambda leaf: keys[leaf] if isinstance(leaf, fx.Node) else "?" if isinstance(leaf, bool) else leaf,
        )
        key = repr((step.op, step.target, parts))
        count[key] = count.get(key, 0) + 1
        keys[step] = hash((key, count[key]))
    return keys
