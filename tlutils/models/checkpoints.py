"""Keep a model in a file with all that is needed to use it again, and read weights of others into a model."""

import contextlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .. import fingerprint, runtime
from ..errors import LearnerError
from ..inference import device_of, dtype_of, evaluating, logits_of, require_module
from ..runtime import user_path
from . import huggingface
from .adapt import COUNTER, check_values, copy_in, shape_error, shorten_as_saved, stem_and_head
from .metadata import ModelInfo, changed, check_facts, from_json
from .reading import AVERAGED, USUAL, read_sets, read_tensors, readable, sets_of
from .recognise import ATTRIBUTE, attach, info
from .zoo import build

log = logging.getLogger(__name__)

KEY = "tlutils"  # the entry of the file's metadata that holds our JSON
VERSION = 1  # of that JSON
ENDING = ".safetensors"
# What DDP, trainers, torch.compile, FSDP and activation checkpointing put into names.
WRAPPERS = {"module", "model", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
OPTIONS = ("transform_input", "aux_logits", "config")  # of architectures, that `save` keeps
ENOUGH = 0.5  # share of the backbone's tensors below which a file is taken to be another architecture's


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did, by the model's own tensor names.

    Attributes:
        loaded: Copied into the model.
        skipped: The head: there in the file, for another number of classes.
        missing: In the model, not in the file: left as they were.
        unexpected: In the file, not in the model (by the file's names).
        chosen: Which set of weights was taken, where the file has several.
    """

    loaded: list[str]
    skipped: list[str]
    missing: list[str]
    unexpected: list[str]
    chosen: str = ""

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded" + (f" from {self.chosen}" if self.chosen else "")]
        for names, words in (
            (self.skipped, "skipped, a head for another number of classes"),
            (self.missing, "not in the file and left as they were"),
            (self.unexpected, "only in the file"),
        ):
            if names:
                parts.append(
                    f"{len(names)} {words} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
                )
        return "; ".join(parts)


def save(
    model: nn.Module,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model to one safetensors file, and return the file's path. The model is not changed.

    Beside the tensors the file holds, as JSON: where the architecture comes from, number and names of the
    classes, the input and the preprocessing. It appears whole or not at all. `load(path)` gives the model
    back. What the architecture had not when it was made (another activation, stride or forward, a hook) is
    not in the file: where it changes the scores of a trial, the log says so, and `load` asks for the model.
    Dropout rates and other settings that act in training alone are those of the architecture again.

    Args:
        model: Any model.
        path: Where to; the ending .safetensors is added where there is none.
        classes: Name of each output.
        extra: Plain values of your own (scores, the frozen stage, a date), which come back in
            `info(model).extra`.

    Raises:
        LearnerError: For another ending than .safetensors, a wrong number of class names, or values in
            `extra` that are not plain.

    Example:
        >>> from tlutils import models
        >>> model = models.load("test_resnet", pretrained=False, num_classes=2)
        >>> path = models.save(model, "pets", classes=["cat", "dog"])
        >>> models.info(models.load(path)).classes
        ['cat', 'dog']
    """
    model = require_module(model)
    path = user_path(path)
    if path.suffix != ENDING:
        if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl"):
            raise LearnerError(
                f"models.save writes safetensors and {path.name} names another format; "
                f"call it {path.with_suffix(ENDING).name}."
            )
        path = path.with_name(path.name + ENDING)
    facts = info(model)
    if classes is not None:
        facts = changed(facts, {"classes": classes})
    if extra is not None:
        facts = replace(facts, extra=plain(dict(extra), "extra"))
    check_facts(vars(facts))
    own, loose = _tensors_of(model), _loose_tensors(model)
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in (own | loose).items():
        kept = tensor.detach().cpu().contiguous()
        # Tied weights share memory, which the format refuses: each name gets its own copy of the values.
        tensors[name] = kept.clone() if kept.data_ptr() in seen else kept
        seen.add(kept.data_ptr())
    options = {
        name: getattr(model, name) for name in ("transform_input", "aux_logits") if hasattr(model, name)
    }
    if huggingface.is_transformers(model):
        options["config"] = huggingface.as_json(model)
    about = {
        "version": VERSION,
        "options": plain(options, "options"),
        "info": plain(asdict(facts), "info"),
        "loose": sorted(loose),
        "changed": facts.source != "custom" and not _comes_back(model, facts, options, tensors, loose),
    }
    if about["changed"]:
        log.warning(
            "%s was changed after it was made: with its weights alone %s gives other scores. %s keeps the "
            "weights; make the model again in the same way to load them: models.load(path, into=model).",
            type(model).__name__, facts.name, path.name,
        )  # fmt: skip
    with runtime.atomic_write(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt", KEY: json.dumps(about)})
    return path


def _comes_back(
    model: nn.Module,
    facts: ModelInfo,
    options: dict[str, Any],
    tensors: Mapping[str, Tensor],
    loose: Iterable[str],
) -> bool:
    """Return whether the architecture of that name with these tensors scores a trial as the model does.

    That is sure, and no trial is needed, where each layer has the settings that the architecture gives it.
    True, too, where it cannot be tried, or `load` will refuse the tensors by itself.
    """
    with contextlib.suppress(Exception), torch.device("meta"):  # some cannot be made without values
        if _settings(_rebuild(facts, options, tensors)) == _settings(model):
            return True
    images = torch.rand(2, *facts.input_size, generator=torch.Generator().manual_seed(0))
    images = images.to(device_of(model), dtype_of(model))
    try:
        other = _rebuild(facts, options, tensors)
        _put(dict(tensors), loose, other, facts, f"A file of {facts.name}", fresh=True)
        with evaluating(model) as bare, torch.no_grad():
            scores = logits_of(bare(images)).double()
    except Exception:  # whatever an architecture or a model says of such images
        return True
    try:
        with evaluating(other.to(images.device)) as bare, torch.no_grad():
            theirs = logits_of(bare(images)).double()
    except Exception:
        return False
    close = 1e-4 if images.dtype.itemsize > 2 else 0.05  # 16 bits round differently in another layout
    return scores.shape == theirs.shape and torch.allclose(
        scores, theirs, rtol=0, atol=close * float(theirs.nan_to_num().abs().max()), equal_nan=True
    )


def _settings(model: nn.Module) -> dict[str, str]:
    """Return what decides a model's scores beside its tensors, without what is only noted in it."""
    parts = fingerprint.of_settings(model).parts
    return {k: v for k, v in parts.items() if not k.startswith((":_tlutils", ":_model_args"))}


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers by name; LearnerError where there is anything else."""
    state = model.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.is_quantized:
            kind = "quantised tensor" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise LearnerError(
                f"{name!r} of {type(model).__name__} is a {kind}, and only plain tensors can be saved and "
                "loaded. A quantised model is made again from the model that it was made of: keep that one."
            )
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise LearnerError(
                f"{name!r} of {type(model).__name__} has no values yet. Run the model once on a batch of "
                "images first; a model on the meta device has none at all."
            )
    return dict(state)


def _loose_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that are attributes of modules, and neither parameters nor buffers, by name.

    Those that share the memory of a parameter or buffer are left out, since the model makes them of it.
    """
    kept = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    found, lost = {}, []
    for name, module in model.named_modules():
        for key, value in () if isinstance(module, torch.jit.ScriptModule) else vars(module).items():
            full = f"{name}.{key}" if name else key
            if isinstance(value, Tensor):
                if value.layout is torch.strided and value.untyped_storage().data_ptr() not in kept:
                    found[full] = value
            elif not key.startswith("_") and isinstance(value, list | tuple | dict | np.ndarray):
                items = value.values() if isinstance(value, dict) else value
                if isinstance(value, np.ndarray) or any(isinstance(item, Tensor) for item in items):
                    lost.append(full)
    if lost:
        log.warning(
            "%s: %s hold numbers that a file of weights does not keep; register them as buffers "
            "(register_buffer), or set them again after loading.", type(model).__name__, ", ".join(lost),
        )  # fmt: skip
    return found


def load_file(path: Path, *, into: nn.Module | None = None) -> nn.Module:
    """Return the model of a file that `save` wrote, in eval mode; with `into`, that model with the file's
    tensors.
    """
    if not path.is_file() and path.with_name(path.name + ENDING).is_file():
        path = path.with_name(path.name + ENDING)
    tensors = read_tensors(path)
    facts, options, names, was_changed = _about(path, tensors)
    if facts.source == "custom" and into is None:
        raise LearnerError(
            f"{path} holds the weights of your own class {facts.name}. Make it as you did before and pass "
            f"it: models.load({str(path)!r}, into={facts.name}(...))."
        )
    if was_changed and into is None:
        raise LearnerError(
            f"{path} holds the weights of a {facts.name} that was changed after it was made: settings of "
            "layers, functions or hooks, which no file keeps. Make it again in the same way and pass it: "
            f"models.load({str(path)!r}, into=model)."
        )
    model = require_module(into) if into is not None else _rebuild(facts, options, tensors, str(path))
    modules = dict(model.named_modules(remove_duplicate=False))
    if whole := [name for name in facts.identity if not isinstance(modules.get(name), nn.Identity)]:
        raise LearnerError(
            f"{path} holds a {facts.name} that was truncated: its {whole[0]} is an identity, and that of the "
            "model that was given is not. Truncate it in the same way (surgery.truncate), and pass it again."
        )
    _put(tensors, names, model, facts, str(path), fresh=into is None)
    return attach(into if into is not None else model, facts).eval()


def _put(
    tensors: dict[str, Tensor],
    loose: Iterable[str],
    model: nn.Module,
    facts: ModelInfo,
    where: str,
    *,
    fresh: bool,
) -> None:
    """Put the tensors of a file into a model that has just them, a `fresh` one in the file's number type."""
    attributes = {name: tensors.pop(name) for name in loose}
    dtypes = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if fresh and len(dtypes) == 1:
        model.to(dtypes.pop())
    own = _tensors_of(model)
    differ = sorted(set(own) ^ set(tensors)) or [k for k in own if own[k].shape != tensors[k].shape]
    if differ:
        first = differ[0]
        if first in own and first in tensors:
            raise shape_error(where, first, first, tensors[first], own[first])
        raise LearnerError(
            f"{where} does not fit {facts.name}: {len(differ)} tensors are in one of them alone (first: "
            f"{first!r}). The model was changed after it was made. Make it again in the same way and pass "
            f"it: models.load({where!r}, into=model)."
        )
    for name, tensor in tensors.items():
        check_values(where, name, tensor, own[name])
    owners = {name: _owner(model, name, where) for name in attributes}
    copy_in(model, tensors, what=where)
    for name, tensor in attributes.items():
        setattr(owners[name], name.rpartition(".")[2], tensor.to(device_of(model)))


def _owner(model: nn.Module, name: str, where: str) -> nn.Module:
    """Return the module that a loose tensor belongs to."""
    path, _, key = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        owner = None
    if owner is None or not isinstance(vars(owner).get(key, torch.empty(0)), Tensor):
        raise LearnerError(
            f"{where} does not fit {type(model).__name__}: it has no tensor {name!r}. Make the model as it "
            "was when it was saved. Nothing was copied."
        )
    return owner


def _rebuild(
    facts: ModelInfo, options: dict[str, Any], tensors: Mapping[str, Tensor], where: str = ""
) -> nn.Module:
    """Return a new model of these facts, as long as that of the tensors."""
    if facts.num_classes == 0:
        options = {**options, "num_classes": 0}
    model = build(
        facts.name,
        False,
        num_classes=facts.num_classes or None,
        in_chans=facts.input_size[0],
        input_size=facts.input_size if facts.fixed_size else None,
        options=options,
    )
    if facts.identity:
        shorten_as_saved(model, facts.identity, tensors, what=where)
    return model


def _about(path: Path, tensors: Mapping[str, Tensor]) -> tuple[ModelInfo, dict[str, Any], list[str], bool]:
    """Return what `save` put into a file, once all of it is sure.

    These are facts, options, names of loose tensors, and whether the model is no more what its name says.
    """
    try:
        with readable(path) as name, safe_open(name, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except SafetensorError:
        text = None  # a torch checkpoint: it has tensors and no such entry
    if text is None:
        raise LearnerError(
            f"{path} holds tensors, and not which model they belong to: models.save did not write it. "
            "Make the model and read the weights into it: "
            f"model = models.load('resnet18', pretrained=False); models.load_weights(model, {str(path)!r})."
        )
    try:
        return _checked(json.loads(text), tensors)
    except (ValueError, RecursionError) as error:  # LearnerError is a ValueError, too
        raise LearnerError(
            f"What {path} says of its model cannot be used: {error} The file was changed, or written by "
            f"another version. Its tensors still go into a model: models.load_weights(model, {str(path)!r})."
        ) from error


def _checked(about: Any, tensors: Mapping[str, Tensor]) -> tuple[ModelInfo, dict[str, Any], list[str], bool]:
    if not isinstance(about, dict):
        raise LearnerError(f"it is {about!r:.60}; expected a JSON object: names with values.")
    version = about.get("version")
    if version != VERSION or isinstance(version, bool):
        raise LearnerError(f"its version is {version!r:.60}, and this package reads version {VERSION}.")
    facts = from_json(about.get("info"))
    options, loose = about.get("options", {}), about.get("loose", [])
    if not isinstance(options, dict) or not set(options) <= set(OPTIONS):
        raise LearnerError(f"options is {options!r}; expected some of {', '.join(OPTIONS)} with values.")
    if any(not isinstance(options[name], bool) for name in OPTIONS[:2] if name in options):
        raise LearnerError(f"options is {options!r}; expected true or false.")
    if (facts.source == "transformers") != isinstance(options.get("config"), dict):
        raise LearnerError("the configuration that goes with a model of transformers is missing.")
    if not isinstance(loose, list) or any(name not in tensors for name in map(str, loose)):
        raise LearnerError(f"loose is {loose!r}; expected names of tensors in the file.")
    if not isinstance(about.get("changed", False), bool):
        raise LearnerError(f"changed is {about['changed']!r:.60}; expected true or false.")
    return facts, options, list(map(str, loose)), about.get("changed", False)


def load_weights(model: nn.Module, source: str | Path | Mapping[str, Any]) -> LoadReport:
    """Copy weights from a file or a state dict into a model, in place, and return what was done.

    A head for another number of classes is skipped and reported. Modes and requires_grad stay as they are.

    Args:
        model: Any model.
        source: A file, or a state dict. Prefixes that wrappers add ("module.", "model.", "_orig_mod.") do not
            matter, on either side.

    Raises:
        LearnerError: With nothing copied, when the file cannot be read safely, when a tensor of the backbone
            has another shape, or when less than half of the backbone is there.

    Example:
        >>> from tlutils import models
        >>> source = models.load("test_resnet", pretrained=False)
        >>> model = models.load("test_resnet", pretrained=False, num_classes=2)
        >>> models.load_weights(model, source.state_dict()).skipped
        ['fc.weight', 'fc.bias']
    """
    inner = require_module(model)
    own = _tensors_of(inner)
    if isinstance(source, Mapping):
        where, sets = "The state dict", sets_of(dict(source), "The state dict")
    else:
        where, sets = f"The file {source}", read_sets(user_path(source))
    state, chosen = _choose(sets, own)
    names = _own_names(own)
    found: dict[str, tuple[str, Tensor]] = {}
    unexpected = []
    for theirs, tensor in state.items():
        ours = _match(theirs, own, names)
        if ours is None:
            unexpected.append(theirs)
        else:
            found[ours] = (theirs, tensor)
    differ = [name for name, (_, tensor) in found.items() if tensor.shape != own[name].shape]
    missing = [name for name in own if name not in found and not name.endswith(COUNTER)]
    head = stem_and_head(inner)[1] if differ or missing else set()
    skipped = [name for name in differ if name in head]
    backbone = [name for name in own if name not in head and not name.endswith(COUNTER)]
    there = sum(name in found for name in backbone)
    if there < ENOUGH * len(backbone) or not found:
        raise LearnerError(
            f"{where} fits {type(inner).__name__} badly: {there} of the {len(backbone)} tensors of the "
            f"backbone are in it, so nothing was copied. The model calls its tensors {_some(own)}; the file "
            f"has {_some(state)}. Load the architecture that the file was made with."
        )
    for name, (theirs, tensor) in found.items():
        if name not in skipped:
            if tensor.shape != own[name].shape:
                raise shape_error(where, theirs, name, tensor, own[name])
            check_values(where, theirs, tensor, own[name])
    take = {ours: tensor for ours, (_, tensor) in found.items() if ours not in skipped}
    copy_in(inner, take, what=where)
    if hasattr(inner, ATTRIBUTE):
        words = "a state dict" if isinstance(source, Mapping) else user_path(source).name
        words += f", {chosen}" if chosen else ""
        attach(inner, replace(info(inner), pretrained=True, weights=f"loaded from {words}"))
    report = LoadReport(list(take), skipped, missing, unexpected, chosen)
    if missing or unexpected or chosen:
        log.warning("%s: %s", where, report)
    return report


def _choose(
    sets: Mapping[str, dict[str, Tensor]], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """Return the set of weights that fits best and, where several fit as well, words on which it is.

    Of raw and averaged weights (EMA, SWA) the averaged ones are taken, which is what trainers report on. Sets
    stand in entries of the file, or in one entry under names that begin differently.
    """
    names, first = _own_names(own), {name.partition(".")[0] for name in own}
    found: dict[str, dict[str, Tensor]] = {}
    for key, state in sets.items():
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            start, _, rest = name.partition(".")
            known = start in first or not rest
            parts.setdefault("" if known else start, {})[name if known else rest] = tensor
        enough = ENOUGH * len(own)
        fitting = {start: part for start, part in parts.items() if _fit(part, own, names) >= enough}
        if len(fitting) > 1 or (fitting and _fit(state, own, names) < enough):
            for start, part in fitting.items():
                found[".".join(filter(None, (key, start))) or "no prefix"] = part
        else:
            found[key] = state
    fits = {key: _fit(state, own, names) for key, state in found.items()}
    best = [key for key, fit in fits.items() if fit == max(fits.values())]
    order = [*(key for key in best if AVERAGED.search(key)), *(key for key in USUAL if key in best), *best]
    taken, others = order[0], sorted(set(best) - {order[0]})
    if not others or not max(fits.values()):
        return found[taken], ""
    kind = "the averaged weights" if AVERAGED.search(taken) else "the weights"
    return found[taken], f"{kind} {taken!r} (not {', '.join(map(repr, others))}, which the file has, too)"


def _fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, str]) -> int:
    """Return how many of the model's tensors a set has, in the right shape."""
    matched = ((_match(name, own, names), tensor) for name, tensor in state.items())
    return len({ours for ours, tensor in matched if ours is not None and own[ours].shape == tensor.shape})


def _match(name: str, own: Mapping[str, Tensor], names: Mapping[str, str]) -> str | None:
    """Return the model's own name for a name in a file, whatever wrappers added to either."""
    return name if name in own else names.get(_bare(name))


def _bare(name: str) -> str:
    """Return a tensor's name without what wrappers put into it, at whatever place."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _own_names(own: Iterable[str]) -> dict[str, str]:
    """Return {name without wrappers: name}; empty when two tensors of the model would collide."""
    names = list(own)
    short = {_bare(name): name for name in names}
    return short if len(short) == len(names) else {}


def _some(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in list(names)[:3]) + ", …"


def plain(value: Any, where: str) -> Any:
    """Return `value` in types that JSON has; NumPy and torch scalars become Python's. Raises LearnerError."""
    if (
        isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins"
    ) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, where) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, torch tensors
        return plain(value.tolist(), where)
    raise LearnerError(
        f"{where} is a {type(value).__name__}, and a model's file keeps plain values only: numbers, text, "
        "lists, dicts."
    )
