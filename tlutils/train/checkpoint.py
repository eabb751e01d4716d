"""What a run has reached, kept in its folder after each epoch, so that a killed run goes on unharmed."""

import dataclasses
import io
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .. import data, fingerprint, models, runtime, surgery
from ..errors import LearnerError
from ..inference import set_mode
from .distributed import Hardware
from .history import History
from .recipe import Phase, Recipe

log = logging.getLogger("tlutils")

FILE = "checkpoint.pt"

Weights = dict[str, torch.Tensor]
OptimizerState = dict[str, dict[str, Any]]
"""What the optimizer knows of each parameter, by its name: it outlives phases, groups and processes."""


@dataclass
class Progress:
    """Where a run stands: plain numbers and texts, saved as they are."""

    phase: int = 0  # phases finished
    epoch_in_phase: int = 0  # epochs done in the phase under way
    epoch: int = 0  # epochs done in all
    score: tuple[float, float] | None = None  # balanced accuracy and minus loss on val, of the best epoch
    best_epoch: int = 0
    kept_epoch: int = 0  # whose weights the model will be left with
    epochs_without_gain: int = 0  # in this phase, since the score last rose
    micro_batches: int = 1  # forward passes that a step is split into
    precision: str = "float32"  # that it trains in
    stopped: str = ""
    finished: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class Epoch(NamedTuple):
    """The number of an epoch in the whole run, and in its phase, both from 0."""

    number: int
    in_phase: int


class Run:
    """The state of one `fit`: new, or taken from the checkpoint that was `found` in `folder`.

    `key` is what makes it this run. `kept` are the weights that the model will be left with,
    `optimizer_state` what the next phase's optimizer begins with.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        hardware: Hardware,
        folder: Path | None,
        key: dict[str, Any],
        found: dict[str, Any] | None,
    ) -> None:
        self.model, self.recipe, self.hardware = model, recipe, hardware
        self.folder = folder
        self._key = found["key"] if found else key  # with the start of the run, wherever it stands now
        self.optimizer_state: OptimizerState = {}
        if found:
            self.progress: Progress = found["progress"]
            model.load_state_dict(found["model"])
            self.kept, self.optimizer_state = found["kept"] or found["model"], found["optimizer"]
            hardware.restore(
                self.progress.micro_batches, self.progress.precision, self.progress.notices, found["scaler"]
            )
        else:
            self.progress = Progress(micro_batches=hardware.micro_batches)
            if recipe.reset:
                reset_weights(model, seed=recipe.seed, head_only=recipe.reset == "head")
            self.kept = copy_weights(model)

    @property
    def history(self) -> History:
        """What the run did so far."""
        p = self.progress
        notices = list(self.hardware.notices)
        return History(self.recipe, list(p.rows), p.best_epoch, p.stopped, notices, p.kept_epoch)

    def phases(self) -> Iterator[Phase]:
        """Yield the phases that are not finished."""
        while not self.progress.finished and self.progress.phase < len(self.recipe.phases):
            yield self.recipe.phases[self.progress.phase]
            self.progress.phase += 1
            self.progress.epoch_in_phase = self.progress.epochs_without_gain = 0

    def epochs(self, phase: Phase) -> Iterator[Epoch]:
        """Yield the phase's epochs that are left; none once val stopped improving."""
        p, patience = self.progress, self.recipe.patience or phase.epochs
        while p.epoch_in_phase < phase.epochs and p.epochs_without_gain < patience:
            yield Epoch(p.epoch, p.epoch_in_phase)

    def record(self, row: dict[str, float], optimizer: Any) -> None:
        """Add the epoch's row, keep its weights if they are the best on val, and save the checkpoint."""
        p = self.progress
        p.epoch, p.epoch_in_phase = p.epoch + 1, p.epoch_in_phase + 1
        from_stage = self.recipe.phases[p.phase].from_stage
        p.rows.append({"epoch": p.epoch, "phase": p.phase + 1, "from_stage": from_stage} | row)
        score = (row["val_balanced_accuracy"], -row["val_loss"]) if "val_loss" in row else None
        finite = score is None or isfinite(score[1])
        better = finite and (score is None or p.score is None or score > p.score)
        p.epochs_without_gain = 0 if better else p.epochs_without_gain + 1
        if better:
            p.score, p.best_epoch = score, p.epoch
        if better or (finite and self.recipe.keep == "last"):
            self.kept, p.kept_epoch = copy_weights(self.model), p.epoch
        self.optimizer_state |= read_optimizer_state(optimizer, self.model)
        self._save()

    def stop(self, reason: str) -> None:
        """End the run before its time, and say why."""
        advice = "Try a tenth of the rate, a longer warmup, or clip_norm=1."
        self.progress.stopped = f"{reason}. {self._describe_kept()} {advice}"
        log.warning("Training stopped: %s", self.progress.stopped)

    def describe_interruption(self) -> str:
        """Return what to tell a person who pressed Ctrl-C."""
        further = (
            f"Run the same call again to go on after epoch {self.progress.epoch}."
            if self.folder
            else "Pass out='runs/name' to be able to go on after an interruption."
        )
        return (
            f"Training was interrupted in epoch {self.progress.epoch + 1}. {self._describe_kept()} {further}"
        )

    def _describe_kept(self) -> str:
        kept = self.progress.kept_epoch
        return f"The model holds the weights {f'of epoch {kept}' if kept else 'from before training'}."

    def load_kept_weights(self) -> None:
        """Give the model the weights that the recipe keeps, in eval mode, without gradients."""
        self.model.load_state_dict(self.kept)
        self.model.zero_grad(set_to_none=True)
        set_mode(self.model, training=False)

    def finish(self) -> History:
        """Write the results to the folder, once; return the history. Raises LearnerError on a full disk."""
        if self.progress.epoch and not self.progress.kept_epoch and not self.progress.stopped:
            self.stop("the loss on the validation images was never a finite number")
        if self.folder and not self.progress.finished:
            self.progress.finished = True
            self.hardware.wait_for_all()
            if self.hardware.rank == 0:
                self._write_results(self.folder)
            self.hardware.wait_for_all()
        return self.history

    def _write_results(self, folder: Path) -> None:
        try:
            models.save(self.model, folder / "model.safetensors", classes=self._key["classes"])
            self.history.to_csv(folder / "history.csv")
            self.optimizer_state, self.progress.notices = {}, self.hardware.notices
            save(folder, self._key, self.progress, model=self.kept, kept=None, optimizer={}, scaler=None)
        except Exception as error:  # whatever kept it from being written, what was trained is not lost
            raise LearnerError(
                f"{error} Training is finished, and the model in memory holds its weights: make room and run "
                "the same call again, or models.save(model, path) elsewhere."
            ) from error

    def _save(self) -> None:
        """Save the checkpoint. A full disk is noted and does not end the training."""
        if not self.folder or self.hardware.rank != 0:
            return
        p = self.progress
        p.micro_batches, p.notices = self.hardware.micro_batches, self.hardware.notices
        p.precision = self.hardware.precision
        try:
            save(
                self.folder,
                self._key,
                p,
                model=copy_weights(self.model),
                kept=None if p.kept_epoch == p.epoch else self.kept,
                optimizer=self.optimizer_state,
                scaler=self.hardware.scaler_state(),
            )
        except LearnerError as error:
            self.hardware.note(
                f"{error} Training goes on; a kill now would cost all since the last checkpoint."
            )


@contextmanager
def alone_in(folder: Path | None, hardware: Hardware) -> Iterator[None]:
    """Hold a run's folder for one `fit`, whose processes share it; LearnerError while another has it."""
    if folder is None or hardware.rank != 0:
        yield
        return
    with ExitStack() as held:
        try:
            held.enter_context(runtime.file_lock(folder / FILE, wait=False))
        except TimeoutError:
            raise LearnerError(
                f"Another run is training in {folder} right now. Wait for its end, or pass out= another "
                "folder, one for each run."
            ) from None
        yield


def identify(
    model: nn.Module, dataset: data.TrainingData, recipe: Recipe, settings: dict[str, str]
) -> dict[str, Any]:
    """Return what makes a run this run: plain values that a checkpoint is compared with.

    `settings` are those of the model, by `fingerprint.of_settings`. Hooks are left out, as what listens may
    be another in another process, and so is what this package notes in a model but for `freeze_to`.
    """
    own = {k: v for k, v in settings.items() if "_hooks " not in k and ":_tlutils" not in k}
    transform = dataclasses.asdict(data.transform_for(model, train=recipe.augment))
    return {
        **{name: repr(getattr(recipe, name)) for name in (f.name for f in dataclasses.fields(recipe))},
        "model": models.info(model).name,
        **{f"transform.{name}": repr(value) for name, value in transform.items()},
        "settings": own,
        "weights": {} if recipe.reset is True else fingerprint.of_tensors(model),
        "frozen parameters": dict.fromkeys(surgery.prefrozen_parameters(model), True),
        "freezing": repr(surgery.frozen_options(model)),
        "tensors": repr([(name, tuple(t.shape)) for name, t in model.state_dict().items()]),
        "classes": list(dataset.classes),
        "train": dataset.train.fingerprint,
        "val": dataset.val.fingerprint,
    }


def save(folder: Path, key: dict[str, Any], progress: Progress, **tensors: Any) -> None:
    """Replace the folder's checkpoint in one step. On a full disk: LearnerError, the old one untouched."""
    content = {"key": key, "progress": dataclasses.asdict(progress), **tensors}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with runtime.atomic_write(folder / FILE) as temporary:
        # Python writes the bytes: torch's own writer would hide a full disk in a RuntimeError.
        temporary.write_bytes(buffer.getbuffer())


def load(folder: Path, key: dict[str, Any], model: nn.Module) -> dict[str, Any] | None:
    """Return the folder's checkpoint, its progress as `Progress`, or None where there is none.

    The model may start where that run started, or hold what that run has left in it. Raises LearnerError when
    the folder belongs to another run, naming what differs, or holds a damaged file.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what the loader says of a damaged file depends on where it is damaged
        raise LearnerError(
            f"{path} cannot be read as a checkpoint: it is damaged, or not from here. "
            "Delete it, or pass resume=False to begin again."
        ) from error
    there, left = content["key"], content["kept"] or content["model"]
    current = model.state_dict()
    goes_on = left.keys() == current.keys() and all(
        torch.equal(left[name].to(t.dtype), t.cpu()) for name, t in current.items()
    )
    start = ("weights", "settings", "freezing")
    differs = [n for n in key if there.get(n) != key[n] and not (goes_on and n in start)]
    if differs:
        listed = "; ".join(_tell_apart(name, there.get(name), key[name]) for name in differs)
        raise LearnerError(
            f"{folder} holds another run ({listed}). Pass out= another folder, one for each run, "
            "or resume=False to replace what is there."
        )
    content["progress"] = Progress(**content["progress"])
    return content


def _tell_apart(name: str, there: Any, now: Any) -> str:
    """Return in words how an entry of a run's key differs from that of another run."""
    if isinstance(there, dict) and isinstance(now, dict):
        places = [place for place in there | now if there.get(place) != now.get(place)]
        more = f" and {len(places) - 2} more" if len(places) > 2 else ""
        return f"other {name} at the start: {', '.join(places[:2])}{more}"
    return f"{name}: {there} there, {now} now" if max(len(repr(there)), len(repr(now))) < 80 else name


def copy_weights(model: nn.Module) -> Weights:
    """Return a copy of all weights and buffers, in the main memory."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def read_optimizer_state(optimizer: Any, model: nn.Module) -> OptimizerState:
    """Return what the optimizer knows of the parameters that it moves, by their names in `model`."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: dict(state) for p, state in optimizer.state.items() if state}


def restore_optimizer_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, states: OptimizerState
) -> None:
    """Give the optimizer back what it knew of the parameters that it moves; others start without."""
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if name in states and id(parameter) in moved:
            # Adam counts its steps in the main memory; everything else lies where the parameter lies.
            optimizer.state[parameter] = {
                key: value.to(parameter.device) if torch.is_tensor(value) and key != "step" else value
                for key, value in states[name].items()
            }


def reset_weights(model: nn.Module, *, seed: int, head_only: bool) -> None:
    """Give all weights of `model`, or those of its head, fresh initial values drawn from `seed`, in place.

    A head is initialised by its layers' `reset_parameters`, as in `surgery.replace_head`; a known
    architecture as its authors do it, and any other network by its layers' `reset_parameters`. The global
    random generators stay as they were. Raises LearnerError for weights that no layer initialises so.
    """
    info = models.info(model)
    if info.source != "custom" and not head_only:
        fresh = models.load(
            info.name,
            pretrained=False,
            num_classes=info.num_classes,
            input_size=info.input_size[1:],
            in_chans=info.input_size[0],
            seed=seed,
        )
        own = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if own == {name: tensor.shape for name, tensor in fresh.state_dict().items()}:
            model.load_state_dict(fresh.state_dict())
            return
    chosen = nn.ModuleList(surgery.head_layers(model).values()) if head_only else model
    drawn: set[int] = set()
    with runtime.seeded(seed), torch.no_grad():
        for module in chosen.modules():
            if callable(draw := getattr(module, "reset_parameters", None)):
                draw()
                drawn |= {id(p) for p in module.parameters(recurse=False)}
    left = [name for name, p in chosen.named_parameters() if id(p) not in drawn]
    if left:
        raise LearnerError(
            f"{info.name} has weights that no layer knows how to initialise ({', '.join(left[:3])}). "
            "Build a fresh model yourself, and train it by dataclasses.replace(recipe, reset=False)."
        )
