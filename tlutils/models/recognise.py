"""Read off a model what it is: `load` noted it, torchvision and timm say so, any other model is tried."""

import copy
import itertools
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
from ..inference import device_of, dtype_of, logits_of, require_module, unwrap
from .metadata import ModelInfo, changed, spread, wrong_size
from .registry import timm_name, torchvision_names

ATTRIBUTE = "_tlutils_info"  # kept on the module itself, so that it survives deepcopy and pickling
TRIAL_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 16, 8)
RENORMALISES = "torchvision.models.googlenet", "torchvision.models.inception"
ONCE = (
    "normalised once: the model itself turns ImageNet's normalisation into mean 0.5, std 0.5 "
    "(transform_input)",
    "normalised once: mean 0.5, std 0.5 go in directly, since the model's own transform_input is off",
)


def info(model: nn.Module) -> ModelInfo:
    """Return what is known about a model; nothing is changed.

    Works for models from `load`, for raw torchvision and timm models, and inside DDP and torch.compile.
    For any other module the input size is found by trying, and 0.5 is assumed for mean and std: `notes` say
    so, and `describe` corrects it.

    Args:
        model: Any model.

    Example:
        >>> from tlutils import models
        >>> print(models.info(models.load("test_resnet", pretrained=False)).summary())
        test_resnet (timm, random weights)
          input     3 x 160 x 160
          resize    short side 168, bilinear, center crop
          normalise mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)
          output    1000 classes
          weights   random, seed 0
    """
    model = require_module(model)
    known = getattr(model, ATTRIBUTE, None)
    if known is None:
        return _recognise(model)
    outputs = num_classes(model) if known.source != "custom" else known.num_classes
    if outputs is None or outputs == known.num_classes:
        return known
    # The head was replaced by hand since: the old class names would be wrong.
    return replace(known, num_classes=outputs, classes=None)


def attach(model: nn.Module, info: ModelInfo) -> nn.Module:
    """Note `info` on the model (inside its wrappers) and return the model."""
    setattr(unwrap(model), ATTRIBUTE, info)
    return model


def describe(model: nn.Module, **changes: Any) -> nn.Module:
    """Return the same model with what `info` says of it corrected.

    Args:
        model: Any model; the facts are noted on it.
        **changes: Fields of `ModelInfo`. One number for `mean` or `std` holds for every channel, one or two
            for `input_size` leave the channels as they are.

    Raises:
        LearnerError: For an unknown field, and for values that contradict each other or the model.

    Example:
        >>> from torch import nn
        >>> from tlutils import models
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
        >>> models.info(models.describe(net, input_size=(1, 28, 28), mean=0.13, std=0.31)).mean
        (0.13,)
    """
    return attach(model, changed(info(model), changes))


def check_input(model: nn.Module, images: torch.Tensor) -> None:
    """Raise LearnerError when a batch (N, C, H, W) cannot go through the model, naming both sizes.

    Catches a missing batch axis, another number of channels, and another height or width where the
    architecture has a fixed one (transformers with a position embedding). The model is not run.

    Args:
        model: Any model.
        images: The batch.

    Example:
        >>> import torch
        >>> from tlutils import models
        >>> models.check_input(models.load("test_resnet", pretrained=False), torch.zeros(2, 3, 64, 64))
    """
    facts = info(model)
    shape = tuple(images.shape)
    expected = "x".join(map(str, ("N", *facts.input_size)))
    if len(shape) != 4:
        raise LearnerError(
            f"{facts.name} takes a batch {expected} and got {len(shape)} axes {shape}. "
            "One image becomes a batch with image.unsqueeze(0)."
        )
    if shape[1] != facts.input_size[0]:
        raise LearnerError(
            f"{facts.name} takes {facts.input_size[0]} channels ({expected}) and got {shape[1]} {shape}. "
            "models.load(..., in_chans=...) makes a model for another number."
        )
    if facts.fixed_size and shape[2:] != facts.input_size[1:]:
        raise wrong_size(facts, shape[2:])


def _recognise(model: nn.Module) -> ModelInfo:
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
        head = _last_layer(head) if isinstance(head, nn.Module) else None
        if head is None and hasattr(model, "num_classes"):
            return int(model.num_classes)  # type: ignore[arg-type]
        head = head or _last_layer(model)
    return None if head is None else _width(head)


def _last_layer(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """Return the linear or convolutional layer that is declared last: the head, in torchvision's classes."""
    return next((m for m in reversed([*model.modules()]) if isinstance(m, nn.Linear | nn.Conv2d)), None)


def _first_conv(model: nn.Module) -> nn.Conv2d | None:
    """Return the convolution that is declared first: the stem, in torchvision's and timm's classes."""
    return next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)


def _width(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def imagenet_classes() -> list[str]:
    """Return the names of the 1,000 ImageNet classes, in the order of the outputs."""
    return list(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


def torchvision_facts(name: str, weights: WeightsEnum, model: nn.Module) -> ModelInfo:
    """Return the facts of a torchvision model; the preprocessing is what `weights.transforms()` states."""
    preset = weights.transforms()
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    stem = _first_conv(model)
    channels = stem.in_channels if stem else 3
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
    if (head := _last_layer(model)) is not None:
        count += (1000 - head.weight.shape[0]) * (head.weight[0].numel() + (head.bias is not None))
    if (stem := _first_conv(model)) is not None:
        count += (3 - stem.in_channels) * stem.weight[:, 0].numel()
    sizes = {n: get_model_weights(n).DEFAULT.meta["num_params"] for n in family}
    nearest = min(sizes, key=lambda n: abs(sizes[n] - count))
    # Position embeddings for other sizes and auxiliary heads move the count a little.
    return nearest if abs(sizes[nearest] - count) < 0.01 * count else None


def timm_facts(name: str, model: nn.Module) -> ModelInfo:
    """Return the facts of a timm model; the preprocessing is what its `pretrained_cfg` states."""
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    channels, height, width = cfg.get("input_size", (3, 224, 224))
    stem = _first_conv(model)
    plain = cfg.get("first_conv", True)  # empty where the first convolution reads something else than pixels
    if stem and plain and stem.groups == 1 and stem.in_channels % 12:  # 12, 48: pixels folded in
        channels = stem.in_channels
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


def _custom(model: nn.Module) -> ModelInfo:
    channels, side, outputs = _try_out(model)
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


def _try_out(model: nn.Module) -> tuple[int, int | None, int]:
    """Return (channels, side) of the first usual images that go through a model, and its number of outputs.

    The side is None where none goes through, and then channels and outputs are a guess.
    """
    last = _last_layer(model)
    convs = [m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    candidates = list(dict.fromkeys([*convs[:1], 3, 1, *convs]))
    guess = candidates[0], None, last.weight.shape[0] if last else 0
    try:
        trial = copy.deepcopy(model).eval()  # the caller's modes, hooks and lazy layers stay untouched
    except (RuntimeError, TypeError):
        return guess
    for module in trial.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    for channels, side in itertools.product(candidates, TRIAL_SIDES):
        image = torch.zeros(1, channels, side, side, device=device_of(model), dtype=dtype_of(model))
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a size that does not fit may warn before it fails
                output = trial(image)
        except Exception:  # a model may refuse a size with any exception
            continue
        try:
            return channels, side, logits_of(output).shape[1]
        except LearnerError:  # no classifier
            return channels, side, guess[2]
    return guess
