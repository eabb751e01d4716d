"""How to train, written down: which stages, for how long, at which rates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, isfinite, pi
from typing import Any, Literal

from ..errors import LearnerError

WHOLE = None
"""As a phase's `from_stage`: nothing is frozen, the whole network trains."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training with one cut: `from_stage` and all after it train, what is before is frozen.

    `from_stage` is a stage's name, "head" for the head alone, or None for the whole network. `lr` is the rate
    of the pretrained stage nearest to the head, `head_lr` that of the new head. Rates warm up and fall in
    each phase anew.
    """

    from_stage: str | None
    epochs: int
    lr: float
    head_lr: float

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "from_stage", getattr(self.from_stage, "name", self.from_stage)
        )  # a Stage will do, too
        if self.epochs < 1:
            raise LearnerError(f"A phase of {self.epochs} epochs trains nothing. Expected 1 or more.")
        for name, rate in (("lr", self.lr), ("head_lr", self.head_lr)):
            if not (isfinite(rate) and rate >= 0):
                raise LearnerError(f"{name} is {rate}. Expected a number from 0 up, for example 1e-4.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what training does, so that the same recipe gives the same weights.

    The constructors `probe`, `partial`, `finetune`, `scratch`, `lp_ft` and `gradual` fill in what the lecture
    and the field use; every other field can be given to them too, or changed with `dataclasses.replace`.

    batch_size: images in one optimizer step, over all processes. accumulate: forward passes a step is cut
    into.
    layer_decay: each stage learns at this share of the rate of the stage after it (1: all alike).
    warmup: share of a phase's steps in which rates rise from near 0; then they fall along a half cosine.
    label_smoothing: from 0 to 1 (Szegedy et al. 2016). mixup: Beta parameter of Zhang et al. 2018; 0 is off.
    class_weights: "balanced" weighs a class by the inverse of its share in the training images.
    patience: epochs without a better score on val after which a phase ends; None never ends early.
    keep: the weights left at the end, of the epoch that was "best" on val or the "last".
    train_bn: whether BatchNorm of the stages that train learns and updates its statistics; False holds both.
    augment: random crops and mirror images, drawn again for each image and epoch.
    views: the frozen prefix runs on this many views of each image, once, and its outputs are kept; with
    `augment` each view is another random one, and epoch e uses view e modulo `views`. 0 runs the prefix in
    every step.
    reset: forget the weights before training. precision: "float32", or "bf16" or "fp16" on a GPU.
    """

    name: str
    phases: tuple[Phase, ...]
    batch_size: int = 32
    accumulate: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    class_weights: Literal["balanced"] | None = None
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    train_bn: bool = True
    augment: bool = False
    views: int = 1
    reset: bool = False
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        _expect("phases", self.phases, len(self.phases) >= 1, "at least one Phase")
        _expect("batch_size", self.batch_size, self.batch_size >= 2, "2 images or more")
        _expect("accumulate", self.accumulate, 1 <= self.accumulate <= self.batch_size, "1 to batch_size")
        _expect("optimizer", self.optimizer, self.optimizer in ("adamw", "sgd"), "'adamw' or 'sgd'")
        _expect("schedule", self.schedule, self.schedule in ("cosine", "constant"), "'cosine' or 'constant'")
        _expect("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        _expect("layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "above 0, up to 1")
        _expect("warmup", self.warmup, 0 <= self.warmup < 1, "from 0 to below 1, a share of the steps")
        _expect("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1")
        _expect("mixup", self.mixup, self.mixup >= 0, "0 (off) or more, for example 0.2")
        _expect(
            "class_weights",
            self.class_weights,
            self.class_weights in (None, "balanced"),
            "None or 'balanced'",
        )
        _expect("patience", self.patience, self.patience is None or self.patience >= 1, "None, or 1 or more")
        _expect("keep", self.keep, self.keep in ("best", "last"), "'best' or 'last'")
        _expect("views", self.views, self.views >= 0, "0 (nothing kept) or more")
        known = ("float32", "bf16", "fp16")
        _expect("precision", self.precision, self.precision in known, f"one of {', '.join(known)}")

    @classmethod
    def probe(cls, *, epochs: int = 20, head_lr: float = 3e-3, **settings: Any) -> "Recipe":
        """A new head on a frozen network, trained by gradient steps: the "fixed feature extractor"."""
        return cls(
            name="probe",
            phases=(Phase(from_stage="head", epochs=epochs, lr=0.0, head_lr=head_lr),),
            **settings,
        )

    @classmethod
    def partial(
        cls, from_stage: str, *, epochs: int = 10, lr: float = 3e-4, head_lr: float = 3e-3, **settings: Any
    ) -> "Recipe":
        """Stages before `from_stage` frozen, their outputs kept; the rest trains."""
        return cls(
            name="partial",
            phases=(Phase(from_stage=from_stage, epochs=epochs, lr=lr, head_lr=head_lr),),
            **settings,
        )

    @classmethod
    def finetune(
        cls, *, epochs: int = 10, lr: float = 3e-4, head_lr: float = 3e-3, **settings: Any
    ) -> "Recipe":
        """Everything trains: a small rate for pretrained weights, a larger one for the new head."""
        return cls(
            name="finetune",
            phases=(Phase(from_stage=WHOLE, epochs=epochs, lr=lr, head_lr=head_lr),),
            **settings,
        )

    @classmethod
    def scratch(cls, *, epochs: int = 30, lr: float = 1e-3, **settings: Any) -> "Recipe":
        """The control: weights forgotten, everything trains at one rate."""
        phase = Phase(from_stage=WHOLE, epochs=epochs, lr=lr, head_lr=lr)
        return cls(name="scratch", phases=(phase,), reset=True, **settings)

    @classmethod
    def lp_ft(
        cls,
        *,
        head_epochs: int = 10,
        epochs: int = 10,
        lr: float = 3e-4,
        head_lr: float = 3e-3,
        **settings: Any,
    ) -> "Recipe":
        """The head first, then everything at the small rate: Kumar et al. 2022, arXiv 2202.10054."""
        first = Phase(from_stage="head", epochs=head_epochs, lr=0.0, head_lr=head_lr)
        return cls(
            name="lp_ft",
            phases=(first, Phase(from_stage=WHOLE, epochs=epochs, lr=lr, head_lr=lr)),
            **settings,
        )

    @classmethod
    def gradual(
        cls,
        from_stages: Sequence[str | None],
        *,
        epochs: int = 2,
        lr: float = 3e-4,
        head_lr: float = 3e-3,
        **settings: Any,
    ) -> "Recipe":
        """Unfreeze stage by stage: one phase of `epochs` for each of `from_stages`, from the head down.

        For example `gradual(["head", "stage6", "stage4", None])`. Howard and Ruder 2018, arXiv 1801.06146.
        """
        phases = tuple(Phase(from_stage=s, epochs=epochs, lr=lr, head_lr=head_lr) for s in from_stages)
        return cls(name="gradual", phases=phases, **settings)

    @property
    def epochs(self) -> int:
        """Epochs of all phases together, when none ends early."""
        return sum(phase.epochs for phase in self.phases)

    def lr_factor(self, step: int, steps: int) -> float:
        """Return the share of the full rate, from 0 to 1, in `step` (from 0) of a phase of `steps`.

        A function of the step alone: it has no state to save, and every group keeps its ratio to the others.
        """
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return 1.0
        return (1 + cos(pi * (step - warm) / (steps - warm))) / 2


def _expect(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise LearnerError(f"The recipe has {name}={value!r}. Expected {expected}.")
