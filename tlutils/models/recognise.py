"""Read off a raw model what it is: torchvision and timm say so themselves, any other module is tried."""

import copy
import warnings
from dataclasses import replace
from typing import Any

import timm
import timm.models
import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum, get_model_builder, get_model_weights

from ..errors import LearnerError
from .adapt import first_conv, last_layer
from .metadata import ModelInfo, spread
from .packages import PACKAGES

TRIAL_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 16, 8)
RENORMALISES = "torchvision.models.googlenet", "torchvision.models.inception"
ONCE = (
    "normalised once: the model itself turns ImageNet's normalisation into mean 0.5, std 0.5 "
    "(transform_input)",
    "normalised once: mean 0.5, std 0.5 go in directly, since the model's own transform_input is off",
)


def torchvision_names() -> list[str]:
    """Return the classifiers that torchvision builds, sorted."""
    return torchvision.models.list_models(module=torchvision.models)


def recognise(model: nn.Module) -> ModelInfo:
    """Return the facts about a model on which nothing is noted."""
    if type(model).__module__.startswith("torchvision.models."):
        return _raw_torchvision(model)
    if isinstance(getattr(model, "pretrained_cfg", None), dict):
        return _raw_timm(model)
    return _custom(model)


def num_classes(model: nn.Module) -> int | None:
    """Return the width of a torchvision or timm classifier's output as its head is now; None when unsure."""
    head: Any = None
    if hasattr(model, "get_classifier"):
        head = model.get_classifier()  # type: ignore[operator]
        head = head[0] if isinstance(head, tuple | list | nn.ModuleList) and len(head) else head
        if isinstance(head, nn.Identity):
            return 0
    if not isinstance(head, nn.Linear | nn.Conv2d):
        inside = last_layer(head) if isinstance(head, nn.Module) else None
        if inside is None and hasattr(model, "num_classes"):
            return int(model.num_classes)  # type: ignore[arg-type]
        found = inside or last_layer(model)
        head = found[1] if found else None
    if head is None:
        return None
    return head.out_features if isinstance(head, nn.Linear) else head.out_channels


def imagenet_classes() -> list[str]:
    """Return the names of the 1,000 ImageNet classes, in the order of the outputs."""
    return list(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


def torchvision_facts(name: str, weights: WeightsEnum, model: nn.Module) -> ModelInfo:
    """Return the facts of a torchvision model; the preprocessing is what `weights.transforms()` states."""
    preset = weights.transforms()
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    stem = first_conv(model)
    channels = stem[1].in_channels if stem else 3
    fixed, side = False, crop
    if isinstance(model, torchvision.models.VisionTransformer):
        fixed, side = True, model.image_size
    elif isinstance(model, torchvision.models.MaxVit):
        fixed, side = True, maxvit_side(model)
    mean, std, notes = tuple(preset.mean), tuple(preset.std), []
    if type(model).__module__ in RENORMALISES:
        notes.append(ONCE[0] if model.transform_input else ONCE[1])
        if not model.transform_input:
            mean = std = (0.5, 0.5, 0.5)
    if channels != 3:
        notes.append(averaged(channels))
    return ModelInfo(
        name=name, source="torchvision", input_size=(channels, side, side),
        mean=spread(mean, channels), std=spread(std, channels),
        interpolation=preset.interpolation.value, crop_pct=crop / resize,
        num_classes=num_classes(model) or 0, pretrained=None, notes=tuple(notes), fixed_size=fixed,
    )  # fmt: skip


def averaged(channels: int) -> str:
    """Return the note on mean and std of a model whose stem was adapted to other than three channels."""
    return f"mean and std for {channels} channel(s) are ImageNet-style RGB values averaged over the colours"


def maxvit_side(model: nn.Module) -> int:
    """Return the side in pixels that a torchvision MaxViT was built for: stem and first block halve it."""
    return int(model.blocks[0].grid_size[0]) * 4  # type: ignore[index, union-attr]


def _raw_torchvision(model: nn.Module) -> ModelInfo:
    name = _torchvision_name(model)
    if name is None:
        return _custom(model)
    facts = torchvision_facts(name, get_model_weights(name).DEFAULT, model)
    return replace(
        facts, notes=(*facts.notes, "a raw torchvision model: its default weights' preprocessing is assumed")
    )


def _torchvision_name(model: nn.Module) -> str | None:
    """Tell which builder made a model, by counting its parameters (head and stem as the builder makes
    them).
    """
    family = [n for n in torchvision_names() if get_model_builder(n).__module__ == type(model).__module__]
    if len(family) < 2:
        return family[0] if family else None
    count = sum(p.numel() for p in model.parameters())
    if (head := last_layer(model)) is not None:
        count += (1000 - head[1].weight.shape[0]) * (head[1].weight[0].numel() + (head[1].bias is not None))
    if (stem := first_conv(model)) is not None:
        count += (3 - stem[1].in_channels) * stem[1].weight[:, 0].numel()
    sizes = {n: get_model_weights(n).DEFAULT.meta["num_params"] for n in family}
    nearest = min(sizes, key=lambda n: abs(sizes[n] - count))
    # Position embeddings for other sizes and auxiliary heads move the count a little.
    return nearest if abs(sizes[nearest] - count) < 0.01 * count else None


def timm_facts(name: str, model: nn.Module) -> ModelInfo:
    """Return the facts of a timm model; the preprocessing is what its `pretrained_cfg` states."""
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    channels, height, width = cfg.get("input_size", (3, 224, 224))
    stem = first_conv(model)
    plain = cfg.get("first_conv", True)  # empty where the first convolution reads something else than pixels
    if stem and plain and stem[1].groups == 1 and stem[1].in_channels % 12:  # 12, 48: pixels folded in
        channels = stem[1].in_channels
    embed = getattr(model, "patch_embed", None)
    fixed = bool(cfg.get("fixed_input_size", False)) and getattr(embed, "strict_img_size", True)
    fixed = fixed and not getattr(model, "dynamic_img_size", False)
    built = built_for(model)
    if fixed and built is not None:
        height, width = built
    mean, std = tuple(cfg.get("mean", (0.5,) * 3)), tuple(cfg.get("std", (0.5,) * 3))
    return ModelInfo(
        name=name, source="timm", input_size=(channels, height, width),
        mean=spread(mean, channels), std=spread(std, channels),
        interpolation=cfg.get("interpolation", "bicubic"), crop_pct=cfg.get("crop_pct", 0.875),
        num_classes=num_classes(model) or 0, pretrained=None, crop_mode=cfg.get("crop_mode", "center"),
        notes=(averaged(channels),) if channels != 3 else (), fixed_size=fixed,
    )  # fmt: skip


def built_for(model: nn.Module) -> tuple[int, int] | None:
    """Return the height and width that a timm model was made for, if its first module with a size says so."""
    for module in model.modules():
        size = getattr(module, "img_size", None)
        if isinstance(size, int | tuple | list):
            return (size, size) if isinstance(size, int) else tuple(size)
    return None


def _raw_timm(model: nn.Module) -> ModelInfo:
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    name, tag = cfg.get("architecture") or type(model).__name__, cfg.get("tag")
    known = timm.get_pretrained_cfg(name) if timm.models.is_model(name) else None
    facts = timm_facts(timm_name(name, tag if known is None or tag != known.tag else None), model)
    if facts.fixed_size and built_for(model) is None:  # made with another img_size, it would not tell
        note = "if it was made for another size of images, say so: models.describe(model, input_size=...)"
        return replace(facts, fixed_size=False, notes=(*facts.notes, note))
    return facts


def timm_name(name: str, tag: str | None) -> str:
    """Return the name by which `load` finds a timm model: "timm/" marks one that another source has too."""
    if tag:
        return f"{name}.{tag}"
    return f"timm/{name}" if name in PACKAGES or name in torchvision_names() else name


def _custom(model: nn.Module) -> ModelInfo:
    stem = first_conv(model)
    channels = stem[1].in_channels if stem else 3
    side, outputs = _try_sizes(model, channels)
    assumed = "not measured" if side is None else "the first of the usual sizes that went through"
    return ModelInfo(
        name=type(model).__name__, source="custom", input_size=(channels, side or 224, side or 224),
        mean=(0.5,) * channels, std=(0.5,) * channels, interpolation="bilinear", crop_pct=1.0,
        num_classes=outputs, pretrained=None,
        notes=(
            f"mean and std 0.5 are assumed, and the input size is {assumed}; correct them with "
            "models.describe",
        ),
    )  # fmt: skip


def _try_sizes(model: nn.Module, channels: int) -> tuple[int | None, int]:
    """Return the first usual side that goes through the model, and its number of outputs."""
    head = last_layer(model)
    guess = head[1].weight.shape[0] if head else 0
    try:
        trial = copy.deepcopy(model).eval()  # the caller's modes, hooks and lazy layers stay untouched
    except (RuntimeError, TypeError):
        return None, guess
    for module in trial.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    for side in TRIAL_SIDES:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a size that does not fit may warn before it fails
                output = trial(torch.zeros(1, channels, side, side, device=like.device, dtype=like.dtype))
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError):
            continue
        if isinstance(output, torch.Tensor) and output.ndim >= 2:
            return side, output.shape[1]
        return side, guess
    return None, guess


def known_weights(name: str, tag: str | None) -> WeightsEnum:
    """Return torchvision's weights of a model by tag (IMAGENET1K_V1, ...), the best ones without."""
    enum = get_model_weights(name)
    if tag is None:
        return enum.DEFAULT
    if tag not in enum.__members__:
        raise LearnerError(
            f"{name} has no weights {tag!r} in torchvision; it has {', '.join(enum.__members__)}."
        )
    return enum[tag]
