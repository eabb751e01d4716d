"""Keep a model in a file with all that is needed to use it again, and read weights of others into a model."""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .. import runtime
from ..errors import LearnerError
from ..inference import require_module
from . import huggingface
from .adapt import COUNTER, shape_error, stem_and_head
from .metadata import ModelInfo, changed
from .reading import only_tensors, read_tensors
from .recognise import ATTRIBUTE, attach, info
from .zoo import build

log = logging.getLogger(__name__)

KEY = "tlutils"  # the entry of the file's metadata that holds our JSON
ENDING = ".safetensors"
WRAPPERS = re.compile(
    r"^(?:module\.|model\.|_orig_mod\.)+"
)  # what DDP, trainers and torch.compile put before names
TUPLES = ("input_size", "mean", "std", "notes")  # JSON makes lists of them
ENOUGH = 0.5  # share of the backbone's tensors below which a file is taken to be another architecture's


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did, by the model's own tensor names.

    Attributes:
        loaded: Copied into the model.
        skipped: The head: there in the file, for another number of classes.
        missing: In the model, not in the file: left as they were.
        unexpected: In the file, not in the model (by the file's names).
    """

    loaded: list[str]
    skipped: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for names, words in (
            (self.skipped, "skipped, a head for another number of classes"),
            (self.missing, "not in the file and left as they were"),
            (self.unexpected, "in the file alone"),
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
    back.

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
    path = Path(path)
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
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise LearnerError(
                f"{name!r} of {type(model).__name__} is a {type(tensor).__name__}, not a tensor, and cannot "
                "be saved."
            )
        kept = tensor.detach().cpu().contiguous()
        # Tied weights share memory, which the format refuses: each name gets its own copy of the values.
        tensors[name] = kept.clone() if kept.data_ptr() in seen else kept
        seen.add(kept.data_ptr())
    options = {
        name: getattr(model, name) for name in ("transform_input", "aux_logits") if hasattr(model, name)
    }
    if huggingface.is_transformers(model):
        options["config"] = huggingface.as_json(model)
    about = {"version": 1, "options": plain(options, "options"), "info": plain(asdict(facts), "info")}
    with runtime.atomic_write(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt", KEY: json.dumps(about)})
    return path


def load_file(path: Path, *, into: nn.Module | None = None) -> nn.Module:
    """Return the model of a file that `save` wrote, in eval mode; with `into`, that model with the file's
    tensors.
    """
    if not path.is_file() and path.with_name(path.name + ENDING).is_file():
        path = path.with_name(path.name + ENDING)
    tensors = read_tensors(path)
    about = _about(path)
    known = {item.name for item in fields(ModelInfo)}
    stored: dict[str, Any] = {
        k: tuple(v) if k in TUPLES else v for k, v in about["info"].items() if k in known
    }
    facts = ModelInfo(**stored)
    if into is None:
        if facts.source == "custom":
            raise LearnerError(
                f"{path} holds a model of your own class {facts.name}, and a file does not carry the class. "
                f"Make one and fill it: models.load({str(path)!r}, into={facts.name}(...))."
            )
        model = _rebuild(facts, about["options"])
    else:
        model = require_module(into)
    dtypes = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if into is None and len(dtypes) == 1:
        model.to(dtypes.pop())
    own = model.state_dict()
    differ = sorted(set(own) ^ set(tensors)) or [k for k in own if own[k].shape != tensors[k].shape]
    if differ:
        first = differ[0]
        if first in own and first in tensors:
            raise shape_error(str(path), first, first, tensors[first], own[first])
        raise LearnerError(
            f"{path} does not fit {facts.name}: {len(differ)} tensors are in one of them alone (first: "
            f"{first!r}). The model was changed after it was made. Make it again in the same way and pass "
            f"it: models.load({str(path)!r}, into=model)."
        )
    model.load_state_dict(_versioned(tensors, model))
    return attach(into if into is not None else model, facts).eval()


def _rebuild(facts: ModelInfo, options: dict[str, Any]) -> nn.Module:
    if facts.num_classes == 0:
        options = {**options, "num_classes": 0}
    return build(
        facts.name,
        False,
        num_classes=facts.num_classes or None,
        in_chans=facts.input_size[0],
        input_size=facts.input_size if facts.fixed_size else None,
        options=options,
    )


def _about(path: Path) -> dict[str, Any]:
    """Return the JSON that `save` put into a file."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except SafetensorError:
        text = None  # a torch checkpoint: it has tensors and no such entry
    if text is None:
        raise LearnerError(
            f"{path} holds tensors, and not which model they belong to: models.save did not write it. "
            "Make the model and read the weights into it: "
            f"model = models.load('resnet18', pretrained=False); models.load_weights(model, {str(path)!r})."
        )
    return json.loads(text)


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
    where = f"The file {source}" if isinstance(source, str | Path) else "The state dict"
    state = (
        read_tensors(Path(source)) if isinstance(source, str | Path) else only_tensors(dict(source), where)
    )
    own = inner.state_dict()
    names = _own_names(own)
    found: dict[str, tuple[str, Tensor]] = {}
    unexpected = []
    for theirs, tensor in state.items():
        ours = theirs if theirs in own else names.get(WRAPPERS.sub("", theirs))
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
    for name in differ:
        if name not in skipped:
            theirs, tensor = found[name]
            raise shape_error(where, theirs, name, tensor, own[name])
    take = {ours: tensor for ours, (_, tensor) in found.items() if ours not in skipped}
    inner.load_state_dict(_versioned(take, inner), strict=False)
    if hasattr(inner, ATTRIBUTE):
        words = Path(source).name if isinstance(source, str | Path) else "a state dict"
        attach(inner, replace(info(inner), pretrained=True, weights=f"loaded from {words}"))
    report = LoadReport(list(take), skipped, missing, unexpected)
    if missing or unexpected:
        log.warning("%s: %s", where, report)
    return report


def _own_names(own: Iterable[str]) -> dict[str, str]:
    """Return {name without wrappers: name}; empty when two tensors of the model would collide."""
    names = list(own)
    short = {WRAPPERS.sub("", name): name for name in names}
    return short if len(short) == len(names) else {}


def _versioned(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give tensors the format versions of the model's own modules, which some modules (MNASNet) insist on."""
    versioned = model.state_dict()
    versions = versioned._metadata  # type: ignore[attr-defined]
    versioned.clear()
    versioned.update(state)
    versioned._metadata = versions  # type: ignore[attr-defined]
    return versioned


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
