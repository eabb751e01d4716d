"""One run: where it stands, what it keeps, and how it ends."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from .. import models
from ..errors import LearnerError
from . import checkpoint
from .checkpoint import Moments, Progress
from .history import History
from .machine import Machine, log
from .part import Part
from .recipes import Phase, Recipe
from .reset import forget


class Run:
    """The state of one `fit`: begun anew, or taken from the checkpoint in `folder`."""

    def __init__(
        self,
        model: nn.Module,
        dataset: Any,
        recipe: Recipe,
        machine: Machine,
        folder: Path | None,
        resume: bool,
    ) -> None:
        self.model, self.recipe, self.machine, self.folder = model, recipe, machine, folder
        self.classes = len(dataset.classes)
        self._names = list(dataset.classes)
        self._key = _key(model, dataset, recipe)
        self._clock = self._memory = 0.0
        self.moments: Moments = {}
        found = checkpoint.load(folder, self._key) if folder and resume else None
        if found:
            self.progress: Progress = found["progress"]
            model.load_state_dict(found["model"])
            self.good, self.moments = found["good"] or found["model"], found["moments"]
            machine.recover(self.progress.micro_batches, self.progress.notices, found["scaler"])
        else:
            self.progress = Progress(micro_batches=machine.micro_batches)
            if recipe.reset:
                forget(model, seed=recipe.seed)
            self.good = checkpoint.snapshot(model)

    @property
    def history(self) -> History:
        """What the run did so far."""
        p = self.progress
        return History(self.recipe, list(p.rows), p.best_epoch, p.stopped, list(self.machine.notices))

    def phases(self) -> Iterator[Phase]:
        """Yield the phases that are not finished."""
        while not self.progress.finished and self.progress.phase < len(self.recipe.phases):
            yield self.recipe.phases[self.progress.phase]
            self.progress.phase += 1
            self.progress.in_phase = self.progress.waited = 0

    def epochs(self, phase: Phase) -> Iterator[int]:
        """Yield the numbers, from 0, of the phase's epochs that are left; none once val stopped improving."""
        patience = self.recipe.patience or phase.epochs
        while self.progress.in_phase < phase.epochs and self.progress.waited < patience:
            yield self.progress.epoch

    def start_clock(self) -> None:
        """Begin to measure an epoch."""
        self._clock, self._memory = time.perf_counter(), self.machine.memory()

    def watch_memory(self) -> None:
        """Note the memory in use, if it is more than before in this epoch."""
        self._memory = max(self._memory, self.machine.memory())

    def record(self, part: Part, figures: dict[str, float]) -> None:
        """Add the epoch's row, keep its weights if they are the best on val, and save the checkpoint."""
        p = self.progress
        p.epoch, p.in_phase = p.epoch + 1, p.in_phase + 1
        self.watch_memory()
        p.rows.append(
            {"epoch": p.epoch, "phase": p.phase + 1, "from_stage": part.phase.from_stage or "all"}
            | figures
            | {
                "trainable_params": sum(parameter.numel() for parameter in part.trainable),
                "seconds": time.perf_counter() - self._clock,
                "peak_memory_mib": self._memory,
            }
        )
        score = (figures["val_balanced_accuracy"], -figures["val_loss"]) if "val_loss" in figures else None
        better = score is None or p.score is None or score > p.score
        p.waited = 0 if better else p.waited + 1
        if better:
            p.score, p.best_epoch = score, p.epoch
        if better or self.recipe.keep == "last":
            self.good = checkpoint.snapshot(self.model)
        self.moments = checkpoint.moments_of(part.optimizer, self.model, self.moments)
        self._save()

    def stop(self, words: str) -> None:
        """End the run before its time, and say why."""
        advice = "Try a tenth of the rate, a longer warmup, or clip_norm=1."
        self.progress.stopped = f"{words}. {self._held()} {advice}"
        log.warning("Training stopped: %s", self.progress.stopped)

    def interrupted(self) -> str:
        """Return what to tell a person who pressed Ctrl-C."""
        further = (
            f"Run the same call again to go on after epoch {self.progress.epoch}."
            if self.folder
            else "Pass out='runs/name' to be able to go on after an interruption."
        )
        return f"Training was interrupted in epoch {self.progress.epoch + 1}. {self._held()} {further}"

    def _held(self) -> str:
        when = f"of epoch {self._good_epoch}" if self._good_epoch else "from before training"
        return f"The model holds the weights {when}."

    @property
    def _good_epoch(self) -> int:
        return self.progress.best_epoch if self.recipe.keep == "best" else self.progress.epoch

    def leave_good_weights(self) -> None:
        """Give the model the weights that the recipe keeps, in eval mode, without gradients."""
        self.model.load_state_dict(self.good)
        self.model.zero_grad(set_to_none=True)
        self.model.eval()

    def finish(self) -> History:
        """Write the results to the folder, once; return the history. Raises LearnerError on a full disk."""
        if self.folder and not self.progress.finished:
            self.progress.finished = True
            self.machine.accelerator.wait_for_everyone()
            if self.machine.rank == 0:
                self._write(self.folder)
            self.machine.accelerator.wait_for_everyone()
        return self.history

    def _write(self, folder: Path) -> None:
        try:
            models.save(self.model, folder / "model.safetensors", classes=self._names)
            self.history.to_csv(folder / "history.csv")
            self.moments, self.progress.notices = {}, self.machine.notices
            checkpoint.save(
                folder, self._key, self.progress, model=self.good, good=None, moments={}, scaler=None
            )
        except Exception as error:  # whatever kept it from being written, what was trained is not lost
            raise LearnerError(
                f"{error} Training is finished, and the model in memory holds its weights: make room and run "
                "the same call again, or models.save(model, path) elsewhere."
            ) from error

    def _save(self) -> None:
        """Save the checkpoint. A full disk is noted and does not end the training."""
        if not self.folder or self.machine.rank != 0:
            return
        p = self.progress
        p.micro_batches, p.notices = self.machine.micro_batches, self.machine.notices
        good = None if self._good_epoch == p.epoch else self.good
        scaler = self.machine.accelerator.scaler
        try:
            checkpoint.save(
                self.folder,
                self._key,
                p,
                model=checkpoint.snapshot(self.model),
                good=good,
                moments=self.moments,
                scaler=scaler.state_dict() if scaler else None,
            )
        except LearnerError as error:
            self.machine.note(
                f"{error} Training goes on; a kill now would cost all since the last checkpoint."
            )


def _key(model: nn.Module, dataset: Any, recipe: Recipe) -> dict[str, Any]:
    """Return what makes a run this run: plain values that a checkpoint is held against."""
    return {
        **{name: repr(getattr(recipe, name)) for name in (f.name for f in dataclasses.fields(recipe))},
        "model": models.info(model).name,
        "tensors": repr([(name, tuple(t.shape)) for name, t in model.state_dict().items()]),
        "classes": list(dataset.classes),
        "train": dataset.train.fingerprint,
        "val": dataset.val.fingerprint,
    }
