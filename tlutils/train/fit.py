"""The training loop, to be read from top to bottom: phases, epochs, steps, validation, and the record of it.

`fit` is the whole story, and `PhaseTrainer` is one phase of it. What a first reading can do without is behind
calls into the files next door: `data` plans which image goes into which step, `distributed` knows about
devices, precision, memory and processes, `evaluate` judges, `checkpoint` survives a kill.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .. import data, features, fingerprint, runtime, surgery
from ..errors import LearnerError
from ..inference import auxiliary_logits, device_of, dtype_of, in_float32, logits_of
from ..models import layers
from .checkpoint import Epoch, OptimizerState, Run, alone_in, identify, load, restore_optimizer_state
from .data import (
    TrainingBatch,
    compute_class_weights,
    load_batches,
    plan_epoch,
    prepare_inputs,
)
from .distributed import Hardware, channels_last, repeatable_kernels
from .evaluate import check_trainable, compute_val_metrics, measure_bfloat16, predict_logits
from .history import History
from .recipe import Phase, Recipe

AUXILIARY_WEIGHT = 0.4  # of auxiliary heads' losses: Szegedy et al. 2015, as in torchvision's references
WITH_STATISTICS = 2  # images that a pass needs for BatchNorm: one alone has no statistics


class Diverged(Exception):
    """The loss is not a finite number any more; the text says at which learning rates."""


def fit(
    model: nn.Module,
    dataset: data.TrainingData,
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    num_workers: int = 0,
    on_epoch: Callable[[History], object] | None = None,
) -> History:
    """Train `model` in place as `recipe` says, and return the history of what happened.

    At the end the model is in eval mode, frozen as in the last phase, and holds the weights of the epoch that
    is the best on the validation images (or of the last, as the recipe says). Same seed, same machine: same
    result, bit for bit. The model then reads files as `dataset.train` does (`data.read_files_as`).

    When the training loss is not a finite number any more, training stops, and the history's `stopped` says
    at which learning rates. Ctrl-C stops it too, as KeyboardInterrupt. Both leave the last good weights in
    the model. Weights of 16 bits train in 32, and are rounded back at the end.

    Args:
        model: The network; its head has one output per class.
        dataset: Images to train on (`train`), validation images (`val`, may be empty), and `classes`, as
            `data.load` returns them. A `test` split is never touched.
        recipe: What trains, for how long, at which learning rates.
        out: A folder for this one run. After each epoch it holds a checkpoint, and at the end `history.csv`
            and `model.safetensors`, which `models.load` brings back. One `fit` at a time may use it.
        resume: Whether to go on from the checkpoint in `out`: the same call again ends with the same weights
            as one that was never killed. It needs the same start: weights (or those that the run has left in
            the model), what you had frozen, the model's settings and code, input size, preprocessing, data,
            recipe. Not compared: hooks, and the code of installed libraries. False begins again.
        num_workers: Processes that decode images; the result does not depend on how many.
        on_epoch: Called with the history after each epoch; it may look at anything.

    Raises:
        LearnerError: When the model does not fit the data, when nothing trains, when `out` holds another run
            or is in use, or when memory does not even suffice for the smallest step.

    Example:
        >>> from dataclasses import replace
        >>> from tlutils import data, models, train
        >>> digits = data.load("digits")
        >>> few = replace(digits, train=digits.train.subsample(3), val=digits.val.subsample(1))
        >>> model = models.load("test_resnet", pretrained=False, num_classes=10, input_size=32)
        >>> history = train.fit(model, few, train.Recipe.probe(epochs=2))
        >>> history.table["epoch"].tolist()
        [1, 2]
    """
    folder = runtime.user_path(out) if out is not None else None
    surgery.require_editable(model)
    # Part of the run's key, read before anything ran: some layers note what they saw.
    settings = fingerprint.of_settings(model).parts
    check_trainable(model, dataset, recipe)
    data.read_files_as(model, dataset.train)
    hardware = Hardware(recipe.precision, micro_batches=recipe.micro_batches)
    with alone_in(folder, hardware):
        key = identify(model, dataset, recipe, settings)
        found = load(folder, key, model) if folder is not None and resume else None
        note_doubts(model, dataset, recipe, hardware)
        with runtime.seeded(recipe.seed), repeatable_kernels(), in_float32(model), channels_last(model):
            # The model gets its start: random weights with `reset`, or those that a killed run had reached.
            run = Run(model, recipe, hardware, folder, key, found)
            if hardware.precision == "bf16" and hardware.device.type == "cpu" and found is None:
                hardware.refuse_drift(measure_bfloat16(model, dataset, hardware.device))
            try:
                for phase in run.phases():
                    with surgery.assume_unchanged():  # freezing moves no layer: its stages are found once
                        trainer = PhaseTrainer(
                            model,
                            dataset,
                            recipe,
                            phase,
                            hardware,
                            run.optimizer_state,
                            num_workers=num_workers,
                        )
                    for epoch in run.epochs(phase):
                        with hardware.measured() as cost:
                            row = trainer.train_epoch(epoch) | trainer.validate()
                        run.record(row | cost, trainer.optimizer)  # counts the epoch, for run.epochs
                        if on_epoch:
                            on_epoch(run.history)
            except Diverged as problem:
                run.stop(str(problem))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(run.describe_interruption()) from None
            finally:
                run.load_kept_weights()
        return run.finish()


class PhaseTrainer:
    """One phase: `module` trains, `optimizer` moves it, `train` and `val` feed it.

    `model` is the whole network, `module` what runs in a step: the model, or its suffix where the outputs of
    the frozen stages are cached; `wrapped` is the same, ready for this hardware. They share their weights.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: data.TrainingData,
        recipe: Recipe,
        phase: Phase,
        hardware: Hardware,
        optimizer_state: OptimizerState,
        *,
        num_workers: int,
    ) -> None:
        self.model, self.recipe, self.phase, self.hardware = model, recipe, phase, hardware
        self.num_classes, self.num_workers = len(dataset.classes), num_workers
        # Freeze.
        by_name = surgery.frozen_to(model) is None  # and not by stage, as a phase does
        before = [name for name, p in model.named_parameters() if by_name and not p.requires_grad]
        surgery.freeze_to(model, phase.from_stage)
        if kept := surgery.prefrozen_parameters(model):
            hardware.note(
                f"{len(kept)} tensors were frozen before, and stay so (first {kept[0]}): "
                "surgery.unfreeze(model, '*') lets them train."
            )
        if recipe.freeze_batchnorm:
            surgery.freeze_batchnorm(model)
        parameters = dict(model.named_parameters())
        if undone := [name for name in before if parameters[name].requires_grad]:
            hardware.note(
                f"{len(undone)} tensors that were frozen (first {undone[0]}) train: the recipe says what "
                "does. To keep some out of it, freeze them alone, by parameter.requires_grad_(False)."
            )
        # The optimizer, with the stages' own learning rates.
        model.to(hardware.device)
        optimizer = build_optimizer(model, recipe, phase)
        restore_optimizer_state(optimizer, model, optimizer_state)
        # What feeds it: images, or what the frozen stages make of them, computed here once.
        try:
            inputs = prepare_inputs(model, dataset, recipe)
        except features.NoRoom as error:
            if recipe.views is not None or hardware.world_size > 1:  # asked for; the others have room
                raise
            hardware.note(f"The frozen stages run in every step, as with views=0, for want of room: {error}")
            inputs = prepare_inputs(model, dataset, replace(recipe, views=0))
        self.module, self.train, self.val = inputs
        self.wrapped, self.optimizer = hardware.prepare(self.module, optimizer)
        self.set_train_mode()
        self.trains_batchnorm = any(m.training for m in self.module.modules() if layers.is_batchnorm(m))
        self.note_division()
        self.class_weights = compute_class_weights(self.train.labels, self.num_classes, recipe)

    def note_division(self) -> None:
        """Say where results depend on how a step is divided into passes and processes."""
        recipe, hardware = self.recipe, self.hardware
        passes = hardware.count_passes(recipe.batch_size, self.smallest)
        if passes * hardware.world_size == 1:
            return
        if passes > 1 and self.trains_batchnorm:
            hardware.note(
                f"A step adds up {passes} passes. BatchNorm sees the images of one pass together, about "
                f"{recipe.batch_size // passes} of {recipe.batch_size}, so results differ from those of a "
                "single pass; freeze_batchnorm=True avoids that."
            )
        else:
            few = plan_epoch(len(self.train.labels), recipe, 0)[0][: 4 * hardware.world_size]
            (batch,) = load_batches(self.train, [few])
            if hardware.alters(self.module, batch):
                hardware.note(
                    f"A step has {passes * hardware.world_size} passes, over all processes. In training this "
                    "model draws random numbers, or mixes or counts the images of a pass, so results differ "
                    "from those of a single pass."
                )
        if recipe.optimizer == "adamw" and self.phase.from_stage != "head":
            hardware.note(
                "Some gradients are zero but for rounding, such as those of a bias in front of a "
                "normalisation or of an attention's keys, which have no effect. AdamW makes whole steps of "
                "them, so such weights differ with the number of passes and processes."
            )

    def train_epoch(self, epoch: Epoch) -> dict[str, float]:
        """Take one optimizer step per batch; return train_…, lr_…, trainable_params and images_per_second."""
        recipe, hardware, labels = self.recipe, self.hardware, self.train.labels
        plan = plan_epoch(
            len(labels), recipe, epoch.number, smallest=max(WITH_STATISTICS, hardware.world_size)
        )
        share = [draws[hardware.rank :: hardware.world_size] for draws in plan]  # of this process
        batches = load_batches(self.train, share, num_workers=self.num_workers)
        batches = runtime.progress(batches, desc=f"epoch {epoch.number + 1}", total=len(plan))
        first, steps_of_phase = epoch.in_phase * len(plan), self.phase.epochs * len(plan)
        factors = [recipe.lr_factor(first + step, steps_of_phase) for step in range(len(plan))]
        totals, start = torch.zeros(3, dtype=torch.float64), time.perf_counter()
        self.set_train_mode()
        for step, (draws, batch) in enumerate(zip(plan, batches, strict=True)):
            self.set_learning_rates(factors[step])
            weight_sum = self.class_weights[labels[[draw.image for draw in draws]]].sum().item()
            # Dropout and the like draw from (seed, epoch, step, process): nothing that came before matters.
            seed = runtime.derive_seed(recipe.seed, epoch.number, step, hardware.rank)
            loss, correct = self.compute_gradients(batch, images=len(draws), weight_sum=weight_sum, seed=seed)
            if not isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} in epoch {epoch.number + 1}, step {step + 1}, at learning rates "
                    f"{describe_rates(self.learning_rates(factors[step]))}"
                )
            if recipe.clip_norm is not None:
                hardware.clip_gradients(self.trainable, recipe.clip_norm)
            self.optimizer.step()
            totals += torch.tensor([loss * weight_sum, correct, weight_sum], dtype=torch.float64)
        loss_sum, correct_sum, all_weights = totals.tolist()
        return {
            "train_loss": loss_sum / all_weights,
            "train_accuracy": correct_sum / len(labels),
            "images_per_second": len(labels) / (time.perf_counter() - start),
            **{f"lr_{stage}": rate for stage, rate in self.learning_rates(max(factors)).items()},
            "trainable_params": sum(parameter.numel() for parameter in self.trainable),
        }

    def compute_gradients(
        self, batch: TrainingBatch, *, images: int, weight_sum: float, seed: int
    ) -> tuple[float, float]:
        """Leave the gradients of one batch in the model; return its mean loss and number of right answers.

        The gradients of micro-batches add up to those of the batch. `images` and `weight_sum`, the number of
        images and the sum of their classes' weights, are those of all processes together.
        """
        hardware = self.hardware

        def attempt(micro_batches: int) -> torch.Tensor:
            # May run again, with more micro-batches, when memory ran out.
            runtime.seed_torch(seed)
            self.optimizer.zero_grad(set_to_none=True)
            sums = torch.zeros(2, device=hardware.device)
            for number, micro_batch in enumerate(batch.split(micro_batches), start=1):
                micro_batch = micro_batch.to(hardware.device)
                with hardware.joined(self.wrapped, exchange=number == micro_batches):
                    output = self.wrapped(*micro_batch.inputs)
                    loss = self.compute_loss(output, micro_batch) / weight_sum
                    hardware.backward(loss)
                correct = (logits_of(output).argmax(1) == micro_batch.labels).sum()
                sums += torch.stack([loss.detach(), correct])
            return hardware.sum_over_processes(sums)

        sums = hardware.within_memory(attempt, self.module, images=images, smallest=self.smallest)
        loss, correct = sums.tolist()
        return loss, correct

    def compute_loss(self, output: Any, batch: TrainingBatch) -> torch.Tensor:
        """Return the cross-entropy, summed over the images of a batch, each weighted by its class.

        A mixed image counts for both its labels, by their shares; auxiliary heads count less than the head.
        """
        smoothing = self.recipe.label_smoothing

        def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            weights = self.class_weights.to(logits)
            return cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="none")

        def loss_of(logits: torch.Tensor) -> torch.Tensor:
            each = losses(logits, batch.labels)
            if self.recipe.mixup:
                each = batch.lam * each + (1 - batch.lam) * losses(logits, batch.partner_labels)
            return each.sum()

        main, auxiliary = logits_of(output), auxiliary_logits(output)
        return loss_of(main) + AUXILIARY_WEIGHT * sum(map(loss_of, auxiliary))

    def validate(self) -> dict[str, float]:
        """Return val_loss, val_accuracy and val_balanced_accuracy; nothing where there are no val images."""
        if not len(self.val):
            return {}
        hardware = self.hardware
        logits = predict_logits(
            self.wrapped,
            self.val,
            hardware.device,
            classes=self.num_classes,
            batch_size=max(1, self.recipe.batch_size // hardware.micro_batches),
            num_workers=self.num_workers,
            share=slice(hardware.rank, None, hardware.world_size),
        )
        # Each row comes from one process and is 0 in all others: the sum is exact.
        logits = hardware.sum_over_processes(logits.to(hardware.device)).cpu()
        if not logits.isfinite().all():
            first = int((~logits.isfinite()).any(1).nonzero()[0])
            hardware.note(
                "In some epochs the scores on the validation images are not all finite numbers (see val_loss "
                f"in the table), first those of image {first}. The weights of such an epoch are not kept."
            )
        return compute_val_metrics(logits, self.val.labels)

    @property
    def smallest(self) -> int:
        """How many images a pass needs."""
        return WITH_STATISTICS if self.trains_batchnorm else 1

    @property
    def trainable(self) -> list[nn.Parameter]:
        """The parameters that the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def learning_rates(self, factor: float) -> dict[str, float]:
        """Return the learning rate of each stage that trains, at this factor of the full rates."""
        return {group["stage"]: group["full_lr"] * factor for group in self.optimizer.param_groups}

    def set_learning_rates(self, factor: float) -> None:
        """Set each group's learning rate to this factor of its full rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor

    def set_train_mode(self) -> None:
        """Put what trains in train mode; frozen stages and frozen BatchNorm stay in eval mode.

        Raises LearnerError when somebody froze or unfroze parameters since the phase began.
        """
        moved = {id(p) for p in self.trainable}
        changed = [n for n, p in self.model.named_parameters() if p.requires_grad != (id(p) in moved)]
        if changed:
            raise LearnerError(
                f"{len(changed)} parameters, first {changed[0]}, were frozen or unfrozen within a phase, and "
                "the optimizer was not told. Recipe.gradual([...]) unfreezes in phases."
            )
        self.wrapped.train()


def note_doubts(model: nn.Module, dataset: data.TrainingData, recipe: Recipe, hardware: Hardware) -> None:
    """Say what a reader of the result should know beforehand."""
    present = set(dataset.val.labels)
    absent = [repr(name) for k, name in enumerate(dataset.classes) if k not in present]
    if not present and recipe.patience is not None:
        hardware.note(
            "There are no validation images, so no epoch is the best one and `patience` has no effect."
        )
    elif present and absent:
        hardware.note(f"No validation image is of class {', '.join(absent)}: the scores say nothing of it.")
    if dtype_of(model) in (torch.float16, torch.bfloat16):
        name = str(dtype_of(model)).removeprefix("torch.")
        hardware.note(f"The weights are {name}. They train in float32, and are rounded back at the end.")


def build_optimizer(model: nn.Module, recipe: Recipe, phase: Phase) -> torch.optim.Optimizer:
    """Return an optimizer with one group per stage (two where norms and biases are spared weight decay).

    A group's `full_lr` is its learning rate before warmup and schedule: `head_lr` for the head, `lr` for the
    stage before it, and for each earlier stage `layer_decay` times the rate of the next.
    """
    groups = surgery.param_groups(
        model, 1.0, layer_decay=recipe.layer_decay, weight_decay=recipe.weight_decay
    )
    for group in groups:
        # The head has ratio 1 and the stage before it layer_decay; divided, that stage gets lr.
        pretrained = phase.lr * group["ratio"] / recipe.layer_decay
        group["full_lr"] = phase.head_lr if group["stage"] == "head" else pretrained
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=0.9)
    on_cpu = device_of(model).type == "cpu"
    return torch.optim.AdamW(groups, lr=phase.lr, fused=on_cpu or None)  # fused: four times as fast


def describe_rates(rates: dict[str, float]) -> str:
    """Return learning rates as text, each value once: "0.0001 (stem to stage6), 0.001 (head)"."""
    stages: dict[str, list[str]] = {}
    for stage, rate in rates.items():
        stages.setdefault(f"{rate:.2g}", []).append(stage)
    return ", ".join(f"{rate} ({' to '.join(dict.fromkeys((s[0], s[-1])))})" for rate, s in stages.items())
