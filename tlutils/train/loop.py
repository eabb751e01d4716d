"""The one loop that trains: partial, full, from scratch; on one device or many; killed and resumed."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .. import runtime
from ..inference import logits_of
from . import batches
from .history import History
from .looking import judge, logits_on
from .machine import Machine, out_of_memory, steady_kernels
from .part import Part, open_part
from .ready import check_ready, class_weights
from .recipes import Recipe
from .run import Run

AUXILIARY = 0.4  # weight of auxiliary heads' losses: Szegedy et al. 2015, as in torchvision's references


Objective = Callable[[Any, batches.Batch], torch.Tensor]


class Diverged(Exception):
    """The loss is no number any more; the text says at which rates."""


def fit(
    model: nn.Module,
    dataset: Any,
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    num_workers: int = 0,
    on_epoch: Callable[[History], object] | None = None,
) -> History:
    """Train `model` in place on `dataset.train` as `recipe` says, judge on `dataset.val`; return a `History`.

    At the end the model holds the weights of the best epoch on val (or the last, as the recipe says), in eval
    mode, frozen as in the last phase. `dataset.test` is never touched. Same seed, same machine: same result,
    bit for bit.

    `out` is a folder for this one run. After each epoch it holds a checkpoint, and at the end `history.csv`
    and `model.safetensors`, which `models.load` brings back. The same call again goes on where the last one
    was killed and ends with the same weights; `resume=False` begins anew. `num_workers` processes decode images;
    the result does not depend on how many. `on_epoch(history)` is called after each epoch and may look at
    anything.

    When the loss turns NaN, training stops, and the history's `stopped` says at which rates. Ctrl-C stops it
    too, as KeyboardInterrupt. Both leave the last good weights in the model. Raises LearnerError when the
    model does not fit the data, when nothing trains, or when memory does not even suffice for the smallest
    step.
    """
    check_ready(model, dataset, recipe)
    machine = Machine(recipe.precision, recipe.accumulate)
    run = Run(model, dataset, recipe, machine, Path(out) if out is not None else None, resume)
    with runtime.seeded(recipe.seed), steady_kernels():
        try:
            for phase in run.phases():
                part = open_part(model, dataset, recipe, phase, machine, run.moments)
                for epoch in run.epochs(phase):
                    run.start_clock()
                    trained = train_epoch(part, machine, run, epoch, num_workers)
                    judged = judge_val(part, machine, run, num_workers)
                    run.record(part, trained | judged)
                    if on_epoch:
                        on_epoch(run.history)
        except Diverged as problem:
            run.stop(str(problem))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(run.interrupted()) from None
        finally:
            run.leave_good_weights()
    return run.finish()


def train_epoch(part: Part, machine: Machine, run: Run, epoch: int, num_workers: int) -> dict[str, float]:
    """Take one optimizer step for each batch of the epoch; return the row's train_…, lr_… and speed."""
    recipe, labels = run.recipe, part.train.labels
    plan = batches.plan(len(part.train), recipe, epoch, least=max(2, machine.world))
    mine = [draws[machine.rank :: machine.world] for draws in plan]
    weights = class_weights(labels, run.classes, recipe)
    begun, steps = run.progress.in_phase * len(plan), part.phase.epochs * len(plan)
    shares = [recipe.rate(begun + number, steps) for number in range(len(plan))]
    sums, clock = torch.zeros(3, dtype=torch.float64), time.perf_counter()
    part.train_mode()
    fed = runtime.progress(
        batches.load(part.train, mine, num_workers=num_workers), desc=f"epoch {epoch + 1}", total=len(plan)
    )
    for number, (draws, batch) in enumerate(zip(plan, fed, strict=True)):
        part.set_rates(shares[number])
        total = weights[labels[[draw.image for draw in draws]]].sum().item()
        # Dropout and the like draw from (seed, epoch, step, process): nothing that came before matters.
        seed = batches.derive(recipe.seed, epoch, number, machine.rank)
        objective = partial(loss_of, recipe=recipe, weights=weights.to(machine.device), total=total)
        loss, right = gradients(part, machine, batch, objective, len(draws), seed).tolist()
        if not isfinite(loss):
            where = f"epoch {epoch + 1}, step {number + 1}"
            raise Diverged(
                f"the loss became {loss} in {where}, at learning rates {words(part.rates(shares[number]))}"
            )
        if recipe.clip_norm is not None:
            machine.accelerator.clip_grad_norm_(part.trainable, recipe.clip_norm)
        part.optimizer.step()
        sums += torch.tensor([loss * total, right, total], dtype=torch.float64)
        run.watch_memory()
    loss, right, total = sums.tolist()
    return {
        "train_loss": loss / total,
        "train_accuracy": right / len(labels),
        "images_per_second": len(labels) / (time.perf_counter() - clock),
        **{f"lr_{stage}": rate for stage, rate in part.rates(max(shares)).items()},
    }


def words(rates: dict[str, float]) -> str:
    """Return learning rates as text, each value once: "0.0001 (stem to stage6), 0.001 (head)"."""
    stages: dict[str, list[str]] = {}
    for stage, rate in rates.items():
        stages.setdefault(f"{rate:.2g}", []).append(stage)
    return ", ".join(f"{rate} ({' to '.join(dict.fromkeys((s[0], s[-1])))})" for rate, s in stages.items())


def gradients(
    part: Part, machine: Machine, batch: batches.Batch, objective: Objective, count: int, seed: int
) -> torch.Tensor:
    """Leave the gradients of one global batch of `count` images; return (mean loss, right answers), (2,).

    When memory runs out, nothing of the attempt remains, and the step is cut into twice as many micro-batches.
    """
    buffers = [(buffer, buffer.clone()) for buffer in part.inner.buffers()]
    least = 2 if part.uses_batchnorm else 1
    while True:
        torch.manual_seed(seed)
        part.optimizer.zero_grad(set_to_none=True)
        try:
            return forward_backward(
                part, machine, batch, objective, machine.micro_batches_of(count, least=least)
            )
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        # Only behind the except block the error's traceback is gone, and with it the tensors that it held.
        part.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        machine.cut_smaller(count, least=least)


def forward_backward(
    part: Part, machine: Machine, batch: batches.Batch, objective: Objective, micro_batches: int
) -> torch.Tensor:
    """Add up the gradients of `micro_batches` parts of this process' batch; return (loss, right answers) of all."""
    accelerator = machine.accelerator
    sums = torch.zeros(2, device=machine.device)
    for number, micro_batch in enumerate(batches.split(batch, micro_batches), start=1):
        micro_batch = micro_batch.to(machine.device)
        # Processes exchange gradients once a step, with the last micro-batch.
        with (
            accelerator.no_sync(part.module) if number < micro_batches else nullcontext(),
            machine.joint_batchnorm(),
        ):
            output = part.module(*micro_batch.inputs)
            loss = objective(output, micro_batch)
            # Processes average gradients; each loss is a share of the global batch's: they must be added.
            accelerator.backward(loss * machine.world)
        right = (logits_of(output).argmax(1) == micro_batch.labels).sum()
        sums += torch.stack([loss.detach(), right])
    return machine.total(sums).cpu()


def loss_of(
    output: Any, batch: batches.Batch, *, recipe: Recipe, weights: torch.Tensor, total: float
) -> torch.Tensor:
    """Return the cross-entropy of a part of a step: its sum, weighted by class, over `total` of the step.

    Mixed images count for both their labels, by their shares.
    """
    main = logits_of(output)
    others = output[1:] if isinstance(output, tuple | list) else ()
    auxiliary = [o for o in others if isinstance(o, torch.Tensor) and o.shape == main.shape]

    def entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        smooth = recipe.label_smoothing
        return cross_entropy(logits, labels, weight=weights, label_smoothing=smooth, reduction="none")

    def loss(logits: torch.Tensor) -> torch.Tensor:
        own = entropy(logits, batch.labels)
        if recipe.mixup:
            own = batch.lam * own + (1 - batch.lam) * entropy(logits, batch.others)
        return own.sum() / total

    return loss(main) + AUXILIARY * sum(loss(logits) for logits in auxiliary)


def judge_val(part: Part, machine: Machine, run: Run, num_workers: int) -> dict[str, float]:
    """Return the figures on val, empty where the data set has none. Processes share the images."""
    if not len(part.val):
        return {}
    logits = logits_on(
        part.module,
        part.val,
        machine.device,
        width=run.classes,
        size=max(1, run.recipe.batch_size // machine.micro_batches),
        num_workers=num_workers,
        share=slice(machine.rank, None, machine.world),
    )
    # Each row comes from one process and is 0 in all others: the sum is exact.
    figures = judge(machine.total(logits.to(machine.device)).cpu(), part.val.labels)
    if not isfinite(figures["val_loss"]):
        rates = words(part.rates(1.0))
        raise Diverged(f"the loss on val became {figures['val_loss']}, at learning rates up to {rates}")
    return figures
