"""Group a model's steps into stages: stem, stage 1 … stage n, pool, head.

The model's own hierarchy decides. Modules are looked into while a single one still holds the whole body;
lists of blocks become stages; flat chains are joined where the resolution stays the same; a transformer,
whose resolution never changes, gets one stage a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...models import layers
from .graph import Flow, Untraceable, trace
from .receptive_field import layout_of, positions, tensors
from .tracer import DATA

LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)
_STEMS = ("stem", "embed", "conv1", "conv_proj")


@dataclass
class Atom:
    """A step that computes with weights, and the light steps (norm, activation, pool) that follow it."""

    steps: list[fx.Node]
    kind: str  # "layer", "block" or "container"
    path: str
    macs: int
    before: int  # spatial positions of what comes in, of what its first step gives, of what goes out
    middle: int
    after: int

    @property
    def drops(self) -> bool:
        """Whether its first step lowers the resolution."""
        return self.middle <= 0.6 * self.before


@dataclass
class Layout:
    """Stages as names and, for each step of the flow, the index of its stage."""

    flow: Flow
    names: list[str]
    place: dict[fx.Node, int]
    opened: set[str]
    chain: Sequence[str]


def kind(module: nn.Module) -> str:
    """Return "layer" (at most one weight, or a short chain of layers), "container" (of blocks) or "block"."""
    weights = sum(
        1 for m in module.modules() for p in m._parameters.values() if p is not None and p.dim() > 1
    )
    children = list(module.children())
    if weights <= 1:
        return "layer"
    if isinstance(module, LISTS):
        return "layer" if weights <= 3 and all(kind(c) == "layer" for c in children) else "container"
    size = size_of(module)
    for child in children:
        if (
            isinstance(child, LISTS)
            and size_of(child) > 0.8 * size
            and all(kind(c) != "layer" for c in child.children())
        ):
            return "container"
    return "block"


def size_of(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())


def lay_out(model: nn.Module, size: tuple[int, ...], *, chain: Sequence[str] = ()) -> Layout:
    """Return the stages of a model for images (C, H, W) = `size`. Raises Untraceable.

    With `chain`, the model is these children one after another, whatever its own forward looks like.
    """
    opened: set[str] = set()
    closed: set[str] = set()
    flow = trace(model, size, opened, chain=chain)
    while True:
        groups = _group(model, flow)
        candidate = _too_coarse(model, flow, groups, opened | closed)
        if candidate is None:
            break
        try:
            flow = trace(model, size, opened | {candidate}, chain=chain)
            opened.add(candidate)
        except Untraceable:
            closed.add(candidate)
    names = [name for name, _ in groups]
    place = {step: i for i, (_, steps) in enumerate(groups) for step in steps}
    return Layout(flow, names, complete(flow, place), opened, chain)


def complete(flow: Flow, place: dict[fx.Node, int]) -> dict[fx.Node, int]:
    """Return `place` for every step: never before one that it needs; sizes and constants where first used."""
    done: dict[fx.Node, int] = {flow.image: 0}
    current = 0
    for step in flow.steps:
        if flow.depends[step] == DATA:
            needs = [done[n] for n in step.all_input_nodes if n in done]
            current = max([place.get(step, current), *needs])
            if _is_item(step) and isinstance(flow.values[step.all_input_nodes[0]][0], tuple | list):
                current = max(needs)
            done[step] = current
    for step in reversed(flow.steps):
        if step not in done:
            done[step] = min((done[u] for u in step.users if u in done), default=0)
    for step in flow.steps:
        if flow.depends[step] != DATA:  # a size is taken at once, a constant when it is used
            first = done[step] if tensors(flow.values[step][0]) else 0
            done[step] = max([first, *(done[n] for n in step.all_input_nodes)])
    return done


def _is_item(step: fx.Node) -> bool:
    return step.op == "call_function" and getattr(step.target, "__name__", "") == "getitem"


def _too_coarse(model: nn.Module, flow: Flow, groups: list[Any], tried: set[str]) -> str | None:
    """Return the path of the module to look into next, None when the groups are stage-like."""
    for head in _terminal(model, flow):
        if _open(model, head, tried) and _positions(flow, head) == 1:
            return str(head.target)
    for name, steps in groups:
        for step in steps:
            hidden = name.startswith("fc") and _open(model, step, tried)
            if hidden and kind(model.get_submodule(str(step.target))) != "layer":
                return str(step.target)
    body = [(name, steps) for name, steps in groups if name.startswith(("stem", "stage"))]
    total = sum(flow.macs[s] for _, steps in body for s in steps) or 1
    steps = [s for _, group in body for s in group if _open(model, s, tried)]
    steps = [s for s in steps if not any(word in str(s.target) for word in _STEMS[:2])] or steps
    for step in sorted(steps, key=lambda s: -flow.macs[s]):
        share, few = flow.macs[step] / total, sum(n.startswith("stage") for n, _ in body) < 3
        container = kind(model.get_submodule(str(step.target))) == "container"
        if (container and (few or share > 2 / 3)) or (few and share > 0.9):
            return str(step.target)
    return None


def _open(model: nn.Module, step: fx.Node, tried: set[str]) -> bool:
    """Whether a step is a module that could be looked into."""
    if step.op != "call_module" or str(step.target) in tried:
        return False
    module = model.get_submodule(str(step.target))
    return any(True for _ in module.children()) and not isinstance(module, torch.jit.ScriptModule)


def _module(model: nn.Module, step: fx.Node) -> nn.Module | None:
    return model.get_submodule(str(step.target)) if step.op == "call_module" else None


def _positions(flow: Flow, step: fx.Node) -> int:
    """Return how many places a step's value tells apart: height x width, tokens, or 1 for a vector."""
    value, size = flow.values[step][0], flow.values[flow.image][0].shape[2:]
    shapes = [t.shape for t in tensors(value)]
    layouts = [flow.layout(step)] if isinstance(value, Tensor) else [layout_of(s, size) for s in shapes]
    return max(map(positions, shapes, layouts), default=1)


def _terminal(model: nn.Module, flow: Flow) -> list[fx.Node]:
    """Return the steps with weights from which the output is reached without passing other weights."""
    found: list[fx.Node] = []
    seen: set[fx.Node] = set()
    queue = list(flow.output.all_input_nodes)
    while queue:
        step = queue.pop()
        if step in seen or flow.depends[step] != DATA:
            continue
        seen.add(step)
        if step.op != "placeholder" and flow.macs[step]:
            found.append(step)
        else:
            queue.extend(step.all_input_nodes)
    return sorted(found, key=flow.steps.index)


def _group(model: nn.Module, flow: Flow) -> list[tuple[str, list[fx.Node]]]:
    """Return (name, steps) of each stage; only steps that carry the image are listed."""
    steps = [s for s in flow.steps if flow.depends[s] == DATA and tensors(flow.values[s][0])]
    start = _head_start(model, flow, steps)
    body, head = steps[:start], steps[start:]
    vector = len(body)  # where weights act on pooled vectors
    while (last := _last_weight(flow, body[:vector])) is not None and _is_dense(model, flow, body[last]):
        vector = last
    if vector < len(body):
        vector = _with_dropout(model, flow, body, vector)
    pool = _pool_start(model, flow, body[:vector])
    groups = _stages(_atoms(model, flow, body[:pool]))
    if pool < vector:
        groups.append(("pool", body[pool:vector]))
    hidden: list[list[fx.Node]] = []
    for step in body[vector:]:
        begun = bool(hidden) and any(flow.macs[s] for s in hidden[-1])
        fresh = _drops(_module(model, step)) or flow.macs[step] > 0
        if not hidden or (begun and fresh):
            hidden.append([])
        hidden[-1].append(step)
    groups += [(f"fc{i}", part) for i, part in enumerate(hidden, 1)]
    return [*groups, ("head", head)]


def _head_start(model: nn.Module, flow: Flow, steps: list[fx.Node]) -> int:
    terminal = _terminal(model, flow)
    scores = [s for s in terminal if _is_classifier(model, flow, s)]
    if len(scores) < len(terminal) or not scores:  # no classifier: the last module stands for it
        modules = [i for i, s in enumerate(steps) if s.op == "call_module" and not flow.macs[s]]
        after = steps.index(terminal[-1]) if terminal else -1
        return modules[-1] if modules and modules[-1] > after else len(steps) - 1
    return _with_dropout(model, flow, steps, min(steps.index(s) for s in scores))


def _with_dropout(model: nn.Module, flow: Flow, steps: list[fx.Node], start: int) -> int:
    """Return `start`, moved back over a dropout that feeds the step there (a flatten may lie between).

    A function that drops is moved over from behind a norm, too: no module is there to switch it off.
    """
    moved, direct = start, True
    for i in range(start - 1, -1, -1):
        module = _module(model, steps[i])
        if i == start - 1 and _drops(module):
            moved = i
            continue
        direct &= module is None or not layers.is_norm(module)
        if flow.macs[steps[i]] or _positions(flow, steps[i]) > 1:
            break
        if module is not None and size_of(module) and not layers.is_norm(module):
            break
        function = "dropout" in str(getattr(steps[i].target, "__name__", ""))
        if function or (direct and _drops(module)):
            moved = i
        elif "pool" in type(module).__name__.lower():
            break
    return moved


def _drops(module: nn.Module | None) -> bool:
    return module is not None and layers.is_dropout(module)


def _is_classifier(model: nn.Module, flow: Flow, step: fx.Node) -> bool:
    if _positions(flow, step) == 1:
        return True
    out = next(iter(tensors(flow.values[flow.output.all_input_nodes[0]][0])), None)
    value = next(iter(tensors(flow.values[step][0])), None)
    module = _module(model, step)
    simple = module is None or kind(module) == "layer"
    return (
        simple
        and out is not None
        and value is not None
        and out.shape[-1] in (value.shape[1], value.shape[-1])
    )


def _is_dense(model: nn.Module, flow: Flow, step: fx.Node) -> bool:
    """Whether a step is a dense layer, or a short chain of them, on pooled vectors."""
    module = _module(model, step)
    children = list(module.children()) if module is not None else []
    return _positions(flow, step) == 1 and all(kind(c) == "layer" for c in children)


def _last_weight(flow: Flow, steps: list[fx.Node]) -> int | None:
    return next((i for i in range(len(steps) - 1, -1, -1) if flow.macs[steps[i]]), None)


def _pool_start(model: nn.Module, flow: Flow, steps: list[fx.Node]) -> int:
    """Return where pooling begins, after the last weights on a map, with a norm that no convolution needs."""
    last = _last_weight(flow, steps)
    if last is None:
        return len(steps)
    module = _module(model, steps[last])
    plain = module is None or kind(module) == "layer"
    for i in range(last + 1, len(steps)):
        if _positions(flow, steps[i]) == 1:
            return i
        own = _module(model, steps[i])
        name = (
            type(own).__name__.lower()
            if own is not None
            else str(getattr(steps[i].target, "__name__", "")).lower()
        )
        if isinstance(own, POOLS) or "max_pool" in name or name in ("avg_pool2d", "boolean_dispatch"):
            continue
        if not plain or "pool" in name or "flatten" in name or "permute" in name or "mean" in name:
            return i
    return len(steps)


def _atoms(model: nn.Module, flow: Flow, steps: list[fx.Node]) -> list[Atom]:
    atoms: list[Atom] = []
    lead: list[fx.Node] = []
    count = _positions(flow, flow.image)
    for step in steps:
        module = _module(model, step)
        if flow.macs[step]:
            what = kind(module) if module is not None else "layer"
            here = _positions(flow, step)
            path = str(step.target) if module is not None else step.name
            atoms.append(Atom([*lead, step], what, path, flow.macs[step], count, here, here))
            lead = []
        elif atoms:
            atoms[-1].steps.append(step)
            atoms[-1].after = _positions(flow, step)
        else:
            lead.append(step)
        count = _positions(flow, step)
    if lead and atoms:
        atoms[-1].steps += lead
    return atoms or ([Atom(lead, "layer", "", 0, count, count, count)] if lead else [])


def _stages(atoms: list[Atom]) -> list[tuple[str, list[fx.Node]]]:
    stem = next((i for i, a in enumerate(atoms) if a.kind != "layer"), 0)
    words = _STEMS[:2] if all(a.kind == "layer" for a in atoms) else _STEMS
    if stem == 0 and len(atoms) > 1 and any(word in atoms[0].path for word in words):
        stem = 1
    rest = _joined(atoms[stem:])
    loose = sum(a.kind == "block" for a in atoms[stem:])
    if len(rest) < 3 and (loose or not stem or len(atoms) - stem > 2):
        rest = [[a] for a in atoms[stem:]]
    groups = [("stem", atoms[:stem])] if stem else []
    groups += [(f"stage{i}", group) for i, group in enumerate(rest, 1)]
    return [(name, [s for a in group for s in a.steps]) for name, group in groups]


def _joined(atoms: list[Atom]) -> list[list[Atom]]:
    """Return groups: each container with the layers that lead down to it, the rest joined by resolution."""
    groups: list[list[Atom]] = []
    for atom in atoms:
        last = groups[-1] if groups else None
        leads = last is not None and all(a.kind == "layer" for a in last)
        if last is None:
            groups.append([atom])
        elif atom.kind == "container":
            groups.append([atom]) if not leads else last.append(atom)
        elif last[-1].kind == "container" or atom.drops or last[-1].after <= 0.6 * last[-1].middle:
            groups.append([atom])
        else:
            last.append(atom)
    return groups
