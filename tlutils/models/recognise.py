"""Read off a model what it is: `load` noted it, torchvision and timm say so, any other model is tried."""

import functools
import inspect
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
from ..inference import device_of, dtype_of, logits_of, require_module, twin, unwrap
from . import huggingface
from .metadata import ASSUMED, GUESSED, ModelInfo, changed, spread, wrong_size
from .registry import timm_name, torchvision_names

ATTRIBUTE = "_tlutils_info"  # kept on the module itself, so that it survives deepcopy and pickling
_HEADS = "fc", "classifier", "head", "heads"  # what torchvision calls them; a learner may declare more layers
TRIAL_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 16, 8)
RENORMALISES = "torchvision.models.googlenet", "torchvision.models.inception"
ONCE = (
    "normalised once: the model itself turns ImageNet's normalisation into mean 0.5, std 0.5 "
    "(transform_input)",
    "normalised once: mean 0.5, std 0.5 go in directly, since the model's own transform_input is off",
)


def info(model: nn.Module) -> ModelInfo:
    """Return what is known about a model; nothing is changed.

    Works for models from `load`, for raw models of torchvision, timm and transformers, within wrappers, and
    for models of your own that give their images to such a network. For any other module the input size is
    found by trying, and 0.5 is assumed for mean and std: `assumed` says so, and `describe` corrects it.

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
        return _from_zoo(model) or _custom(model)
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
    if "num_classes" in changes and huggingface.is_transformers(model):
        huggingface.note_classes(model, changes["num_classes"])
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


def _from_zoo(model: nn.Module) -> ModelInfo | None:
    """Return the facts about a bare model of a zoo; None for any other."""
    if any(kind.__module__.startswith("torchvision.models.") for kind in type(model).__mro__):
        return _raw_torchvision(model)
    if isinstance(getattr(model, "pretrained_cfg", None), dict):
        return _raw_timm(model)
    return huggingface.facts(model) if huggingface.is_transformers(model) else None


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
        named = (getattr(model, name, None) for name in _HEADS)
        head = head or _last_layer(next((m for m in named if isinstance(m, nn.Module)), model))
    return None if head is None else _width(head)


def _last_layer(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """Return the linear or convolutional layer that is declared last."""
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


def _raw_torchvision(model: nn.Module) -> ModelInfo | None:
    name = _torchvision_name(model)
    if name is None:
        return None
    facts = torchvision_facts(name, get_model_weights(name).DEFAULT, model)
    return replace(
        facts, notes=(*facts.notes, "a raw torchvision model: its default weights' preprocessing is assumed")
    )


def _torchvision_name(model: nn.Module) -> str | None:
    """Tell which builder made a model: by counting its parameters (head and stem as the builder makes them),
    and where that does not tell, by the names and shapes of all but the head.
    """
    made = [(n, inspect.signature(get_model_builder(n)).return_annotation) for n in torchvision_names()]
    family = [n for n, kind in made if isinstance(model, kind) and type(model).forward is kind.forward]
    if len(family) < 2:
        return family[0] if family else None
    count = sum(p.numel() for p in model.parameters())
    if (head := _last_layer(model)) is not None:
        count += (1000 - head.weight.shape[0]) * (head.weight[0].numel() + (head.bias is not None))
    if (stem := _first_conv(model)) is not None:
        count += (3 - stem.in_channels) * stem.weight[:, 0].numel()
    sizes = {n: get_model_weights(n).DEFAULT.meta["num_params"] for n in family}
    # Position embeddings for other sizes and auxiliary heads move the count a little.
    near = [n for n in family if abs(sizes[n] - count) < 0.01 * count]
    if near:
        return min(near, key=lambda n: abs(sizes[n] - count))
    own = {name: tensor.shape for name, tensor in model.state_dict().items() if hasattr(tensor, "shape")}
    for name in family:  # the head is gone, or another network in its place
        differ = {key.partition(".")[0] for key, shape in _shapes(name).items() if own.get(key) != shape}
        if len(differ) == 1 and differ == {list(_shapes(name))[-1].partition(".")[0]}:
            return name
    return None


@functools.cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """Return the names and shapes of a torchvision model's tensors; none where they cannot be told."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_model_builder(name)(weights=None)
    except (NotImplementedError, RuntimeError):
        return {}
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


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
    if (found := _from_within(model)) is not None:
        return found
    channels, side, outputs = _try_out(model)
    size = "not measured" if side is None else "the first of the usual sizes that went through"
    return ModelInfo(
        name=type(model).__name__, source="custom", input_size=(channels, side or 224, side or 224),
        mean=(0.5,) * channels, std=(0.5,) * channels, interpolation="bilinear", crop_pct=1.0,
        num_classes=outputs, pretrained=None,
        notes=(
            f"{ASSUMED}mean and std are 0.5; correct them with models.describe(model, mean=..., std=...)",
            f"{GUESSED}{side or 224} is {size}",
        ),
    )  # fmt: skip


def _from_within(model: nn.Module) -> ModelInfo | None:
    """Return facts from the known networks that `model` gives its images to; None without, or if they differ.

    What a network gets is compared with what went in: when it is the image, or each channel scaled and
    shifted (a model that normalises by itself), the network's mean and std follow for the whole model.
    """
    known: dict[str, ModelInfo] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in known)
        if name and not inside and (facts := _known(module)) is not None:
            known[name] = facts
    tried = [_seen_through(model, name, facts) for name, facts in known.items()]
    found = [facts for facts in tried if facts is not None]
    same = {(f.mean, f.std, f.input_size, f.crop_pct, f.interpolation, f.crop_mode) for f in found}
    return found[0] if len(same) == 1 else None


def _known(module: nn.Module) -> ModelInfo | None:
    """Return the facts of a network on which they are noted, or that a zoo made; None for any other."""
    noted: ModelInfo | None = getattr(module, ATTRIBUTE, None)
    facts = noted or _from_zoo(module)
    return None if facts is None or facts.assumed else facts


def _seen_through(model: nn.Module, name: str, inner: ModelInfo) -> ModelInfo | None:
    """Return the facts of `model` as its submodule `name` implies them; None when it gets no plain image."""
    small = (64, 64)
    for size in (inner.input_size[1:],) if inner.fixed_size else (small, inner.input_size[1:]):
        if (passed := _pass_into(model, name, (inner.input_size[0], *size))) is not None:
            break
    else:
        return None
    scale, shift, outputs = passed
    as_is = torch.allclose(scale, torch.ones(len(scale))) and torch.allclose(shift, torch.zeros(len(scale)))
    mean, std = inner.mean, inner.std
    if not as_is:
        mean = tuple(round(m + float(b) * s, 6) + 0.0 for m, b, s in zip(mean, shift, std, strict=True))
        std = tuple(round(float(a) * s, 8) for a, s in zip(scale, std, strict=True))
    how = "as they are" if as_is else "after the model scaled them, which mean and std allow for"
    parts = sum(p.numel() for p in model.get_submodule(name).parameters())
    whole = parts == sum(p.numel() for p in model.parameters()) and outputs == inner.num_classes
    return replace(
        inner, name=type(model).__name__, source="custom", mean=mean, std=std, num_classes=outputs,
        classes=inner.classes if whole else None,
        notes=(*inner.notes, f"the images reach {inner.name} {how}: its preprocessing is taken"),
    )  # fmt: skip


def _pass_into(
    model: nn.Module, name: str, size: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, int] | None:
    """Return (scale, shift) of each channel between image and what the submodule `name` gets, and the number
    of the model's outputs; None when that is no scaled image, or no pass works.
    """
    levels = torch.arange(1.0, size[0] + 1).view(-1, 1, 1)
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0))
    images = torch.stack([torch.zeros(size), levels.expand(size), noise]).to(dtype_of(model))
    given: list[torch.Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], settings: dict[str, Any]) -> None:
        tensors = [value for value in (*args, *settings.values()) if isinstance(value, torch.Tensor)]
        given.extend(value.float().cpu() for value in tensors)

    try:
        with twin(model) as copy, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)
            outputs = logits_of(copy(images.to(device_of(model)))).shape[1]
    except Exception:  # a model may refuse a size with any exception
        return None
    if len(given) != 1 or given[0].ndim != 4 or given[0].shape[:2] != images.shape[:2]:
        return None
    black, coloured, noisy = given[0]
    shift = black[:, :1, :1]
    scale = (coloured[:, :1, :1] - shift) / levels
    wanted = [shift.expand_as(black), (levels * scale + shift).expand_as(black)]
    if given[0].shape == images.shape:  # not resized
        wanted.append(images[2].float() * scale + shift)
    close = all(
        torch.allclose(got, right, rtol=0, atol=0.01 * float(scale.abs().max()))
        for got, right in zip((black, coloured, noisy), wanted, strict=False)
    )
    return (scale.flatten(), shift.flatten(), outputs) if close and (scale > 0).all() else None


def _try_out(model: nn.Module) -> tuple[int, int | None, int]:
    """Return (channels, side) of the first usual images that go through a model, and its number of outputs.

    The side is None where none goes through, and then channels and outputs are a guess.
    """
    last = _last_layer(model)
    convs = [m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    candidates = [n for n in dict.fromkeys([*convs[:1], 3, 1, *convs]) if n]  # lazy ones know none
    guess = candidates[0], None, _width(last) if last else 0
    with twin(model) as trial, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a size that does not fit may warn before it fails
        for channels, side in itertools.product(candidates, TRIAL_SIDES):
            image = torch.zeros(1, channels, side, side, device=device_of(model), dtype=dtype_of(model))
            try:
                output = trial(image)
            except Exception:  # a model may refuse a size with any exception
                continue
            try:
                return channels, side, logits_of(output).shape[1]
            except LearnerError:  # no classifier
                return channels, side, guess[2]
    return guess
