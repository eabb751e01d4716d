"""A network that ends early: after one of its stages, with its own pooling and a new head behind it."""

import torch
from torch import Tensor, fx, nn

from .. import models, runtime
from ..errors import LearnerError
from ..inference import device_of, dtype_of, evaluating, twin
from ..models import layers
from .editable import require_editable
from .head import refuse_parallel, replace_head
from .split import find_end, halves, outputs, refuse_hooks
from .stages import Plan, Stage, plan
from .tracing.graph import Flow
from .tracing.receptive_field import tensors

ENDS = "it ends after "  # begins the note on a network that was truncated


def truncate(
    model: nn.Module, at: Stage | str, *, num_classes: int | None = None, seed: int = 0
) -> nn.Module:
    """Let `model` end after the stage `at`, in place, and return it: with its own pooling and a new head.

    The modules of the later stages become `nn.Identity`, and so does what acts on pooled features before the
    head: a norm, a hidden layer. The head becomes a fresh layer, which reads the mean, over all places, of
    what leaves `at`. That is what `features.extract(model, images, at=at)` gives, so that a probe on these
    features can become the head (`probe.install_head`); on two images of noise it is tried. Everything that
    stays is bit-identical. `models.info` names the identities, and `models.save` keeps them.

    Earlier stages are more general (Yosinski et al. 2014, arXiv:1411.1792), and may serve better where images
    are unlike those of pretraining; a network that ends there is smaller and quicker.

    Args:
        model: An image classifier with one head.
        at: The last stage to keep, "stage1" or a later one, as a Stage, its name, or its last module.
        num_classes: How many classes your images have; as many as before for None.
        seed: The head is drawn from this seed; the global random generators do not advance.

    Raises:
        LearnerError: With the model as it was, when there is no such stage, or the head would not read that
            mean: with fully connected layers, a class token, connections across the cut, or an activation of
            the model's own before the pooling.

    Example:
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> surgery.stages(surgery.truncate(model, "stage2", num_classes=10)).names
        ['stem', 'stage1', 'stage2', 'pool', 'head']
        >>> model.fc, models.info(model).identity
        (Linear(in_features=48, out_features=10, bias=True), ('layer3', 'layer4'))
    """
    refuse_parallel(model)
    bare = require_editable(model)
    ready = plan(bare)
    refuse_hooks(bare, ready)
    k = find_end(ready, at)
    name, ends = ready.stages[k].name, [s for s in ready.stages.names if s.startswith("stage")]
    if name not in ends:
        raise LearnerError(
            f"A {type(bare).__name__} cannot end after {name!r}. Expected a stage between the stem and the "
            f"pooling: {', '.join(ends) or 'it has none'}."
        )
    found = layers.find_layers(bare)
    head = found.heads[0]
    if len(found.heads) > 1:
        raise _refusal(bare, name, f"it has {len(found.heads)} heads ({', '.join(found.heads)})")
    classes = found.logits.shape[1] if num_classes is None else num_classes
    identity = _behind(bare, ready, k, head)
    width = _prove(bare, ready, k, identity, head, classes, seed)
    replace_head(bare, classes, seed=seed)
    with runtime.seeded(seed):
        layers.shorten(bare, identity, head, width)
    if identity:
        facts = models.info(bare)
        outer = tuple(f"{path}." for path in identity)
        known = [path for path in facts.identity if not path.startswith(outer)]
        notes = [note for note in facts.notes if not note.startswith(ENDS)]
        notes.append(f"{ENDS}{name}, and its head reads the mean of {width} channels over all places")
        models.describe(bare, identity=(*known, *identity), notes=notes)
    return model


def _behind(model: nn.Module, ready: Plan, k: int, head: str) -> list[str]:
    """Return the modules that act between stage number `k` and the head, other than by pooling.

    Behind the body these are the ones with parameters, and those that give what has the shape of what they
    take, without dropout. A module that was looked into goes as a whole where all of it goes.
    """
    flow, place = ready.flows[False], ready.places[False]
    assert isinstance(flow, Flow)  # the evaluation flow always exists
    steps = [step for step in flow.steps if step.op == "call_module"]
    last = ready.stages.names.index(ready.stages.body[-1])
    early = {str(step.target) for step in steps if place[step] <= k}
    found: dict[str, None] = {}
    for step in steps:
        path = str(step.target)
        if f"{head}.".startswith(f"{path}."):
            break
        module = model.get_submodule(path)
        acts = any(True for _ in module.parameters()) or _keeps_shape(flow, step)
        rests = path in early or type(module) is nn.Identity or layers.is_dropout(module)
        if not rests and (acts or place[step] <= last):
            found[path] = None
    for outer in sorted(ready.opened, key=len, reverse=True):
        inside = {str(step.target) for step in steps if str(step.target).startswith(f"{outer}.")}
        if inside and inside <= found.keys():
            found = {path: None for path in found if path not in inside} | {outer: None}
    return list(found)


def _keeps_shape(flow: Flow, step: fx.Node) -> bool:
    into = [t.shape for node in step.all_input_nodes for t in tensors(flow.values[node][0])]
    return into == [t.shape for t in tensors(flow.values[step][0])]


def _prove(
    model: nn.Module, ready: Plan, k: int, identity: list[str], head: str, num_classes: int, seed: int
) -> int:
    """Return how many channels leave stage `k`; LearnerError unless a trial's embeddings are their means."""
    stage = ready.stages[k]
    noise = torch.randn(2, *ready.size, generator=torch.Generator().manual_seed(0))
    noise[1] *= 4  # what is bounded from above shows in one of them
    images = noise.to(device_of(model), dtype_of(model))
    prefix, _ = halves(model, ready, k + 1)
    with evaluating(prefix), torch.no_grad():
        leaving = prefix(images)
    if isinstance(leaving, tuple):
        raise _refusal(
            model,
            stage.name,
            f"{len(leaving)} tensors leave it, as parallel branches or dense connections do",
        )
    places = [axis for axis, letter in enumerate(stage.layout) if letter not in "NC"]
    wanted = leaving.mean(dim=places) if places else leaving
    given: list[Tensor] = []  # to the head
    failure: Exception | None = None
    with twin(model) as trial:
        replace_head(trial, num_classes, seed=seed)
        layers.shorten(trial, identity, head, wanted.shape[1])
        watched = trial.get_submodule(head)
        try:
            with watched.register_forward_pre_hook(lambda _, args: given.append(args[0])), torch.no_grad():
                trial(images)
            new = plan(trial, input_size=ready.size)  # type: ignore[arg-type]
            if isinstance(new.flows[True], str) and not isinstance(ready.flows[True], str):
                raise LearnerError(f"in training mode, {new.flows[True]}")
            last = new.stages.embedding
            with torch.no_grad():
                read = outputs(trial, last, input_size=ready.size)(images)[last]  # type: ignore[arg-type]
        except Exception as error:  # whatever a layer says about a width that it did not expect
            failure, read = error, given[-1] if given else None
    if isinstance(read, Tensor) and read.flatten(1).shape != wanted.shape:
        why = (
            f"its head would read {read.flatten(1).shape[1]} values of an image, and not {wanted.shape[1]}, "
            "their mean over places, since it flattens the places, or takes them one by one"
        )
        raise _refusal(model, stage.name, why) from failure
    if failure is not None or not isinstance(read, Tensor):
        why = f"it cannot run without its later stages ({type(failure or read).__name__}: {failure})"
        raise _refusal(model, stage.name, why) from failure
    close = 1e-4 if images.dtype.itemsize > 2 else 0.02
    if not torch.allclose(read.flatten(1), wanted, rtol=close, atol=close * float(wanted.abs().max())):
        raise _refusal(
            model,
            stage.name,
            "its head would not read the mean over places of what leaves there, since a class token, an "
            "activation, a shortcut or another pooling stays behind it",
        )
    return wanted.shape[1]


def _refusal(model: nn.Module, name: str, why: str) -> LearnerError:
    return LearnerError(
        f"A {type(model).__name__} cannot end after {name!r}: {why}. It is as it was. Try another stage, or "
        f"keep a probe beside it: probe.fit_probe on features.extract(model, images, at={name!r})."
    )
