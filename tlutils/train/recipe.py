"""How to train, written down: which stages, for how long, at which rates."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import cos, isfinite, pi
from numbers import Real
from types import NoneType
from typing import Any, Literal, get_args

import numpy as np

from ..errors import LearnerError

KINDS: dict[Any, str] = {bool: "True or False", float: "a number", int: "a whole number"}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training: stages before `from_stage` are frozen, that stage and all after it train.

    Learning rates warm up and fall in each phase again.

    Attributes:
        from_stage: Name of the first stage that trains (a `Stage` will do); "head" for the head alone, "all"
            for the whole network.
        epochs: Passes over the training images, 1 or more.
        lr: Full learning rate of the pretrained stage nearest to the head, 0 or more.
        head_lr: Full learning rate of the head, 0 or more.

    Raises:
        LearnerError: For a stage without a name, fewer than one epoch or a part of one, and rates that are
            no numbers, negative or not finite.
    """

    from_stage: str
    epochs: int
    lr: float
    head_lr: float

    def __post_init__(self) -> None:
        name = getattr(self.from_stage, "name", self.from_stage)
        object.__setattr__(self, "from_stage", name)  # a Stage is turned into its name
        if not isinstance(name, str):
            raise LearnerError(
                f'from_stage is {name!r}. Expected the name of a stage, "head", or "all" for the whole '
                "network."
            )
        _plain_values(self)
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

    Attributes:
        name: What results call this recipe.
        phases: The phases, one after another, at least one.
        batch_size: Images in one optimizer step, over all processes, 2 or more.
        micro_batches: Forward passes that a step is split into, to save memory (gradient accumulation); 1 to
            `batch_size`. The step stays the same but for BatchNorm, which sees the images of one pass
            together, and for random layers such as dropout.
        optimizer: "adamw", or "sgd" with momentum 0.9.
        weight_decay: Weight decay, 0 or more; norms, biases and position embeddings are spared.
        layer_decay: Learning rate of a stage divided by that of the stage after it, above 0, up to 1,
            which makes all alike (Howard and Ruder 2018, arXiv:1801.06146).
        warmup_ratio: Share of a phase's steps, 0 to below 1, in which learning rates rise from near 0 (Goyal
            et al. 2017, arXiv:1706.02677).
        schedule: After the warmup, "cosine" falls along half a cosine to near 0 (Loshchilov and Hutter 2017,
            arXiv:1608.03983); "constant" stays.
        clip_norm: Largest norm of the gradient of all parameters together; a larger one is scaled down.
            None clips nothing.
            None never clips.
        label_smoothing: Share of the label, 0 to below 1, spread over all classes (Szegedy et al. 2016,
            arXiv:1512.00567).
        mixup: Parameter of the Beta distribution that shares are drawn from (Zhang et al. 2018,
            arXiv:1710.09412); 0 is off, 0.2 usual.
        class_weight: "balanced" weighs each class by the inverse of its share in the training images; None
            weighs all images alike. `probe.fit_probe` has "balanced" unless told otherwise.
        patience: Epochs without a better score on the validation images after which a phase ends, 1 or more;
            None never ends early. The score is the balanced accuracy; among equals, the lower loss.
        keep: Which weights the model ends with: those of the "best" epoch on the validation images, or of the
            "last". An epoch whose loss on them is not a finite number is neither.
        freeze_batchnorm: Whether all BatchNorm layers are frozen, weights and statistics, those of stages
            that train among them (`surgery.freeze_batchnorm`). Lightning's and fastai's `train_bn` is another
            thing: norms of *frozen* layers, which train by `surgery.freeze_to(..., train_frozen_norms=True)`.
        augment: Whether training images are cropped and mirrored at random, differently in each epoch;
            "shift" only shifts them, by up to 8 % of their side: for classes that mirroring would change,
            such as digits.
        views: How many views of each image the frozen stages see, once, before training; their outputs are
            cached. With `augment` each view is another random one, and epoch e uses view e modulo `views`. 0
            caches nothing and runs the frozen stages in every step. None is 1; with `augment`, where frozen
            norms train or frozen dropout stays on, and where the disk has no room for them, 0.
        reset: Whether all weights are initialised at random before training; "head" only those of the head.
        precision: "float32"; or "bf16" or "fp16", mixed precision on a GPU (Micikevicius et al. 2018,
            arXiv:1710.03740). A processor with units for bf16 (`runtime.bfloat16_units`) uses them, unless
            they move the features of some training images by more than `inference.DRIFT`. Then, and on all
            other devices, training is in float32, and a notice says so.
        seed: What all random numbers are drawn from, 0 or more.

    Raises:
        LearnerError: For values out of range or of another type, naming the field.
    """

    name: str
    phases: tuple[Phase, ...]
    batch_size: int = 32
    micro_batches: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    warmup_ratio: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    class_weight: Literal["balanced"] | None = None
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    freeze_batchnorm: bool = False
    augment: bool | Literal["shift"] = False
    views: int | None = None
    reset: bool | Literal["head"] = False
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        _plain_values(self)
        _expect("phases", self.phases, len(self.phases) >= 1, "at least one Phase")
        _expect("batch_size", self.batch_size, self.batch_size >= 2, "2 images or more")
        _expect(
            "micro_batches", self.micro_batches, 1 <= self.micro_batches <= self.batch_size, "1 to batch_size"
        )
        _expect("optimizer", self.optimizer, self.optimizer in ("adamw", "sgd"), "'adamw' or 'sgd'")
        _expect("schedule", self.schedule, self.schedule in ("cosine", "constant"), "'cosine' or 'constant'")
        _expect("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        _expect("layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "above 0, up to 1")
        _expect(
            "warmup_ratio",
            self.warmup_ratio,
            0 <= self.warmup_ratio < 1,
            "from 0 to below 1, a share of the steps",
        )
        _expect("clip_norm", self.clip_norm, self.clip_norm is None or self.clip_norm > 0, "None, or above 0")
        _expect("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1")
        _expect("mixup", self.mixup, self.mixup >= 0, "0 (off) or more, for example 0.2")
        _expect(
            "class_weight",
            self.class_weight,
            self.class_weight in (None, "balanced"),
            "None or 'balanced'",
        )
        _expect("patience", self.patience, self.patience is None or self.patience >= 1, "None, or 1 or more")
        _expect("keep", self.keep, self.keep in ("best", "last"), "'best' or 'last'")
        _expect(
            "views", self.views, self.views is None or self.views >= 0, "None, or 0 (nothing kept) or more"
        )
        known = ("float32", "bf16", "fp16")
        _expect("precision", self.precision, self.precision in known, f"one of {', '.join(known)}")
        _expect("seed", self.seed, self.seed >= 0, "0 or more")

    @classmethod
    def probe(cls, *, epochs: int = 20, head_lr: float = 3e-3, **settings: Any) -> "Recipe":
        """Return the recipe that trains the head alone: the network as a fixed feature extractor.

        Args:
            epochs: Passes over the training images.
            head_lr: Full learning rate of the head.
            **settings: Other fields of the recipe.
        """
        head = Phase(from_stage="head", epochs=epochs, lr=0.0, head_lr=head_lr)
        return cls(name="probe", phases=(head,), **settings)

    @classmethod
    def partial(
        cls, from_stage: str, *, epochs: int = 10, lr: float = 3e-4, head_lr: float = 3e-3, **settings: Any
    ) -> "Recipe":
        """Return the recipe that freezes the early stages and trains the others.

        Args:
            from_stage: Name of the first stage that trains.
            epochs: Passes over the training images.
            lr: Full learning rate of the pretrained stage nearest to the head.
            head_lr: Full learning rate of the head.
            **settings: Other fields of the recipe.
        """
        phase = Phase(from_stage=from_stage, epochs=epochs, lr=lr, head_lr=head_lr)
        return cls(name="partial", phases=(phase,), **settings)

    @classmethod
    def finetune(
        cls, *, epochs: int = 10, lr: float = 3e-4, head_lr: float = 3e-3, **settings: Any
    ) -> "Recipe":
        """Return the recipe that trains everything: pretrained weights gently, the new head faster.

        Args:
            epochs: Passes over the training images.
            lr: Full learning rate of the pretrained stage nearest to the head.
            head_lr: Full learning rate of the head.
            **settings: Other fields of the recipe.
        """
        phase = Phase(from_stage="all", epochs=epochs, lr=lr, head_lr=head_lr)
        return cls(name="finetune", phases=(phase,), **settings)

    @classmethod
    def scratch(cls, *, epochs: int = 30, lr: float = 1e-3, **settings: Any) -> "Recipe":
        """Return the control: weights initialised at random, and everything trains at one learning rate.

        Args:
            epochs: Passes over the training images.
            lr: Full learning rate of all stages.
            **settings: Other fields of the recipe.
        """
        phase = Phase(from_stage="all", epochs=epochs, lr=lr, head_lr=lr)
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
        """Return the recipe that trains the head first, and then everything, gently.

        Linear probing, then finetuning: Kumar et al. 2022, arXiv:2202.10054.

        Args:
            head_epochs: Passes over the training images in the first phase.
            epochs: Passes over the training images in the second phase.
            lr: Full learning rate of everything in the second phase.
            head_lr: Full learning rate of the head in the first phase.
            **settings: Other fields of the recipe.
        """
        head = Phase(from_stage="head", epochs=head_epochs, lr=0.0, head_lr=head_lr)
        whole = Phase(from_stage="all", epochs=epochs, lr=lr, head_lr=lr)
        return cls(name="lp_ft", phases=(head, whole), **settings)

    @classmethod
    def gradual(
        cls,
        from_stages: Sequence[str],
        *,
        epochs: int = 2,
        lr: float = 3e-4,
        head_lr: float = 3e-3,
        **settings: Any,
    ) -> "Recipe":
        """Return the recipe that unfreezes stage by stage, one phase for each of `from_stages`.

        For example `gradual(["head", "stage6", "stage4", "all"])`. Howard and Ruder 2018, arXiv:1801.06146.

        Args:
            from_stages: Names of the first stage that trains, one per phase, from the head down; "all" for
                the whole network.
            epochs: Passes over the training images in each phase.
            lr: Full learning rate of the pretrained stage nearest to the head.
            head_lr: Full learning rate of the head.
            **settings: Other fields of the recipe.
        """
        phases = tuple(Phase(from_stage=s, epochs=epochs, lr=lr, head_lr=head_lr) for s in from_stages)
        return cls(name="gradual", phases=phases, **settings)

    @property
    def epochs(self) -> int:
        """Epochs of all phases together, when none ends early."""
        return sum(phase.epochs for phase in self.phases)

    def lr_factor(self, step: int, steps: int) -> float:
        """Return what full learning rates are multiplied by in a step, from 0 to 1.

        A function of the step alone: it has no state to save, and every group keeps its ratio to the others.

        Args:
            step: Number of the step in its phase, from 0.
            steps: Steps of the phase.
        """
        warm = round(self.warmup_ratio * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return 1.0
        return (1 + cos(pi * (step - warm) / (steps - warm))) / 2


def _plain_values(written: Phase | Recipe) -> None:
    """Make a field's value one of its type, as Python has it: equal recipes are written and read alike.

    NumPy's values, and 1 where 1.0 or True belongs, are turned into it. Raises LearnerError for another.
    """
    for item in fields(written):
        value = getattr(written, item.name)
        value = value.item() if isinstance(value, np.generic) else value
        allowed = get_args(item.type) or (item.type,)
        if kind := next((kind for kind in KINDS if kind in allowed), None):
            if isinstance(value, Real) and isfinite(value) and kind(value) == value:
                value = kind(value)
            texts = [text for one in allowed for text in get_args(one)]
            others = [*texts, None] if NoneType in allowed else texts
            if not isinstance(value, kind) and not (isinstance(value, str | None) and value in others):
                expected = ", or ".join([KINDS[kind], *map(repr, others)])
                raise LearnerError(
                    f"The {type(written).__name__.lower()} has {item.name}={value!r}. Expected {expected}."
                )
        object.__setattr__(written, item.name, value)


def _expect(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise LearnerError(f"The recipe has {name}={value!r}. Expected {expected}.")
