"""Which kind of layer a module is, and where the head, the first convolution and the dropout of a model are.

Nothing is looked up by name, or by the order in which layers were declared: `find_layers` reads one small
forward pass back through autograd. The layer that makes the scores is the first Linear or convolution that
one meets when walking from the model's output towards its input.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ..errors import LearnerError
from ..inference import device_of, dtype_of, logits_of, parts_of, refuse_quantised, set_mode, twin
from .metadata import ModelInfo
from .recognise import info

LINEAR_OR_CONV = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_RATES = ("p", "drop_prob", "prob")  # what layers call the share that they drop
_WIDTHS = ("num_features", "head_hidden_size", "in_features")  # what timm calls the width before a head
_SIDES = (64, 32, 96, 128, 192, 256)  # for a model that was built for another size than it states
_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "RmsNorm", "RMSNorm", "InstanceNorm")
_ACTIVATIONS = ("Relu", "Gelu", "Silu", "Hardswish", "Hardtanh", "Elu", "Prelu", "Mish")


def hooks_of(module: nn.Module, *kinds: str) -> list[Any]:
    """Return the hooks that hang on a module, other than torch's own (for spectral norm, pruning).

    Args:
        module: Any layer, of any library.
        *kinds: "forward", "forward_pre", "backward", "backward_pre".

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> layers.hooks_of(nn.Linear(8, 8), "forward")
        []
    """
    hooks = [hook for kind in kinds for hook in getattr(module, f"_{kind}_hooks").values()]
    return [h for h in hooks if not (getattr(h, "__module__", "") or type(h).__module__).startswith("torch.")]


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a norm layer: BatchNorm, LayerNorm, GroupNorm, or one that is named so.

    Args:
        module: Any layer, of any library.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> layers.is_norm(nn.LayerNorm(8)), layers.is_norm(nn.Linear(8, 8))
        (True, False)
    """
    if isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm):
        return True
    kept = getattr(module, "running_mean", None)
    own = [*module.parameters(), *([kept] if isinstance(kept, torch.Tensor) else [])]
    return "norm" in type(module).__name__.lower() and bool(own) and all(p.squeeze().ndim < 2 for p in own)


def is_batchnorm(module: nn.Module) -> bool:
    """Return whether a module normalizes by statistics of the whole batch in training.

    That is PyTorch's BatchNorm; and any other norm layer that is named so or keeps a running mean, unless
    its name says that it is frozen.

    Args:
        module: Any layer, of any library.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> layers.is_batchnorm(nn.BatchNorm1d(8)), layers.is_batchnorm(nn.InstanceNorm2d(8))
        (True, False)
    """
    if isinstance(module, _NormBase):
        return isinstance(module, _BatchNorm)
    name, kept = type(module).__name__.lower(), getattr(module, "running_mean", None)
    named = "batchnorm" in name or isinstance(kept, torch.Tensor)
    return named and is_norm(module) and "frozen" not in name


def is_dropout(module: nn.Module) -> bool:
    """Return whether a module drops values or paths at random in training.

    Args:
        module: Any layer, of any library.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> layers.is_dropout(nn.Dropout(0.2)), layers.is_dropout(nn.Linear(8, 8))
        (True, False)
    """
    name = type(module).__name__
    return "Drop" in name or name == "StochasticDepth"


def drop_rate(module: nn.Module) -> float:
    """Return the share that a dropout layer drops, from 0 to 1; 0 where it states none.

    Args:
        module: Any layer, of any library.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> layers.drop_rate(nn.Dropout(0.2))
        0.2
    """
    rates = (getattr(module, name, None) for name in _RATES)
    return next((float(rate) for rate in rates if isinstance(rate, int | float)), 0.0)


def set_drop_rate(module: nn.Module, rate: float) -> None:
    """Set the share that a dropout layer drops.

    Args:
        module: A dropout layer, of any library.
        rate: The share, from 0 to 1.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> layer = nn.Dropout(0.2)
        >>> layers.set_drop_rate(layer, 0.5)
        >>> layer.p
        0.5
    """
    setattr(module, next((name for name in _RATES if hasattr(module, name)), _RATES[0]), rate)


def like(layer: Any, *, inputs: int | None = None, outputs: int | None = None) -> nn.Module:
    """Return a fresh layer of a layer's type, device, number type and mode, with other inputs or outputs.

    Args:
        layer: A Linear layer or a convolution without groups.
        inputs: How many values, or channels, it reads; those of the layer for None.
        outputs: How many it gives; those of the layer for None.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> layers.like(nn.Conv2d(8, 10, 1), inputs=4)
        Conv2d(4, 10, kernel_size=(1, 1), stride=(1, 1))
    """
    kind = next(k for k in LINEAR_OR_CONV if isinstance(layer, k))
    sides = ("in_features", "out_features") if kind is nn.Linear else ("in_channels", "out_channels")
    kept = [] if kind is nn.Linear else ["kernel_size", "stride", "padding", "dilation", "padding_mode"]
    options: dict[str, Any] = {key: getattr(layer, key) for key in (*sides, *kept)}
    options |= {side: n for side, n in zip(sides, (inputs, outputs), strict=True) if n is not None}
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    return kind(**options, bias=layer.bias is not None, **place).train(layer.training)


def shorten(model: nn.Module, identity: Iterable[str], head: str, width: int) -> None:
    """Put identities in the place of modules, and a fresh head that reads `width` values, in place.

    Args:
        model: An image classifier.
        identity: Dotted names of modules that each give one tensor for one.
        head: Dotted name of the only layer that makes the scores.
        width: How many values, or channels, the head reads from now on.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> layers.shorten(net.append(nn.Linear(8, 2)), ["1"], "4", 4)
        >>> net[1], net[4]
        (Identity(), Linear(in_features=4, out_features=2, bias=True))
    """
    new = {model.get_submodule(name): nn.Identity() for name in identity}
    layer: Any = model.get_submodule(head)
    parts = head.split(".")
    for owner in (model.get_submodule(".".join(parts[:i])) for i in range(len(parts))):
        for key in _WIDTHS:
            if vars(owner).get(key) == layer.weight.shape[1]:
                setattr(owner, key, width)
    put(model, {old: fresh.train(old.training) for old, fresh in new.items()})
    put(model, {model.get_submodule(head.removesuffix("._orig_mod")): like(layer, inputs=width)})


def put(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Replace each module that is a key of `new`, under all its names, in place.

    Args:
        model: Any model.
        new: {module of the model: what takes its place}.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> net = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
        >>> layers.put(net, {net[0]: nn.GELU()})
        >>> net[0]
        GELU(approximate='none')
    """
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if child is not None and child in new:
                module._modules[key] = new[child]


@dataclass
class Layers:
    """What one small forward pass showed of a model, all layers and parameters by their dotted names.

    Attributes:
        images: The batch (2, C, H, W) that went through.
        logits: Its class scores (2, classes).
        heads: The layers that make the scores; distilled and auxiliary ones too, these last.
        stems: The layers that read the image.
        dropouts: The dropout layers right before a head.
        reached: The parameters that an output depends on.
        reentrant: Whether re-entrant checkpointing hid some of the pass from autograd.
    """

    images: torch.Tensor
    logits: torch.Tensor
    heads: list[str] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    dropouts: list[str] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    reentrant: bool = False


def _trial_images(model: nn.Module, facts: ModelInfo) -> Iterator[torch.Tensor]:
    """Yield inputs (2, C, H, W) to try in turn: 64 pixels for speed, the size that the model states, more."""
    channels, *own = facts.input_size
    likely = [tuple(own)] if facts.fixed_size else [(64, 64), tuple(own)]
    for height, width in dict.fromkeys([*likely, *((side, side) for side in _SIDES)]):
        noise = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
        yield noise.to(device_of(model), dtype_of(model))


def find_layers(model: nn.Module) -> Layers:
    """Return where the layers of an image classifier are, as a small forward pass shows; it stays as it was.

    Args:
        model: Any image classifier, without wrappers.

    Raises:
        LearnerError: The model is scripted or without parameters, no pass works, or it returns no class
            scores.

    Example:
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> found = layers.find_layers(net)
        >>> found.stems, found.heads
        (['0'], ['3'])
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise LearnerError(
            "This is a scripted model, whose layers cannot be changed. Use the model before scripting."
        )
    if not any(p.is_floating_point() for p in model.parameters()):
        raise LearnerError(
            f"{type(model).__name__} has no parameters. Expected an image classifier with a head to look at."
        )
    facts = info(model)
    failures: dict[tuple[int, ...], Exception] = {}
    for images in _trial_images(model, facts):
        with twin(model) as copy:
            try:
                return _read(copy, images)
            except LearnerError:
                raise
            except Exception as error:  # a model may refuse a size with any exception
                failures[tuple(images.shape)] = error
    shape = (2, *facts.input_size)
    raise LearnerError(
        f"{type(model).__name__} could not run on a batch of shape {shape}: "
        f"{type(failures[shape]).__name__}: {failures[shape]}. Expected a model that maps images to class "
        "scores. If it takes another size, say so: models.describe(model, input_size=(C, H, W))."
    ) from failures[shape]


@dataclass
class _Pass:
    """One forward pass of `modules`: its output, the autograd node of its input, and the calls of layers.

    The output holds what the modules keep of the pass, too. A call is (module, node of its input, node of its
    output).
    """

    output: Any
    start: Any
    calls: list[tuple[nn.Module, Any, Any]]
    modules: list[nn.Module]

    def makers(self) -> dict[int, nn.Module]:
        """Return which layer made which node, by the node's id."""
        made: dict[int, nn.Module] = {}
        for module, _, node in self.calls:
            while isinstance(module, LINEAR_OR_CONV) and node is not None:
                made[id(node)] = module
                # Writing into a view replaces its node by a new one, which leads to the node behind it.
                node = node.next_functions[0][0] if "View" in node.name() else None
        return made


def _read(model: nn.Module, images: torch.Tensor) -> Layers:
    seen, output = _watched(model, images)
    scores = logits_of(output)
    found = Layers(images, scores.detach())
    names = {id(m): n for n, m in model.named_modules()}
    others = [head for t in tensors_within(seen.output) for head in _auxiliary(t, seen, scores.shape[1])]
    _collect(found, model, seen, names, [*_heads(scores, seen, names), *others])
    if len(found.reached) < sum(1 for _ in model.named_parameters(remove_duplicate=False)):
        # Some parameters play no part in prediction: auxiliary heads, used in training only, or dead layers.
        set_mode(model, training=True)
        seen, _ = _watched(model, images)
        auxiliary = [
            head for t in tensors_within(seen.output) for head in _auxiliary(t, seen, scores.shape[1])
        ]
        _collect(found, model, seen, names, auxiliary)
    return found


def _watched(model: nn.Module, images: torch.Tensor) -> tuple[_Pass, Any]:
    """Return a pass, and what the model itself returned in it."""
    calls: list[tuple[nn.Module, Any, Any]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor):
            calls.append((module, inputs[0].grad_fn, output.grad_fn))

    noted = [m for m in model.modules() if isinstance(m, LINEAR_OR_CONV) or is_dropout(m)]
    handles = [m.register_forward_hook(note) for m in noted]
    try:
        with torch.enable_grad():
            batch = images.clone().requires_grad_().clone()  # not a leaf, which may not be written into
            output = model(batch)
            return _Pass(
                [output, kept_tensors(model, output)], batch.grad_fn, calls, [*model.modules()]
            ), output
    finally:
        for handle in handles:
            handle.remove()


def tensors_within(output: Any) -> list[torch.Tensor]:
    """Return the tensors with a gradient in what a model returned.

    Args:
        output: A tensor, a container of tensors, or an object with `.logits`.

    Example:
        >>> import torch
        >>> from tlutils.models import layers
        >>> x = torch.ones(2, requires_grad=True)
        >>> len(layers.tensors_within({"logits": x * 2, "features": [x + 1], "labels": torch.ones(2)}))
        2
    """
    if isinstance(output, torch.Tensor):
        return [output] if output.grad_fn is not None else []
    return [t for item in parts_of(output) for t in tensors_within(item)]


def kept_tensors(model: nn.Module, output: Any) -> list[torch.Tensor]:
    """Return what a model's modules kept of a pass as attributes, and nothing of its output was made of.

    Args:
        model: A model after a pass with gradients.
        output: What that pass returned.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils.models import layers
        >>> net = nn.Linear(3, 2)
        >>> scores = net(torch.ones(1, 3))
        >>> net.auxiliary = scores * 2
        >>> len(layers.kept_tensors(net, scores))
        1
    """
    used = set(_walk([t.grad_fn for t in tensors_within(output)]))
    kept = [t for module in model.modules() for t in tensors_within(list(vars(module).values()))]
    return [t for t in kept if t.grad_fn not in used]


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
        refuse_quantised(seen.modules)
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
    found: Layers, model: nn.Module, seen: _Pass, names: dict[int, str], heads: list[nn.Module]
) -> None:
    """Add the heads, the stems, the dropouts right before the heads, and the parameters that play a part."""
    order = list(names.values())
    found.heads += sorted({names[id(head)] for head in heads} - set(found.heads), key=order.index)
    parameters: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameters.setdefault(id(parameter), []).append(name)
    for node in _walk([t.grad_fn for t in tensors_within(seen.output)]):
        found.reached.update(parameters.get(id(getattr(node, "variable", None)), ()))
        found.reentrant |= "CheckpointFunction" in node.name()
    made = seen.makers()
    before = set(_walk([into for m, into, _ in seen.calls if m in heads], made, (*_NORMS, "Add")))
    for module, into, out in seen.calls:
        if is_dropout(module) and out in before and names[id(module)] not in found.dropouts:
            found.dropouts.append(names[id(module)])
        behind = list(_walk([into], made)) if isinstance(module, LINEAR_OR_CONV) else []
        direct = seen.start in behind and not any(id(node) in made for node in behind)
        if direct and names[id(module)] not in found.stems:
            found.stems.append(names[id(module)])
