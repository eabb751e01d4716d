"""One small forward pass, read back through autograd: which layers make the class scores, what plays a part.

Nothing is looked up by name: the layer that makes the scores is the first Linear or convolution that one
meets when walking from the model's output towards its input.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .. import models
from ..errors import LearnerError
from ..inference import logits_of, twin
from .kinds import DROPOUTS

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SIDES = (64, 32, 96, 128, 192, 256)  # for a model that was built for another size than it states
_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "RmsNorm", "RMSNorm", "InstanceNorm")
_ACTIVATIONS = ("Relu", "Gelu", "Silu", "Hardswish", "Hardtanh", "Elu", "Prelu", "Mish")


@dataclass
class Trial:
    """What a trial pass on `images` (2, C, H, W) showed; `logits` are its class scores (2, classes).

    All by name: `heads` are the layers that make the scores (auxiliary and distilled ones too), `stems` those
    that read the image, `dropouts` the dropout layers right before a head, `reached` the names of parameters
    that an output depends on, `reentrant` whether re-entrant checkpointing hid some of the pass from
    autograd.
    """

    images: torch.Tensor
    logits: torch.Tensor
    heads: list[str] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    dropouts: list[str] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    reentrant: bool = False


def trial_inputs(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield inputs (2, C, H, W) to try in turn: 64 pixels for speed, the size that the model states, more."""
    info = models.info(model)
    channels, *own = info.input_size
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weight is None:
        raise LearnerError(
            f"{type(model).__name__} has no parameters. Expected an image classifier with a head to look at."
        )
    likely = [tuple(own)] if info.fixed_size else [(64, 64), tuple(own)]
    for height, width in dict.fromkeys([*likely, *((side, side) for side in _SIDES)]):
        noise = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
        yield noise.to(weight)


def try_out(model: nn.Module) -> Trial:
    """Return what a trial pass shows; the model stays as it was. Raises LearnerError when no pass works."""
    if isinstance(model, torch.jit.ScriptModule):
        raise LearnerError(
            "This is a scripted model, whose layers cannot be changed. Use the model before scripting."
        )
    if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
        raise LearnerError(
            "This model has lazy layers without weights yet. Run it once on a batch of images first."
        )
    failures: dict[tuple[int, ...], Exception] = {}
    for images in trial_inputs(model):
        with twin(model) as copy:
            try:
                return _read(copy, images)
            except LearnerError:
                raise
            except Exception as error:  # a model may refuse a size with any exception
                failures[tuple(images.shape)] = error
    shape = (2, *models.info(model).input_size)
    raise LearnerError(
        f"{type(model).__name__} could not run on a batch of shape {shape}: "
        f"{type(failures[shape]).__name__}: {failures[shape]}. Expected a model that maps images to class "
        "scores. If it takes another size, say so: models.describe(model, input_size=(C, H, W))."
    ) from failures[shape]


@dataclass
class _Pass:
    """One forward pass: its output, the autograd node of its input, and the calls of layers and dropouts.

    A call is (module, node of its input, node of its output).
    """

    output: Any
    start: Any
    calls: list[tuple[nn.Module, Any, Any]]

    def makers(self) -> dict[int, nn.Module]:
        """Return which layer made which node, by the node's id."""
        made: dict[int, nn.Module] = {}
        for module, _, node in self.calls:
            while isinstance(module, LAYERS) and node is not None:
                made[id(node)] = module
                # Writing into a view replaces its node by a new one, which leads to the node behind it.
                node = node.next_functions[0][0] if "View" in node.name() else None
        return made


def _read(model: nn.Module, images: torch.Tensor) -> Trial:
    model.eval()
    seen = _watched(model, images)
    scores = logits_of(seen.output)
    trial = Trial(images, scores.detach())
    names = {id(m): n for n, m in model.named_modules()}
    _collect(trial, model, seen, names, _heads(scores, seen, names))
    if len(trial.reached) < sum(1 for _ in model.named_parameters(remove_duplicate=False)):
        # Some parameters play no part in prediction: auxiliary heads, used in training only, or dead layers.
        for module in model.modules():
            module.training = True  # past any overridden train()
        seen = _watched(model, images)
        auxiliary = [head for t in _tensors(seen.output) for head in _auxiliary(t, seen, scores.shape[1])]
        _collect(trial, model, seen, names, auxiliary)
    return trial


def _watched(model: nn.Module, images: torch.Tensor) -> _Pass:
    calls: list[tuple[nn.Module, Any, Any]] = []

    def note(module: nn.Module, inputs: tuple, output: Any) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor):
            calls.append((module, inputs[0].grad_fn, output.grad_fn))

    handles = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, LAYERS + DROPOUTS)]
    try:
        with torch.enable_grad():
            batch = images.clone().requires_grad_().clone()  # not a leaf, which may not be written into
            return _Pass(model(batch), batch.grad_fn, calls)
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output] if output.grad_fn is not None else []
    if isinstance(output, dict):
        output = list(output.values())
    return [t for item in output for t in _tensors(item)] if isinstance(output, tuple | list) else []


def _walk(starts: list[Any], stop: Container[int] = (), kinds: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield each autograd node from `starts` towards the input once, none behind `stop` and `kinds`."""
    seen, todo = set(), [s for s in starts if s is not None]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        if id(node) not in stop and not any(kind in node.name() for kind in kinds):
            todo += [n for n, _ in node.next_functions if n is not None]


def _nearest(tensor: torch.Tensor, seen: _Pass) -> tuple[list[nn.Module], str]:
    """Return the layers met first when walking back from `tensor`, and what marks them as features, or ""."""
    made = seen.makers()
    nodes = list(_walk([tensor.grad_fn], made))
    found = list({id(m): m for m in (made.get(id(n)) for n in nodes) if m is not None}.values())
    marks = (*_NORMS, *_ACTIVATIONS) if any(isinstance(m, nn.Linear) for m in found) else _NORMS
    between = [n.name().removesuffix("Backward0") for n in nodes if id(n) not in made]
    return found, next((name for name in between if any(mark in name for mark in marks)), "")


def _outputs(layer: nn.Module) -> Any:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _heads(scores: torch.Tensor, seen: _Pass, names: dict[int, str]) -> list[nn.Module]:
    found, mark = _nearest(scores, seen)
    width = scores.shape[1]
    if mark or not found or any(_outputs(m) != width for m in found):
        which = ", ".join(f"{names[id(m)]} ({_outputs(m)} outputs)" for m in found[:3]) or "none"
        raise LearnerError(
            f"No head found: the model returns {width} columns, and the last layers before them are: {which}"
            + (f", followed by {mark}" if mark else "")
            + ". These are features, not class scores. Expected a Linear layer or a convolution whose "
            "outputs are the scores: put one where the head belongs, as in model.fc = nn.Linear(512, 10)."
        )
    return found


def _auxiliary(tensor: torch.Tensor, seen: _Pass, width: int) -> list[nn.Module]:
    found, mark = _nearest(tensor, seen)
    return [] if mark else [m for m in found if _outputs(m) == width]


def _collect(
    trial: Trial, model: nn.Module, seen: _Pass, names: dict[int, str], heads: list[nn.Module]
) -> None:
    """Add the heads, the stems, the dropouts right before the heads, and the parameters that play a part."""
    order = list(names.values())
    trial.heads += sorted({names[id(head)] for head in heads} - set(trial.heads), key=order.index)
    parameters: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameters.setdefault(id(parameter), []).append(name)
    for node in _walk([t.grad_fn for t in _tensors(seen.output)]):
        trial.reached.update(parameters.get(id(getattr(node, "variable", None)), ()))
        trial.reentrant |= "CheckpointFunction" in node.name()
    made = seen.makers()
    before = set(_walk([into for m, into, _ in seen.calls if m in heads], made, (*_NORMS, "Add")))
    for module, into, out in seen.calls:
        if isinstance(module, DROPOUTS) and out in before and names[id(module)] not in trial.dropouts:
            trial.dropouts.append(names[id(module)])
        behind = list(_walk([into], made)) if isinstance(module, LAYERS) else []
        direct = seen.start in behind and not any(id(node) in made for node in behind)
        if direct and names[id(module)] not in trial.stems:
            trial.stems.append(names[id(module)])
