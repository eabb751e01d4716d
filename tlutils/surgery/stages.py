"""A model as an ordered list of stages, with what each costs and sees."""

import html
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, fx, nn

from .. import fingerprint, models
from ..errors import LearnerError, unknown
from .editable import require_editable
from .tracing.cuts import NoCut, crossing, fold, key_of
from .tracing.graph import Flow, Untraceable, chain_of, computes_with_other_numbers, is_current, trace
from .tracing.grouping import Layout, complete, lay_out
from .tracing.receptive_field import Reach, positions
from .tracing.tracer import is_size


@dataclass(frozen=True)
class Stage:
    """One stage of a model: what runs in it, what it costs, and what leaves it.

    Where several tensors leave, `output_shape` and `layout` are tuples of theirs, and stride and receptive
    field are those of the first.

    Attributes:
        name: "stem", "stage1", …, "pool", "head"; a VGG has "fc1" and "fc2" before its head.
        modules: Dotted names of the modules that run in it, in this order.
        parameters: Names of the parameters that are used here first.
        buffers: Names of the buffers that are used here first.
        num_params: Number of parameters.
        param_share: Share of the whole model's parameters, from 0 to 1.
        macs: Multiply-adds per image.
        macs_share: Share of the whole model's multiply-adds, from 0 to 1.
        output_shape: Shape of what leaves it for one image, without the batch dimension.
        layout: A letter for each dimension of what leaves it for a batch: "NCHW" and "NHWC" are feature
            maps, "NLC" is tokens, "NC" a vector: images, channels, height, width, tokens.
        stride: How many pixels of the image lie between two neighbouring positions; None for vectors.
        receptive_field: How many pixels, along one side, can change one position; None where that is the
            whole image, through attention, squeeze-and-excitation or global pooling.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...] = field(repr=False)
    buffers: tuple[str, ...] = field(repr=False)
    num_params: int
    param_share: float
    macs: int
    macs_share: float
    output_shape: tuple[Any, ...]
    layout: str | tuple[str, ...]
    stride: int | None
    receptive_field: int | None

    @property
    def map_size(self) -> tuple[int, int] | None:
        """Height and width of its feature maps; None for tokens, vectors and several tensors."""
        if "H" not in self.layout or len(self.layout) != 4:
            return None
        height, width = (self.output_shape[self.layout.index(side) - 1] for side in "HW")  # type: ignore[arg-type]
        return height, width

    @property
    def num_channels(self) -> int | None:
        """Number of channels that leave the stage; None for several tensors."""
        return self.output_shape[self.layout.index("C") - 1] if "C" in self.layout else None  # type: ignore[arg-type]


class Stages(list[Stage]):
    """The stages of a model, stem to head; prints as a table. `stages[0]`, or by name: `stages["stage2"]`."""

    model_name: str = ""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise self.unknown(key)
        return self[self.names.index(key)]

    @property
    def names(self) -> list[str]:
        """The stages' names, in order."""
        return [stage.name for stage in self]

    @property
    def embedding(self) -> str:
        """Name of the stage before the head, whose output is an image's embedding."""
        return self.names[-2]

    @property
    def body(self) -> list[str]:
        """Names of the stages before "pool" and what is behind it; all but the head where there are none."""
        body = [name for name in self.names if name == "stem" or name.startswith("stage")]
        return body or self.names[:-1]

    def unknown(self, name: object) -> LearnerError:
        """Return the error for a stage that is not there; for a module inside one, with where that begins.

        Args:
            name: What was asked for.
        """
        inside = [s for s in self for m in s.modules if str(name) == m or str(name).startswith(f"{m}.")]
        hint = f"Stages: {', '.join(self.names)}."
        if inside:
            hint = f"{name} lies inside {inside[0].name}, which begins at {inside[0].modules[0]}. " + hint
        return unknown("stage", name, self.names, hint=hint)

    def _rows(self) -> list[list[str]]:
        return [
            [
                s.name,
                _short(s.modules),
                f"{s.num_params:,}",
                _bar(s.param_share),
                f"{s.macs / 1e6:,.1f} M",
                _bar(s.macs_share),
                " + ".join("×".join(map(str, shape)) for shape in _shapes(s.output_shape)),
                str(s.stride or "–"),
                str(s.receptive_field or "–"),
            ]
            for s in self
        ]

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        lines = [
            "  ".join(
                cell.ljust(width) if i in _LEFT else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self.model_name, *lines] if self.model_name else lines)

    def _repr_html_(self) -> str:
        def row(cells: list[str], tag: str) -> str:
            align = ["left" if i in _LEFT else "right" for i in range(len(cells))]
            return "".join(
                f'<{tag} style="text-align:{a};font-family:monospace">{html.escape(c)}</{tag}>'
                for a, c in zip(align, cells, strict=True)
            )

        body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in self._rows())
        caption = f"<caption>{html.escape(self.model_name)}</caption>" if self.model_name else ""
        return f"<table>{caption}<thead><tr>{row(_COLUMNS, 'th')}</tr></thead><tbody>{body}</tbody></table>"


_COLUMNS = [
    "stage",
    "modules",
    "parameters",
    "share",
    "multiply-adds",
    "share",
    "output",
    "stride",
    "sees (px)",
]
_LEFT = (0, 1, 3, 5)


def _bar(share: float) -> str:
    return "█" * round(share * 12) + f" {share:.1%}"


def _short(modules: tuple[str, ...]) -> str:
    return ", ".join(modules) if len(modules) < 3 else f"{modules[0]} … {modules[-1]}"


def _shapes(shape: tuple[Any, ...]) -> list[tuple[int, ...]]:
    return list(shape) if shape and isinstance(shape[0], tuple) else [shape]


@dataclass
class Plan:
    """A model's stages for images (C, H, W) = `size`, and its two flows, `flows[training]`.

    A missing flow has the reason in its place.

    `carried[k][training]` lists the steps whose tensors enter stage k, in one order for both modes.
    """

    stages: Stages
    flows: dict[bool, Flow | str]
    places: dict[bool, dict[fx.Node, int]]
    carried: list[dict[bool, list[fx.Node]]]
    size: tuple[int, ...]
    opened: set[str]  # modules that were looked into
    chain: Sequence[str]
    refused: dict[str, str]  # a module that begins a stage no more -> why nothing can be cut there


def stages(model: nn.Module, *, input_size: tuple[int, int, int] | None = None) -> Stages:
    """Return the model's stages, stem to head in the order that data flows; the model is not changed.

    Every parameter and buffer belongs to exactly one stage, the first that uses it. Of those that nothing
    uses in evaluation mode, auxiliary heads belong to the head, the rest to the first stage. The list prints
    as a table.

    Args:
        model: An image classifier, from any library or your own.
        input_size: Size (C, H, W) of one image; the model's own, as `models.info` gives it, for None.

    Raises:
        LearnerError: When it is not an image classifier, or its computation depends on the content of the
            image, or on numbers that it draws or counts outside of a layer.

    Example:
        >>> from tlutils import models, surgery
        >>> found = surgery.stages(models.load("test_resnet", pretrained=False))
        >>> found.names
        ['stem', 'stage1', 'stage2', 'stage3', 'stage4', 'pool', 'head']
        >>> found["stage2"].output_shape, found["stage2"].layout, found["stage2"].stride
        ((48, 20, 20), 'NCHW', 8)
    """
    return plan(require_editable(model), input_size=input_size).stages


_PLANS: "WeakKeyDictionary[nn.Module, tuple[Any, Plan]]" = WeakKeyDictionary()
_SHARED: "OrderedDict[str, Plan]" = OrderedDict()  # by what models are made of; the oldest goes first
_SHARING = threading.Lock()
_FRESH = frozenset(vars(nn.Module()))  # what torch gives each module: mode, hooks, tables of its parts
_UNCHANGED: ContextVar[dict[Any, tuple[nn.Module, Plan]] | None] = ContextVar("unchanged", default=None)


@contextmanager
def assume_unchanged() -> Iterator[None]:
    """Run a block in which no model changes its structure, so that its stages are found once.

    Outside of it each call makes sure that the model still takes the same steps.

    Example:
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> with surgery.assume_unchanged():
        ...     surgery.stages(model) is surgery.stages(model)
        True
    """
    token = _UNCHANGED.set({}) if _UNCHANGED.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _UNCHANGED.reset(token)


def plan(model: nn.Module, *, input_size: tuple[int, int, int] | None = None) -> Plan:
    """Return the stages with all that a cut needs to know; kept as long as the model takes the same steps.

    The model comes from `require_editable`. One that is made like an earlier one, and takes the same steps,
    shares its plan: another seed, or other weights. Raises LearnerError.
    """
    size = tuple(input_size or models.info(model).input_size)
    kept = _UNCHANGED.get()
    if kept is not None and (id(model), size) in kept:
        return kept[id(model), size][1]
    mark = (size, _make_up(model))
    known, found = _PLANS.get(model, (None, None))
    if found is None or known != mark or not _is_current(found, model):
        alike = _fingerprint(model, size)
        found = _SHARED.get(alike)
        if found is None or not _is_current(found, model):
            found = _plan(model, size)
            _share(alike, found)
        _PLANS[model] = mark, found
    if kept is not None:
        kept[id(model), size] = model, found  # with the model, so that no other gets its id
    return found


def _fingerprint(model: nn.Module, size: tuple[int, ...]) -> str:
    """Return what models have in common that differ in the values of their weights only."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}  # tied tensors have one owner
    tensors = [(n, first.setdefault(id(t), n), str((t.shape, t.dtype, t.device))) for n, t in named]
    settings = fingerprint.of_settings(model)
    for name, value in vars(model).items():
        if isinstance(value, models.ModelInfo):  # which weights it has, that is
            settings.parts.pop(f":{name}")
    return fingerprint.short(size, settings, tensors)


def _share(alike: str, found: Plan) -> None:
    flows = [flow for flow in found.flows.values() if isinstance(flow, Flow)]
    if not found.chain and all(flow.values[flow.image][0].is_meta for flow in flows):
        with _SHARING:
            _SHARED[alike] = found
            while len(_SHARED) > 64:
                _SHARED.popitem(last=False)


def _make_up(model: nn.Module) -> list[Any]:
    """Return what the facts about stages depend on: modules, their code and plain settings, and tensors."""
    return [
        (
            name,
            id(module),
            getattr(getattr(module.forward, "__func__", module.forward), "__code__", None),
            [(k, v) for k, v in vars(module).items() if k not in _FRESH and is_size(v)],
            [
                (k, id(t), t.shape, t.dtype)
                for k, t in (*module._parameters.items(), *module._buffers.items())
                if t is not None
            ],
        )
        for name, module in model.named_modules()
    ]


def _is_current(plan: Plan, model: nn.Module) -> bool:
    if plan.chain:
        return chain_of(model, plan.size, lights=[(1, 0)]) == plan.chain
    return is_current(plan.flows, model, plan.opened)


def _plan(model: nn.Module, size: tuple[int, ...]) -> Plan:
    name = type(model).__name__
    try:
        try:
            layout = _stable_layout(model, size)
        except Untraceable:
            if not (chain := chain_of(model, size)):
                raise
            layout = lay_out(model, size, chain=chain)
    except Untraceable as error:
        raise LearnerError(
            f"{name} cannot be followed from image to scores: {error.reason}. Expected a forward "
            f"that takes a batch of images {size} and runs its layers in one order, whatever they show. Move "
            "such a decision into a module of its own, or check that model(images) works at that size."
        ) from error
    flows: dict[bool, Flow | str] = {False: layout.flow, True: ""}
    places = {False: layout.place}
    _check_scores(name, layout.flow)
    try:
        training = trace(model, size, layout.opened, training=True, chain=layout.chain)
        flows[True], places[True] = training, _same_places(layout, training)
    except Untraceable as error:
        flows[True] = f"{error.reason}"
    if not layout.chain and computes_with_other_numbers(flows, model, layout.opened):
        raise LearnerError(
            f"{name} cannot be followed from image to scores: outside of a layer its forward computes with "
            "numbers that differ from pass to pass, as a generator or a counter that it holds gives them. "
            "Move that into a module of its own."
        )
    return _planned(model, size, layout, flows, places)


def _stable_layout(model: nn.Module, size: tuple[int, ...]) -> Layout:
    """Return a layout that small images share with large ones, whose last feature maps are above 1×1."""
    large = (size[0], max(size[1], 224), max(size[2], 224))
    if large == size:
        return lay_out(model, size)
    try:
        layout = lay_out(model, large)
        flow = trace(model, size, layout.opened)
    except Untraceable:  # it takes one size only
        return lay_out(model, size)
    return replace(layout, flow=flow, place=_same_places(layout, flow))


def _check_scores(name: str, flow: Flow) -> None:
    value = flow.values[flow.output.all_input_nodes[0]][0] if flow.output.all_input_nodes else None
    if not isinstance(flow.output.args[0], fx.Node) or not isinstance(value, Tensor) or value.dim() != 2:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(flow.output.args[0]).__name__
        raise LearnerError(
            f"{name} is not an image classifier: for 2 images its forward gives {got}. Expected scores of "
            "shape (images, classes). Take a classification model, or wrap this one in a module that "
            "gives scores."
        )


def _same_places(layout: Layout, flow: Flow) -> dict[fx.Node, int]:
    """Return each step's stage in another flow of the model; modules that only this one runs are head."""
    known = {key: layout.place[node] for node, key in key_of(layout.flow).items()}
    calls = {call: layout.place[node] for call, node in _calls(layout.flow).items()}
    paths = {path for path, _ in calls}
    place = {node: known[key] for node, key in key_of(flow).items() if key in known}
    for (path, time), node in _calls(flow).items():
        if node not in place:  # something before it differs, or it only trains
            place[node] = calls.get((path, time), len(layout.names) - 1 if path not in paths else 0)
    return complete(flow, place)


def _calls(flow: Flow) -> dict[tuple[str, int], fx.Node]:
    """Return the steps that are modules, by path and by how often the module ran before."""
    found: dict[tuple[str, int], fx.Node] = {}
    for step in flow.steps:
        if step.op == "call_module":
            path = str(step.target)
            found[path, sum(p == path for p, _ in found)] = step
    return found


def _planned(model: nn.Module, size: tuple[int, ...], layout: Layout, flows: Any, places: Any) -> Plan:
    carried: list[dict[bool, list[fx.Node]]] = [{mode: [flows[mode].image] for mode in places}]
    refused: dict[str, str] = {}
    merged = [0]  # the new number of each old stage
    names = [layout.names[0]]
    for k in range(1, len(layout.names)):
        try:
            carried.append(_carried(flows, places, k))
            names.append(layout.names[k])
        except NoCut as reason:
            first = next(
                (s for s in layout.flow.steps if layout.place[s] == k and s.op == "call_module"), None
            )
            refused[str(first.target) if first is not None else layout.names[k]] = str(reason)
            names[-1] = layout.names[k] if layout.names[k] == "head" else names[-1]
        merged.append(len(names) - 1)
    for place in places.values():
        place.update({node: merged[k] for node, k in place.items()})
    numbered = iter(range(1, len(names) + 1))
    names = [f"stage{next(numbered)}" if name.startswith("stage") else name for name in names]
    result = Plan(Stages(), flows, places, carried, size, layout.opened, layout.chain, refused)
    result.stages.extend(_describe(model, names, result))
    result.stages.model_name = (
        f"{type(model).__name__}, {sum(s.num_params for s in result.stages):,} parameters"
    )
    return result


def _carried(flows: Any, places: Any, cut: int) -> dict[bool, list[fx.Node]]:
    """Return what crosses in each mode: the same tensors, so that a prefix in one mode suits the other."""
    own = {mode: crossing(flows[mode], places[mode], cut) for mode in places}
    keys = {mode: key_of(flows[mode]) for mode in places}
    order = list(dict.fromkeys(keys[mode][node] for mode in own for node in own[mode]))
    found = {}
    for mode in places:
        nodes = {key: node for node, key in keys[mode].items()}
        if any(key not in nodes or places[mode][nodes[key]] >= cut for key in order):
            raise NoCut("training and evaluation differ there")
        found[mode] = [nodes[key] for key in order]
    return found


def _describe(model: nn.Module, names: list[str], plan: Plan) -> list[Stage]:
    flow, place = plan.flows[False], plan.places[False]
    assert isinstance(flow, Flow)  # the evaluation flow always exists
    parameters, buffers = _owners(model, len(names), plan)
    tensors_of = dict(model.named_parameters(remove_duplicate=False))
    sizes = [sum(tensors_of[p].numel() for p in owned) for owned in parameters]
    size = flow.values[flow.image][0].shape[2:]
    macs = [sum(flow.macs[s] for s in flow.steps if place[s] == k) for k in range(len(names))]
    found = []
    for k, name in enumerate(names):
        leaving = plan.carried[k + 1][False] if k + 1 < len(names) else flow.output.all_input_nodes
        shapes = [tuple(flow.values[n][0].shape[1:]) for n in leaving]
        layouts = [flow.layout(n) for n in leaving]
        for i, times in enumerate(fold(flow, n) for n in leaving if k + 1 < len(names)):
            if times > 1:  # several entries for each image, which a cut hands over as a dimension of its own
                shapes[i], layouts[i] = (times, *shapes[i]), f"NL{layouts[i][1:]}"
        reach = flow.reach.get(leaving[0])
        modules = [str(s.target) for s in flow.steps if place[s] == k and s.op == "call_module"]
        found.append(
            Stage(
                name=name,
                modules=tuple(dict.fromkeys(modules)),
                parameters=tuple(parameters[k]),
                buffers=tuple(buffers[k]),
                num_params=sizes[k],
                param_share=sizes[k] / (sum(sizes) or 1),
                macs=macs[k],
                macs_share=macs[k] / (sum(macs) or 1),
                output_shape=shapes[0] if len(shapes) == 1 else tuple(shapes),
                layout=layouts[0] if len(layouts) == 1 else tuple(layouts),
                stride=_stride(size, (1, *shapes[0]), layouts[0], reach),
                receptive_field=max(reach.field) if reach is not None and reach.field is not None else None,
            )
        )
    return found


def _owners(model: nn.Module, count: int, plan: Plan) -> tuple[list[list[str]], list[list[str]]]:
    """Return the names of the parameters and of the buffers of each stage, tied ones once."""
    by_id = {id(t): n for n, t in [*model.named_buffers(), *model.named_parameters()]}
    owner: dict[str, int] = {}
    for mode in sorted(plan.places):  # what only trains comes last, and finds the shared ones taken
        flow = plan.flows[mode]
        assert isinstance(flow, Flow)
        for step in sorted(flow.steps, key=lambda s: plan.places[mode][s]):
            for tensor in tensors_of(model, step):
                if id(tensor) in by_id:
                    owner.setdefault(by_id[id(tensor)], plan.places[mode][step])
    heads = {name.split(".")[0] for name, k in owner.items() if k == count - 1}
    for name in by_id.values():
        aux = "aux" in name.lower() or (name.split(".")[0] in heads and "." in name and count > 1)
        owner.setdefault(name, count - 1 if aux else 0)
    return tuple(  # type: ignore[return-value]
        [[n for n, _ in named if owner[n] == k] for k in range(count)]
        for named in (list(model.named_parameters()), list(model.named_buffers()))
    )


def tensors_of(model: nn.Module, step: fx.Node) -> list[Tensor]:
    """Return the model's own tensors that a step of its flow uses."""
    if step.op == "call_module":
        module = model.get_submodule(str(step.target))
        return [*module.parameters(), *module.buffers()]
    if step.op != "get_attr":
        return []
    value: Any = model
    for name in str(step.target).split("."):
        value = getattr(value, name, None)
    return [value] if isinstance(value, Tensor) else []


def _stride(size: Sequence[int], shape: Sequence[int], layout: str, reach: Reach | None) -> int | None:
    """Return how many pixels of images (H, W) = `size` lie between neighbours of an activation."""
    if reach is not None and reach.field is not None:
        return max(reach.jump)
    if positions(shape, layout) == 1:
        return None
    if "H" in layout:
        return round(size[0] / shape[layout.index("H")])
    # Tokens of a grid with the image's proportions, and a few more for classes or registers.
    grids = ((size[0] // step, size[1] // step) for step in range(1, min(size) + 1))
    rows, columns = next((g for g in grids if math.prod(g) <= positions(shape, layout)), (1, 1))
    return round(size[0] / rows) if rows * columns > 1 else None
