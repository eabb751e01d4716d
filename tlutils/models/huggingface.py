"""Read image classifiers of Hugging Face's transformers, which is imported only for models of its own."""

import functools
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import numpy as np
from PIL import Image
from torch import nn

from ..errors import LearnerError
from .metadata import ASSUMED, ModelInfo, spread

PROCESSOR = "preprocessor_config.json"
SIZE = (64, 96)  # height and width of the pictures that a processor is tried on
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def library() -> ModuleType:
    """Return the package transformers, or raise LearnerError with how to install it."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise LearnerError(
            "Models of Hugging Face's transformers need that package, which is not installed here "
            f"({error}). Install it with: pip install 'tlutils[transformers]'."
        ) from error


def is_transformers(model: nn.Module) -> bool:
    """Return whether a model is one of transformers, without importing it."""
    made = ("transformers.modeling_utils", "PreTrainedModel")
    return any((kind.__module__, kind.__name__) == made for kind in type(model).__mro__)


def note_classes(model: nn.Module, num_classes: int) -> None:
    """Note how many classes a model has where its own loss, and its saved configuration, look."""
    config: Any = model.config
    config.id2label = {i: f"LABEL_{i}" for i in range(num_classes)}
    config.label2id = {name: i for i, name in config.id2label.items()}
    model.num_labels = num_classes  # type: ignore[assignment]


def architectures() -> Mapping[str, Any]:
    """Return the image classifiers of transformers, by the name of their configuration ("vit", "resnet")."""
    auto = importlib.import_module(f"{library().__name__}.models.auto.modeling_auto")
    names: Mapping[str, Any] = auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    return names


def config_from(values: Mapping[str, Any]) -> Any:
    """Return the configuration that a JSON file holds; LearnerError when it is of no image classifier."""
    kind = values.get("model_type")
    if kind not in architectures():
        raise LearnerError(
            f"The configuration is of {kind!r}, for which transformers has no image classifier. Expected one "
            f"of {', '.join(sorted(architectures()))}."
        )
    return library().CONFIG_MAPPING[kind].from_dict(dict(values))


def as_json(model: nn.Module) -> dict[str, Any]:
    """Return the configuration from which `build` makes a model of the same structure."""
    config: Any = model.config
    return json.loads(config.to_json_string(use_diff=False)) | {"architectures": [type(model).__name__]}


def build(config: Any) -> nn.Module:
    """Return the image classifier of a configuration, with random weights."""
    stated = (getattr(config, "architectures", None) or [""])[0]
    if stated in _several(architectures()[config.model_type]):
        return getattr(library(), stated)(config)
    return library().AutoModelForImageClassification.from_config(config)


def _several(names: Any) -> list[str]:
    """Return the names of classes in a name, a list of names or a dict of them: the tables have all three."""
    names = [names] if isinstance(names, str) else names.values() if isinstance(names, Mapping) else names
    return [str(name) for name in names or () if name]


def processor_from(kind: str, values: Mapping[str, Any] | None = None) -> Any:
    """Return the image processor that a JSON file states; without one, the usual one of a kind of model."""
    auto = importlib.import_module(f"{library().__name__}.models.auto.image_processing_auto")
    stated = str((values or {}).get("image_processor_type") or (values or {}).get("feature_extractor_type"))
    usual = _several(auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(kind))
    for name in (stated.replace("FeatureExtractor", "ImageProcessor"), *usual):
        if (made := getattr(library(), name, None)) is not None:
            return made() if values is None else made.from_dict(dict(values))
    return None


def stated_processor(model: nn.Module) -> dict[str, Any] | None:
    """Return the JSON of the processor beside the weights that a model was read from, where it is here."""
    where = str(getattr(model.config, "_name_or_path", "") or "")
    path: Any = Path(where) / PROCESSOR
    if where and not path.is_file():
        try:
            path = huggingface_hub.try_to_load_from_cache(where, PROCESSOR)
        except ValueError:  # no name of a repository
            return None
    if not where or not isinstance(path, str | Path):
        return None
    return json.loads(Path(path).read_text(encoding="utf-8"))


def filled(model: nn.Module, state: dict[str, Any], *, new_head: bool, what: str) -> nn.Module:
    """Return the model with the tensors of a checkpoint; only a new head may keep its random weights."""
    words = library().utils.logging
    level, bar = words.get_verbosity(), words.is_progress_bar_enabled()
    words.set_verbosity_error()  # what it would say of a new head was asked for
    words.disable_progress_bar()
    try:
        loaded, report = type(model).from_pretrained(  # type: ignore[attr-defined]
            None,
            config=model.config,
            state_dict=state,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    finally:
        words.set_verbosity(level)
        if bar:
            words.enable_progress_bar()
    left = {key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]}
    left |= set(report["missing_keys"])
    head = {name for name in left if "classifier" in name}
    if left - head or (left and not new_head):
        raise LearnerError(
            f"The file of {what} has no weights for {len(left)} tensors of {type(model).__name__} (first: "
            f"{min(left)!r}). If the head is missing, ask for a new one: num_classes=..."
        )
    return loaded


def facts(model: nn.Module, stated: dict[str, Any] | None = None) -> ModelInfo:
    """Return the facts of an image classifier of transformers.

    Its preprocessing is what its processor does: the one stated, else the one beside the weights that the
    model was read from, else the usual one of such models, and then it is assumed.
    """
    config: Any = model.config
    built = getattr(getattr(config, "vision_config", config), "image_size", None)
    built = (built, built) if isinstance(built, int) else tuple(built) if built else None
    stated = stated or stated_processor(model)
    known, assumed = _of_processor(config.model_type, json.dumps(stated, default=str))
    if stated is None or "input_size" not in known:
        known = known | {"input_size": built or known.get("input_size", (224, 224))}
    labels = getattr(config, "id2label", None) or {}
    classes = [str(labels[key]) for key in sorted(labels, key=int)]
    channels = getattr(config, "num_channels", 3)
    name = getattr(config, "_name_or_path", "") or config.model_type
    advice = "say what is right with models.describe(model, mean=..., std=..., ...)"
    return ModelInfo(
        name=f"transformers/{name}", source="transformers", num_classes=len(classes), pretrained=None,
        classes=None if all(label.startswith("LABEL_") for label in classes) else classes,
        notes=(f"{ASSUMED}{assumed}; {advice}",) if assumed else (),
        fixed_size=built is not None and any("position_emb" in key for key, _ in model.named_parameters()),
        interpolation=known["interpolation"], crop_pct=known["crop_pct"], crop_mode=known["crop_mode"],
        input_size=(channels, *known["input_size"]),
        mean=spread(known["mean"], channels), std=spread(known["std"], channels),
    )  # fmt: skip


@functools.cache
def _of_processor(kind: str, stated: str) -> tuple[dict[str, Any], str]:
    """Return the preprocessing of a processor, given as JSON, and what is assumed of it."""
    values = json.loads(stated)
    found, unlike, name = None, "", "processor"
    try:
        if (processor := processor_from(kind, values)) is not None:
            name = type(processor).__name__
            found, unlike = preprocessing(processor)
    except Exception as error:  # a processor may want or return anything
        unlike = f"mean and std are 0.5, since its {name} could not be read ({error})"
    if values is None:
        usual = f"that of a usual {name}" if found else "mean and std are 0.5"
        unlike = f"{usual}, since the model came without its processor"
    usual_facts = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "crop_pct": 1.0}
    return found or {**usual_facts, "crop_mode": "center"}, unlike


def preprocessing(processor: Any) -> tuple[dict[str, Any], str]:
    """Return what an image processor does to pictures, as fields of `ModelInfo`, and what these cannot say.

    Found by its effect on a few pictures: the values of black and white give mean and std, and the slopes of
    two wedges of grey the size to which a picture is resized before it is cropped.
    """
    height, width = SIZE
    black = np.zeros((*SIZE, 3), np.uint8)
    red, across, down = black.copy(), black.copy(), black.copy()
    red[..., 0] = 255
    across += 2 * np.arange(width, dtype=np.uint8)[None, :, None]
    down += 3 * np.arange(height, dtype=np.uint8)[:, None, None]
    low, high, reddish, x_wedge, y_wedge = (
        processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0].double().numpy()
        for image in (black, black + 255, red, across, down)
    )
    rows, columns = low.shape[1:]
    low, high, reddish = (image[:, rows // 2, columns // 2] for image in (low, high, reddish))
    std = 1 / (high - low)
    mean = -low * std
    grey = [255 * (image[0] * std[0] + mean[0]) for image in (x_wedge, y_wedge)]
    wide, off_x = _resized(grey[0][rows // 2], 2, width)
    tall, off_y = _resized(grey[1][:, columns // 2], 3, height)
    kept = abs(wide / tall * height / width - 1) < 0.02
    share = min(rows, columns) / min(wide, tall) if kept else columns / wide
    resample = getattr(processor, "resample", 2)
    resample = getattr(resample, "value", resample)
    found = {
        "input_size": (rows, columns),
        "mean": tuple(round(float(value), 6) + 0.0 for value in mean),
        "std": tuple(round(float(value), 6) for value in std),
        "interpolation": resample if isinstance(resample, str) else RESAMPLING.get(resample, "bilinear"),
        "crop_pct": min(share, 1.0),
        "crop_mode": "center" if kept else "squash",
    }
    unlike = []
    if not np.allclose(reddish, [high[0], low[1], low[2]], atol=1e-3):
        unlike.append("changes the colours")
    squashed = kept or abs(wide / tall * rows / columns - 1) < 0.02
    if share > 1 or max(abs(off_x), abs(off_y)) > 1 or not squashed:
        unlike.append("resizes or crops in a way of its own")
    words = f"its {type(processor).__name__} {' and '.join(unlike)}, which cannot be done here"
    return found, words if unlike else ""


def _resized(line: np.ndarray, step: int, length: int) -> tuple[int, float]:
    """Return the length to which a wedge was resized, and how far off its middle the crop is.

    `line`: what came out, as levels of grey, of a wedge of `length` pixels that rises by `step` at each.
    """
    part = slice(len(line) // 4, len(line) - len(line) // 4)
    slope, start = np.polyfit(np.arange(len(line))[part], line[part], 1)
    middle = start + slope * (len(line) - 1) / 2
    return round(step * length / slope), float(middle / step - (length - 1) / 2)
