"""Cut a model in two at a stage, or read what leaves its stages, exactly and with the model's own weights."""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, fx, nn

from ..errors import LearnerError
from ..models import layers
from .editable import require_editable
from .stages import Plan, Stage, plan
from .tracing.cuts import BatchSize, Device, Program, Slot, program
from .tracing.graph import Flow
from .tracing.tracer import fetch, replaced


class Section(nn.Module):
    """Runs some stages of a model on its own modules, under their own dotted names; gives {name: result}.

    Takes one tensor, or a tuple of tensors as the part before gives it; batch first. Training and evaluation
    follow `.train()` and `.eval()`. `known_stages` are those of the whole model.
    """

    def __init__(self, model: nn.Module, ready: Plan, programs: dict[bool, Program | str]) -> None:
        super().__init__()
        self.training = model.training
        self.known_stages = ready.stages
        self._programs = programs
        constants = _constants(ready)
        around = [model, *map(model.get_submodule, ready.opened)]  # which do not run themselves
        own = any(type(module).train is not nn.Module.train for module in around)
        self._whole = (model,) if own else ()  # a tuple, so that the model is no part of this one
        for one in programs.values():
            for step in one.instructions if isinstance(one, Program) else []:
                if step.kind in ("module", "attribute"):
                    self._adopt(model, step.target, constants)

    def _adopt(self, model: nn.Module, path: str, constants: dict[str, Tensor]) -> None:
        """Put the model's own module or tensor at the same dotted path here."""
        *parents, name = path.split(".")
        here: nn.Module = self
        there: Any = model
        for parent in parents:
            there = getattr(there, parent)
            if parent not in here._modules:
                here.add_module(parent, nn.Module())
            here = here._modules[parent]  # type: ignore[assignment]
        if path in constants:
            here.register_buffer(name, constants[path], persistent=False)
        elif name in there._parameters:
            here.register_parameter(name, there._parameters[name])
        elif name in there._buffers:
            here.register_buffer(name, there._buffers[name], name not in there._non_persistent_buffers_set)
        else:
            setattr(here, name, getattr(there, name))

    @property
    def takes_one_size(self) -> bool:
        """Whether it takes images of the size alone with which the model was cut."""
        return any(isinstance(p, Program) and p.shapes is not None for p in self._programs.values())

    def train(self, mode: bool = True) -> Self:
        """Set the mode as the model's own `train()` would, which may keep some layers in eval mode."""
        super().train(mode)
        for model in self._whole:
            mine, modes = set(self.modules()), [(m, m.training) for m in model.modules()]
            model.train(mode)
            for module, before in modes:
                if module not in mine:
                    module.training = before
        return self

    def forward(self, x: Any) -> Any:
        ready = self._programs[self.training]
        if isinstance(ready, str):
            raise LearnerError(
                f"In training mode this model cannot be cut: {ready}. Call .eval() on this part, or train "
                "the whole model with freeze_to instead."
            )
        given = [x] if isinstance(x, Tensor) else list(x)
        if len(given) != len(ready.inputs):
            raise LearnerError(
                f"This part takes {len(ready.inputs)} tensors and got {len(given)}. Give it just what "
                "the part before it returns."
            )
        if ready.shapes is not None:
            self._check(given, ready.shapes)
        if self.training:
            self._check_dropout(ready)
        values: dict[int, Any] = dict(zip(ready.inputs, given, strict=True))

        def leaf(value: Any) -> Any:
            if isinstance(value, Slot):
                return values[value.number]
            if isinstance(value, BatchSize):
                return value.times * given[0].shape[0]
            return given[0].device if isinstance(value, Device) else value

        for step in ready.instructions:
            args, kwargs = replaced(step.args, leaf), replaced(step.kwargs, leaf)
            if step.kind == "module":
                values[step.out] = fetch(self, step.target)(*args, **kwargs)
            elif step.kind == "attribute":
                values[step.out] = fetch(self, step.target)
            elif step.kind == "method":
                values[step.out] = getattr(args[0], step.target)(*args[1:], **kwargs)
            else:
                values[step.out] = step.target(*args, **kwargs)
            for slot in step.free:
                values.pop(slot, None)
        return replaced(ready.result, leaf)

    @staticmethod
    def _check(given: list[Tensor], shapes: list[tuple[int, ...]]) -> None:
        for tensor, shape in zip(given, shapes, strict=True):
            if tuple(tensor.shape[-len(shape) :]) != shape:
                raise LearnerError(
                    f"This part takes tensors of shape {shape} per image and got {tuple(tensor.shape[1:])}. "
                    "The model decides by the image size: cut it again with input_size= set to yours."
                )

    def _check_dropout(self, ready: Program) -> None:
        """Refuse to compute again what dropout made before the cut: it would drop other values."""
        for step in ready.instructions:
            if not step.again or step.kind != "module":
                continue
            for name, module in fetch(self, step.target).named_modules(prefix=step.target):
                if module.training and layers.is_dropout(module) and layers.drop_rate(module) > 0:
                    raise LearnerError(
                        "In training mode this part would compute again what the part before it computes, "
                        f"and {name} drops values at random there: the two would differ. Freeze the model up "
                        "to this cut with freeze_to, which switches that dropout off, or call .eval() on it."
                    )


class Half(Section):
    """A part with a single result."""

    def forward(self, x: Any) -> Any:
        return super().forward(x)[""]


def split_at(
    model: nn.Module, from_stage: Stage | str, *, input_size: tuple[int, int, int] | None = None
) -> tuple[nn.Module, nn.Module]:
    """Return (prefix, suffix): all stages before `from_stage`, and that stage with all that follow.

    `suffix(prefix(x))` equals `model(x)` exactly, in evaluation mode, and in training mode under the same
    seed. Both halves hold the model's own modules and tensors under their own names: training the suffix
    trains the model. The prefix returns a tensor, or a tuple of tensors where several cross, each with one
    entry per image along its first dimension, so they may be kept and batched again. Of a model that returns
    a dict or an object, the suffix gives the logits. What depends on more than the image, such as dropout
    that is on in evaluation mode, does so in the halves: `audit` says it.

    Args:
        model: An image classifier; it stays as it is.
        from_stage: The first stage of the suffix: a Stage, its name, or the dotted path of the module that
            begins it.
        input_size: Size (C, H, W) of one image; the model's own for None.

    Raises:
        LearnerError: For an unknown stage, naming the nearest, and for a forward hook on the model or on a
            module that spans stages, which the halves would not run. The suffix raises one in training mode
            where both halves use the output of a dropout layer that no image decides: call `freeze_to` at the
            cut first.

    Example:
        >>> import torch
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> prefix, suffix = surgery.split_at(model, "stage3")
        >>> images = torch.randn(2, 3, 160, 160)
        >>> features = prefix(images)
        >>> features.shape
        torch.Size([2, 48, 20, 20])
        >>> torch.equal(suffix(features), model(images))
        True
    """
    model = require_editable(model)
    ready = plan(model, input_size=input_size)
    refuse_hooks(model, ready)
    return halves(model, ready, find_stage(ready, from_stage))


def halves(model: nn.Module, ready: Plan, k: int) -> tuple[Section, Section]:
    """Return the two halves of a model with this plan, cut before stage number `k`."""
    end = len(ready.stages)
    prefix: dict[bool, Program | str] = {}
    suffix: dict[bool, Program | str] = {}
    for mode, flow in ready.flows.items():
        if isinstance(flow, str):
            prefix[mode] = suffix[mode] = flow
            continue
        place, carried = ready.places[mode], ready.carried[k][mode]
        prefix[mode] = program(flow, place, range(k), [flow.image], {"": (k - 1, carried)})
        suffix[mode] = program(flow, place, range(k, end), carried, {"": (end - 1, None)})
    return Half(model, ready, prefix), Half(model, ready, suffix)


def outputs(
    model: nn.Module,
    at: Stage | str | Sequence[Stage | str],
    *,
    input_size: tuple[int, int, int] | None = None,
) -> Section:
    """Return a module that gives {stage name: what leaves that stage}, in one pass that stops at the last.

    What leaves a stage is what `split_at` at the next one would hand over; what leaves the head are the
    logits. torchvision calls such a module a feature extractor (`create_feature_extractor`), timm
    `features_only`; there the layers are named, here the stages.

    Args:
        model: An image classifier; it stays as it is.
        at: A stage or a list of stages to read after, each a Stage, its name, or its last module.
        input_size: Size (C, H, W) of one image; the model's own for None.

    Raises:
        LearnerError: For an unknown stage, naming the nearest, for a module within a stage, for an empty
            list, and for a forward hook on the model or on a module that spans stages.

    Example:
        >>> import torch
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> read = surgery.outputs(model, at=["stage1", "pool"])
        >>> {name: tuple(t.shape) for name, t in read(torch.randn(2, 3, 160, 160)).items()}
        {'stage1': (2, 32, 40, 40), 'pool': (2, 96)}
    """
    model = require_editable(model)
    if not at:
        raise LearnerError(
            f"outputs() got at={at!r}. Expected a stage or a list of stages, for example "
            "at=['stage2', 'pool']; stages(model) shows them."
        )
    ready = plan(model, input_size=input_size)
    refuse_hooks(model, ready)
    wanted = [find_end(ready, stage) for stage in ([at] if isinstance(at, str | Stage) else at)]
    programs: dict[bool, Program | str] = {}
    for mode, flow in ready.flows.items():
        if isinstance(flow, str):
            programs[mode] = flow
            continue
        results: dict[str, tuple[int, list[fx.Node] | None]] = {}
        for k in wanted:
            leaving = ready.carried[k + 1][mode] if k + 1 < len(ready.stages) else None
            results[ready.stages[k].name] = (k, leaving)
        programs[mode] = program(flow, ready.places[mode], range(max(wanted) + 1), [flow.image], results)
    return Section(model, ready, programs)


def refuse_hooks(model: nn.Module, ready: Plan) -> None:
    """Raise LearnerError for hooks on modules that are no step of the flow: no part would run them."""
    for path in ("", *sorted(ready.opened)):
        if layers.hooks_of(model.get_submodule(path), "forward_pre", "forward"):
            raise LearnerError(
                f"{path or type(model).__name__} has a forward hook, which parts of the model would not run. "
                "Call .remove() on the handle that register_forward_hook returned, or put the hook on a "
                "layer within a stage."
            )


def find_stage(ready: Plan, stage: Stage | str) -> int:
    """Return the number of a stage given as Stage, name, or module that begins it. Raises LearnerError."""
    known = ready.stages
    name = stage.name if isinstance(stage, Stage) else stage
    if name == "head" and len(known) == 1 and ready.refused:  # all is one stage, which nobody means by that
        first, reason = next(iter(ready.refused.items()))
        raise LearnerError(f"Nothing can be cut off before the head, nor at {first}, because {reason}.")
    if name in known.names:
        return known.names.index(name)
    if name == "all":
        raise LearnerError(
            'from_stage="all" is the whole network: no part comes before it, and there is nothing to cut. '
            f'Expected one of {", ".join(known.names)}. "all" holds where something is frozen or trained: in '
            "freeze_to, Phase and recipes."
        )
    for k, own in enumerate(known):
        first = own.modules[0] if own.modules else ""
        if first and (name == first or first.startswith(f"{name}.") or name == f"{first}.0"):
            return k
    if (why := ready.refused.get(str(name))) is not None:
        near = ", ".join(known.names)
        raise LearnerError(f"Nothing can be cut at {name!r}, because {why}. Cuts: {near}.")
    raise known.unknown(name)


def find_end(ready: Plan, stage: Stage | str) -> int:
    """Return the number of a stage given as Stage, name, or module that ends it. Raises LearnerError."""
    name = stage.name if isinstance(stage, Stage) else stage
    if name in ready.stages.names:  # a module of another stage may have the same name
        return ready.stages.names.index(name)
    for k, own in enumerate(ready.stages):
        if own.modules and name == own.modules[-1]:
            return k
    within = [
        s.name for s in ready.stages if any(str(name).startswith(f"{m}.") or name == m for m in s.modules)
    ]
    if within:
        raise LearnerError(
            f"{name!r} lies within {within[0]}, and at= names whole stages: at={within[0]!r}. "
            f"explain.activations(model, images, at={name!r}) reads after any module."
        )
    raise ready.stages.unknown(name)


def _constants(ready: Plan) -> dict[str, Tensor]:
    return {
        k: v for flow in ready.flows.values() if isinstance(flow, Flow) for k, v in flow.constants.items()
    }
