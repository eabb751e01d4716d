"""What a model needs to know about itself to be used rightly: its input, its normalisation, its classes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from numbers import Real
from typing import Any

from ..errors import LearnerError, unknown

SOURCES = ("package", "torchvision", "timm", "transformers", "custom")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CROPS = ("center", "squash", "border")
TUPLES = ("input_size", "mean", "std", "notes", "identity")  # JSON makes lists of them
LARGEST, MOST = 16_384, 100_000  # pixels, and classes, that a file may ask for
GUESSED = "the input size "  # begins the note on a size that was tried out
ASSUMED = "the preprocessing is assumed: "  # begins the note on what nobody stated


def sides_before_crop(size: Sequence[int], crop_pct: float) -> tuple[int, int]:
    """Return the height and width in pixels that a picture is resized to cover, before its middle is cropped.

    Args:
        size: height and width of the crop, in pixels.
        crop_pct: side of the crop over side of the resized picture, in (0, 1].

    Example:
        >>> from tlutils import models
        >>> models.sides_before_crop((240, 240), 0.882)
        (272, 272)
    """
    # Flooring is what timm does; the small term keeps 224 / (224 / 232) at 232.
    height, width = (math.floor(side / crop_pct + 1e-6) for side in size)
    return height, width


@dataclass(frozen=True)
class ModelInfo:
    """Where a model comes from and what it expects. Images are floats in [0, 1] before `mean` and `std`.

    The preprocessing is: resize to cover `resized`, crop the centre to `input_size`, normalise.

    Attributes:
        name: The name by which `load` finds the architecture; of a model of your own, its class.
        source: "package", "torchvision", "timm", "transformers" or "custom".
        input_size: Channels, height, width.
        mean: Mean of each channel that is taken off.
        std: Standard deviation of each channel that is divided by.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
        crop_pct: Side of the crop over side of the resized image, from 0.01 to 1.
        num_classes: Width of the output; 0 when the head is gone.
        pretrained: Whether the weights were trained; None where a bare model does not say.
        classes: Name of each output, where they are known.
        notes: What was assumed, or is unusual, in words.
        crop_mode: "center"; "squash" resizes without keeping the aspect, "border" pads.
        fixed_size: Whether any size but `input_size` is an error.
        weights: Where the weights come from, in words.
        grey_bits: How many bits of 16-bit grey pictures are used, 8 to 16; see `data.load_image`.
        extra: What `save` was asked to keep.
        identity: Names of the modules that hand on what they get, since `surgery.truncate` ended the network
            before them.
    """

    name: str
    source: str
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    num_classes: int
    pretrained: bool | None
    classes: list[str] | None = None
    notes: tuple[str, ...] = ()
    crop_mode: str = "center"
    fixed_size: bool = False
    weights: str = ""
    grey_bits: int = 16
    extra: dict[str, Any] = field(default_factory=dict)
    identity: tuple[str, ...] = ()

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width in pixels that a picture is resized to cover, of which the crop is the middle."""
        return sides_before_crop(self.input_size[1:], self.crop_pct)

    @property
    def resize_size(self) -> int:
        """The shorter of the two sides `resized`: what the short side becomes where images are square."""
        return min(self.resized)

    @property
    def assumed(self) -> str:
        """The note that says which part of the preprocessing nobody stated; "" where all is known."""
        return next((note for note in self.notes if note.startswith(ASSUMED)), "")

    @property
    def _resizing(self) -> str:
        height, width = self.resized
        if self.crop_mode != "center":
            return f"{'into' if self.crop_mode == 'border' else 'to'} {height} x {width}"
        return f"short side {height}" if height == width else f"to cover {height} x {width}"

    def summary(self) -> str:
        """Return the facts as text, one per line, the notes last."""
        channels, height, width = self.input_size
        trained = {True: "pretrained", False: "random weights", None: "weights of unknown origin"}[
            self.pretrained
        ]
        lines = [
            f"{self.name} ({self.source}, {trained})",
            f"  input     {channels} x {height} x {width}" + (" (no other size)" if self.fixed_size else ""),
            f"  resize    {self._resizing}, {self.interpolation}, {self.crop_mode} crop",
            f"  normalise mean {_short(self.mean)}, std {_short(self.std)}",
            f"  output    {self.num_classes} classes",
        ]
        if self.weights:
            lines.append(f"  weights   {self.weights}")
        return "\n".join(lines + [f"  note      {note}" for note in self.notes])


def changed(old: ModelInfo, changes: dict[str, Any]) -> ModelInfo:
    """Return the facts with some fields changed, checked as `describe` promises."""
    known = {item.name for item in fields(ModelInfo)}
    for name in changes:
        if name not in known:
            raise unknown("field of a model's description", name, known)
    if "input_size" in changes:
        changes["input_size"] = full_size(changes["input_size"], old.input_size[0])
        if old.fixed_size and changes["input_size"][1:] != old.input_size[1:]:
            raise wrong_size(old, changes["input_size"][1:])
    channels = changes.get("input_size", old.input_size)[0]
    for name in ("mean", "std"):
        if name in changes:
            changes[name] = per_channel(name, changes[name], channels)
        elif len(getattr(old, name)) != channels:
            changes[name] = spread(getattr(old, name), channels)
    if changes.get("classes") is not None:
        changes["classes"] = [str(name) for name in changes["classes"]]
        outputs = changes.get("num_classes", old.num_classes)
        if len(changes["classes"]) != outputs:
            raise LearnerError(
                f"{len(changes['classes'])} class names arrived for a model with {outputs} outputs. "
                "Give one name per output, or replace the head first."
            )
    elif changes.get("num_classes", old.num_classes) != old.num_classes:
        changes["classes"] = None
    if "notes" in changes:
        changes["notes"] = tuple(changes["notes"])
    elif {"mean", "std"} <= changes.keys():
        changes["notes"] = tuple(note for note in old.notes if note != old.assumed)
    if "input_size" in changes:
        kept = changes.get("notes", old.notes)
        changes["notes"] = tuple(note for note in kept if not note.startswith(GUESSED))
    new = replace(old, **changes)
    check_facts({name: getattr(new, name) for name in ("input_size", "num_classes", *changes)})
    return new


def from_json(values: Any) -> ModelInfo:
    """Return the facts that a file holds, as `check_facts` takes them."""
    if not isinstance(values, dict):
        raise LearnerError(f"info is {_shown(values)}; expected a JSON object: names with values.")
    missing = [item.name for item in fields(ModelInfo) if item.name not in values and item.default is MISSING
               and item.default_factory is MISSING]  # fmt: skip
    if missing:
        raise LearnerError(f"info has no {', '.join(missing)}.")
    known = {item.name: values[item.name] for item in fields(ModelInfo) if item.name in values}
    check_facts(known)
    known |= {name: tuple(known[name]) for name in TUPLES if name in known}
    return ModelInfo(**known)


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raise LearnerError for the first fact that cannot be true: one rule for `describe`, `save` and `load`.

    Args:
        facts: fields of `ModelInfo`, with those that others are counted by: `input_size` with `mean` and
            `std`, `num_classes` with `classes`.

    Example:
        >>> from tlutils import models
        >>> models.check_facts({"crop_mode": "squish"})
        Traceback (most recent call last):
        tlutils.errors.LearnerError: crop_mode is 'squish'; expected one of center, squash, border.
    """

    def several(value: Any) -> bool:
        return isinstance(value, list | tuple)

    def numbers(value: Any) -> bool:
        size = facts["input_size"]
        return (
            several(value)
            and several(size)
            and [len(value)] == list(size[:1])
            and all(map(_is_number, value))
        )

    def texts(value: Any) -> bool:
        return several(value) and all(isinstance(item, str) for item in value)

    wanted: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "name": ("a name", lambda v: isinstance(v, str) and bool(v.strip())),
        "source": (f"one of {', '.join(SOURCES)}", lambda v: v in SOURCES),
        "input_size": (
            f"channels, height and width, from 1 to {LARGEST}",
            lambda v: several(v) and len(v) == 3 and all(_is_count(n, 1, LARGEST) for n in v),
        ),
        "mean": ("one number for each channel", numbers),
        "std": ("one number above 0 for each channel", lambda v: numbers(v) and min(v) > 0),
        "interpolation": (f"one of {', '.join(INTERPOLATIONS)}", lambda v: v in INTERPOLATIONS),
        "crop_pct": ("a share, 0.01 to 1", lambda v: _is_number(v) and 0.01 <= v <= 1),
        "num_classes": (f"a number from 0 to {MOST}", lambda v: _is_count(v, 0, MOST)),
        "pretrained": ("true, false or null", lambda v: v is None or isinstance(v, bool)),
        "classes": (
            "a name for each output",
            lambda v: v is None or (texts(v) and len(v) == facts["num_classes"]),
        ),
        "notes": ("sentences", texts),
        "crop_mode": (f"one of {', '.join(CROPS)}", lambda v: v in CROPS),
        "fixed_size": ("true or false", lambda v: isinstance(v, bool)),
        "weights": ("words", lambda v: isinstance(v, str)),
        "grey_bits": ("a number from 8 to 16", lambda v: _is_count(v, 8, 16)),
        "extra": ("names with values", lambda v: isinstance(v, dict)),
        "identity": ("names of modules", texts),
    }
    for name, value in facts.items():
        expected, holds = wanted[name]
        if not holds(value):
            raise LearnerError(f"{name} is {_shown(value)}; expected {expected}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def wrong_size(facts: ModelInfo, size: Sequence[int]) -> LearnerError:
    """Return the error for a size that a fixed-size architecture cannot take."""
    _, height, width = facts.input_size
    return LearnerError(
        f"{facts.name} was made for images of {height}x{width} and got {size[0]}x{size[1]}; its position "
        "embedding fits one size only. Resize the images (data.transform_for(model) does), or set the size "
        f"when the model is made: models.load({facts.name!r}, input_size={size[0]})."
    )


def full_size(size: Any, channels: int) -> tuple[int, int, int]:
    """Return (C, H, W) from 224, (224, 224) or (3, 224, 224)."""
    values = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if len(values) == 2:
        values = (channels, *values)
    if len(values) != 3 or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values):
        raise LearnerError(
            "input_size must be one side in pixels (224), height and width (224, 224) or (3, 224, 224); "
            f"got {size!r}."
        )
    return values


def per_channel(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """Return one float per channel from a number or a sequence of the right length."""
    if isinstance(value, int | float):
        return (float(value),) * channels
    try:
        values = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        raise LearnerError(f"{name} is {_shown(value)}; give one number, or one per channel.") from None
    if len(values) != channels:
        raise LearnerError(
            f"{name} has {len(values)} values for {channels} channels; give one per channel, or one number."
        )
    return values


def spread(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return per-channel statistics for another number of channels: their average, except when nothing
    changes.
    """
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def _short(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"
