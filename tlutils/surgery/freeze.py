"""Freeze the early stages of a model in effect: no gradients, BatchNorm statistics held, dropout off."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from ..errors import LearnerError, unknown
from ..inference import unwrap
from ..models import layers
from .editable import require_editable
from .split import find_stage
from .stages import Plan, Stage, plan, tensors_of
from .tracing.tracer import DATA

# Kept on the model itself, so that they survive deepcopy and pickling.
ATTRIBUTE = "_tlutils_freeze"
PRINTS = "_tlutils_prints"


@dataclass(frozen=True)
class Record:
    """What was frozen: the stage from which it trains (None after `freeze`), parameters, and held modules.

    `shared` are held dropout layers that the part after the cut uses, too; `fixed` are parameters that were
    frozen by somebody else, and stay so.
    """

    from_stage: str | None
    parameters: tuple[str, ...]
    held: tuple[str, ...]
    train_frozen_norms: bool
    keep_dropout: bool
    shared: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()


class Held:
    """Stands in for `train` on a frozen module: whatever mode is asked for, the module stays in eval mode.

    An attribute of the instance, so that deepcopy and pickle take it along, bound to the copy.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        type(self.module).train(
            self.module, mode
        )  # what else it does, and the children, which may not be held
        self.module.training = False
        return self.module


def freeze_to(
    model: nn.Module,
    from_stage: Stage | str,
    *,
    train_frozen_norms: bool | None = None,
    keep_dropout: bool | None = None,
) -> nn.Module:
    """Freeze all stages before `from_stage`, let it and all after it train, and return the model, changed.

    Frozen means frozen in effect: no gradients, BatchNorm statistics held, dropout and drop path off, also
    after `model.train()`, after copying, and after saving and loading the whole module. Only a function call,
    such as F.dropout, in the forward of a module that reaches across the cut goes on; `audit` tries and says
    so. Call it again with an earlier stage to let more train, also between training steps; `add_unfrozen`
    tells the optimizer.

    Parameters that you had frozen yourself, such as fixed position embeddings or the base of an adapter, stay
    frozen (`unfreeze(model, "name")` lets them train), unless that was every parameter.

    Args:
        model: An image classifier, not wrapped in DistributedDataParallel.
        from_stage: The first stage that trains: a Stage, its name, or the module that begins it. The first
            stage freezes nothing, "head" all but the head. "all" is the whole network, as `unfreeze(model)`.
        train_frozen_norms: Whether norm layers of the frozen part train: weights, biases and statistics. None
            keeps the last setting, which is False at first.
        keep_dropout: Whether dropout in the frozen part stays on in training. None keeps the last setting,
            which is False at first.

    Raises:
        LearnerError: For an unknown stage, a weight that is shared across the cut, a layer or a weight that
            is used before and after it, "head" where nothing can be cut off before it, and a model in DDP,
            which has to be frozen before it is wrapped.

    Example:
        >>> from tlutils import models, surgery
        >>> model = surgery.freeze_to(models.load("test_resnet", pretrained=False), "stage4")
        >>> model.layer3[0].conv1.weight.requires_grad, model.layer4[0].conv1.weight.requires_grad
        (False, True)
        >>> model.train().layer3[0].bn1.training
        False
    """
    if from_stage == "all":
        return unfreeze(model)
    model = _bare(model)
    ready = plan(model)
    k = find_stage(ready, from_stage)
    before, after = ready.stages[:k], ready.stages[k:]
    inside = _within(model, (m for s in before for m in s.modules))
    shared = inside & _within(model, (m for s in after for m in s.modules))
    loose = _loose(model, train_frozen_norms)
    _refuse_two_sides(model, ready, k, loose)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = [name for s in before for name in s.parameters]
    same = {parameters[name] for name in names}  # a tied weight has more names; those inside are frozen, too
    names += [n for n, p in parameters.items() if p in same and model.get_submodule(_owner(n)) in inside]
    _freeze(model, ready.stages[k].name, names, inside, train_frozen_norms, keep_dropout)
    both = tuple(
        name for name, m in model.named_modules() if m in shared and layers.is_dropout(m) and is_held(m)
    )
    setattr(model, ATTRIBUTE, replace(getattr(model, ATTRIBUTE), shared=both))
    return model


def freeze(
    model: nn.Module,
    *patterns: str,
    train_frozen_norms: bool | None = None,
    keep_dropout: bool | None = None,
) -> nn.Module:
    """Freeze what the patterns name, beside what is frozen already, and return the model, changed.

    Frozen means the same as in `freeze_to`. `unfreeze` lets everything train again.

    Args:
        model: Any model, not wrapped in DistributedDataParallel.
        *patterns: Dotted names of modules or parameters, with wildcards: "layer1", "blocks.[0-3]", "*.bias".
        train_frozen_norms: As in `freeze_to`.
        keep_dropout: As in `freeze_to`.

    Raises:
        LearnerError: When a pattern matches nothing, or there is none.

    Example:
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> model = surgery.freeze(model, "conv1", "layer[12].*.bn1")
        >>> [name for name, p in model.layer1.named_parameters() if not p.requires_grad]
        ['0.bn1.weight', '0.bn1.bias']
    """
    model = _bare(model)
    if not patterns:
        raise LearnerError(
            "freeze() got no pattern. Expected names, as in freeze(model, 'layer1', 'layer2.*')."
        )
    asked = [name for pattern in patterns for name in _matching(model, pattern)]
    last = record(model) or Record(None, (), (), False, False)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    before = [n for n in last.parameters if n in parameters and not parameters[n].requires_grad]
    held = {m for name, m in model.named_modules() if name in last.held and is_held(m)}
    held |= _named(model, patterns)
    _freeze(model, last.from_stage, before + asked, held, train_frozen_norms, keep_dropout)
    setattr(model, ATTRIBUTE, replace(getattr(model, ATTRIBUTE), shared=last.shared))
    return model


def _matching(model: nn.Module, pattern: str) -> list[str]:
    """Return the parameters that a pattern names, by themselves or by a module; LearnerError if none."""
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    roots = [m for m in modules if fnmatchcase(m, pattern)]
    found = [p for p in parameters if fnmatchcase(p, pattern) or any(p.startswith(f"{m}.") for m in roots)]
    if not found:
        raise unknown("module or parameter", pattern, [*modules, *parameters], hint="Nothing was changed.")
    return found


def _named(model: nn.Module, patterns: Iterable[str]) -> set[nn.Module]:
    """Return the modules that patterns name, with all that is in them."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    return _within(model, (name for name in names if any(fnmatchcase(name, p) for p in patterns)))


def unfreeze(model: nn.Module, *patterns: str) -> nn.Module:
    """Unfreeze what the patterns name, or all that `freeze_to` and `freeze` froze; return the model, changed.

    BatchNorm and dropout in what trains again follow `model.train()`. What you had frozen yourself stays
    frozen unless a pattern names it; or you had frozen every parameter, and this package none.

    Args:
        model: Any model, not wrapped in DistributedDataParallel.
        *patterns: Names as in `freeze`: these train again, and nothing else changes. "*" is every parameter.

    Raises:
        LearnerError: When a pattern matches nothing.

    Example:
        >>> from tlutils import models, surgery
        >>> model = surgery.freeze_to(models.load("test_resnet", pretrained=False), "head")
        >>> model = surgery.unfreeze(model, "layer4")
        >>> model.layer3[0].conv1.weight.requires_grad, model.layer4[0].conv1.weight.requires_grad
        (False, True)
        >>> all(p.requires_grad for p in surgery.unfreeze(model).parameters())
        True
    """
    model = _bare(model)
    asked = {name for pattern in patterns for name in _matching(model, pattern)}
    last, parameters = record(model), dict(model.named_parameters(remove_duplicate=False))
    for name in asked:
        parameters[name].requires_grad_(parameters[name].is_floating_point())
    if last and (left := [n for n in last.parameters if patterns and n not in asked]):
        named, free = _named(model, patterns), {parameters[name] for name in asked}
        held = {m for m in model.modules() if is_held(m) and m not in named and not free & {*m.parameters()}}
        _freeze(model, None, left, held, None, None)
        setattr(model, ATTRIBUTE, replace(getattr(model, ATTRIBUTE), shared=last.shared))
        return model
    fixed = set(prefrozen_parameters(model))
    _release(model)
    for name, parameter in parameters.items():
        parameter.requires_grad_(parameter.is_floating_point() and name not in fixed)
    for attribute in (ATTRIBUTE, PRINTS):
        model.__dict__.pop(attribute, None)
    return model


def freeze_batchnorm(model: nn.Module) -> nn.Module:
    """Freeze all BatchNorm layers, weights and statistics, beside what is frozen; return the model, changed.

    Norms of another kind go on as they were: those of a frozen part that `freeze_to` lets train, train.

    Args:
        model: Any model, not wrapped in DistributedDataParallel.

    Example:
        >>> from tlutils import models, surgery
        >>> model = surgery.freeze_batchnorm(models.load("test_resnet", pretrained=False))
        >>> model.train().layer1[0].bn1.training, model.fc.weight.requires_grad
        (False, True)
    """
    model = _bare(model)
    last = record(model) or Record(None, (), (), False, False, fixed=prefrozen_parameters(model))
    names = {name: m for name, m in model.named_modules() if layers.is_batchnorm(m)}
    frozen = list(last.parameters)
    for name, norm in names.items():
        _hold(norm)
        for key, parameter in norm.named_parameters(prefix=name):
            parameter.requires_grad_(False)
            parameter.grad = None
            frozen.append(key)
    held = dict.fromkeys((*last.held, *names))
    others = any(layers.is_norm(m) and not layers.is_batchnorm(m) for m in model.modules())
    last = replace(last, parameters=tuple(dict.fromkeys(frozen)), held=tuple(held))
    setattr(model, ATTRIBUTE, replace(last, train_frozen_norms=last.train_frozen_norms and others))
    take_prints(model)
    return model


def prefrozen_parameters(model: nn.Module) -> tuple[str, ...]:
    """Return the names of parameters that other code had frozen: freezing and unfreezing leave them alone.

    Where every parameter is frozen, and not by `freeze_to` or `freeze`, none counts as such.

    Args:
        model: Any model.

    Example:
        >>> from torch import nn
        >>> from tlutils import surgery
        >>> model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
        >>> surgery.prefrozen_parameters(surgery.unfreeze(model))
        ('0.weight', '0.bias')
    """
    model, last = unwrap(model), record(model)
    ours = set(last.parameters) - set(last.fixed) if last else set()
    floats = {n: p for n, p in model.named_parameters(remove_duplicate=False) if p.is_floating_point()}
    if last is None and not any(p.requires_grad for p in floats.values()):
        return ()
    return tuple(name for name, p in floats.items() if not p.requires_grad and name not in ours)


def frozen_to(model: nn.Module) -> str | None:
    """Return the first stage that trains since the last `freeze_to`, by name; None where it froze none.

    Args:
        model: Any model, frozen or not.

    Example:
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> surgery.frozen_to(surgery.freeze_to(model, "stage2"))
        'stage2'
    """
    found = record(model)
    return found.from_stage if found else None


def record(model: nn.Module) -> Record | None:
    """Return what was last frozen, or None."""
    return getattr(unwrap(model), ATTRIBUTE, None)


def frozen_options(model: nn.Module) -> tuple[bool, bool]:
    """Return what the last `freeze_to` was told: whether frozen norms train, and whether dropout stays on.

    Args:
        model: Any model, frozen or not.

    Example:
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> surgery.frozen_options(surgery.freeze_to(model, "head", train_frozen_norms=True))
        (True, False)
    """
    last = record(model)
    return (last.train_frozen_norms, last.keep_dropout) if last else (False, False)


def is_held(module: nn.Module) -> bool:
    """Return whether `module` stays in eval mode whatever `train()` asks for."""
    return isinstance(module.__dict__.get("train"), Held)


def fingerprint(tensor: torch.Tensor) -> int:
    """Return a sum over the bits of a tensor: any change of one value changes it."""
    if tensor.is_meta or tensor.numel() == 0:
        return 0
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    flat = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    return int(flat.contiguous().view(words[flat.element_size()]).sum(dtype=torch.int64))


def take_prints(model: nn.Module) -> dict[str, int]:
    """Return a fingerprint of each tensor that must not change, and note them on the model.

    These are the frozen parameters and the buffers of held modules, by name.
    """
    frozen: dict[str, torch.Tensor] = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    for name, module in model.named_modules():
        if is_held(module):
            frozen |= {f"{name}.{key}": b for key, b in module._buffers.items() if b is not None}
    prints = {name: fingerprint(tensor) for name, tensor in frozen.items()}
    setattr(model, PRINTS, prints)
    return prints


def _bare(model: nn.Module) -> nn.Module:
    bare = require_editable(model)
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise LearnerError(
            "The model is wrapped in DistributedDataParallel, which has already noted what trains. "
            "Freeze model.module, then wrap it again."
        )
    return bare


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _within(model: nn.Module, names: Iterable[str]) -> set[nn.Module]:
    """Return the modules with these names and all that is in them."""
    return {m for name in names for m in model.get_submodule(name).modules()}


def _freeze(
    model: nn.Module,
    from_stage: str | None,
    names: list[str],
    inside: set[nn.Module],
    train_frozen_norms: bool | None,
    keep_dropout: bool | None,
) -> None:
    last, fixed = record(model), prefrozen_parameters(model)
    loose = _loose(model, train_frozen_norms)
    train_frozen_norms = (
        train_frozen_norms if train_frozen_norms is not None else bool(last and last.train_frozen_norms)
    )
    keep_dropout = keep_dropout if keep_dropout is not None else bool(last and last.keep_dropout)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    frozen = {name: parameters[name] for name in names if parameters[name] not in loose}
    _refuse_ties(parameters, frozen)
    _release(model)
    for name, parameter in parameters.items():
        parameter.requires_grad_(parameter.is_floating_point() and name not in fixed)
    for parameter in frozen.values():
        parameter.requires_grad_(False)
        parameter.grad = None  # an optimizer would go on with what is left there
    still = set(frozen.values())
    for module in model.modules():
        own = set(module.parameters())
        if module is not model and own and own - loose <= still:
            inside |= {
                module,
                *(m for m in module.modules() if from_stage is None and not list(m.parameters())),
            }
    if train_frozen_norms:
        inside = {m for m in inside if not layers.is_norm(m)}
    if keep_dropout:  # dropout may also be a function inside a block, which then has to be in train mode
        inside = {m for m in inside if layers.is_norm(m)}
    for module in inside:
        _hold(module)
    held = tuple(name for name, m in model.named_modules() if m in inside)
    setattr(
        model,
        ATTRIBUTE,
        Record(from_stage, tuple(frozen), held, train_frozen_norms, keep_dropout, fixed=fixed),
    )
    take_prints(model)


def _loose(model: nn.Module, train_frozen_norms: bool | None) -> set[nn.Parameter]:
    """Return the parameters of norm layers, if these are to train wherever they are."""
    last = record(model)
    if not (train_frozen_norms if train_frozen_norms is not None else last and last.train_frozen_norms):
        return set()
    return {p for m in model.modules() if layers.is_norm(m) for p in m.parameters()}


def _hold(module: nn.Module) -> None:
    """Keep a module in eval mode, and statistics that it has, also when they are to be counted again."""
    module.train = Held(module)  # type: ignore[method-assign, assignment]
    module.training = False
    if hasattr(module, "reset_running_stats"):  # which torch's `update_bn` calls
        module.reset_running_stats = keep_statistics  # type: ignore[assignment]


def keep_statistics() -> None:
    """Stand in for `reset_running_stats` on a frozen module: nothing is reset."""


def _release(model: nn.Module) -> None:
    for module in model.modules():
        if is_held(module):
            del module.train
            module.__dict__.pop("reset_running_stats", None)
            module.training = model.training


def _refuse_two_sides(model: nn.Module, ready: Plan, k: int, loose: set[nn.Parameter]) -> None:
    """Raise LearnerError where a layer that would train works on the images before and after a cut."""
    fixed = prefrozen_parameters(model)
    every = model.named_parameters(remove_duplicate=False)
    tied = Counter(id(p) for _, p in every)
    single = [(n, p) for n, p in model.named_parameters() if tied[id(p)] == 1]  # `_refuse_ties` sees others
    names = {id(p): n for n, p in single if n not in fixed and p not in loose}
    for mode, flow in ready.flows.items():
        sides: tuple[dict[str, None], dict[str, None]] = {}, {}
        if isinstance(flow, str):  # the model does not run in this mode as a list of stages
            continue
        for step in flow.steps:
            if flow.depends[step] == DATA:
                used = [step]
                for node in used:
                    # What is made of a weight alone, such as a transposed one, belongs to its user; what a
                    # layer makes without images belongs to that layer.
                    made = (n for n in node.all_input_nodes if n.op != "call_module")
                    used += (n for n in made if flow.depends[n] != DATA and n not in used)
                found = [names[id(t)] for n in used for t in tensors_of(model, n) if id(t) in names]
                sides[ready.places[mode][step] >= k].update(dict.fromkeys(found))
        if both := [name for name in sides[0] if name in sides[1]]:
            raise LearnerError(
                f"{both[0]} is used both before and after the cut at {ready.stages[k].name}, so it cannot be "
                "frozen and trained at once. Cut before both places or after both."
            )


def _refuse_ties(parameters: dict[str, nn.Parameter], frozen: dict[str, nn.Parameter]) -> None:
    """Raise LearnerError when memory is shared between a frozen name and one that trains."""
    shared: dict[tuple[int, torch.device], str] = {}
    for name, p in frozen.items():
        shared[p.data_ptr(), p.device] = name
    for name, p in parameters.items():
        other = shared.get((p.data_ptr(), p.device)) if p.numel() and not p.is_meta else None
        if other is not None and name not in frozen:
            raise LearnerError(
                f"{other} and {name} share one weight. The first would be frozen and the second would train, "
                "which one weight cannot. Cut before both or after both."
            )
