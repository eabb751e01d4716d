"""What a run has reached, kept in its folder after each epoch, so that a killed run goes on unharmed."""

import dataclasses
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import runtime
from ..errors import LearnerError

FILE = "checkpoint.pt"


@dataclass
class Progress:
    """Where a run stands: plain numbers and words, saved as they are."""

    phase: int = 0  # phases finished
    in_phase: int = 0  # epochs done in the phase under way
    epoch: int = 0  # epochs done in all
    score: tuple[float, float] | None = None  # balanced accuracy and minus loss on val, of the best epoch
    best_epoch: int = 0
    waited: int = 0  # epochs of this phase since the score last rose
    micro_batches: int = 1  # forward passes a step is cut into
    stopped: str = ""
    finished: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


Weights = dict[str, torch.Tensor]
Moments = dict[str, dict[str, Any]]
"""The optimizer's memory of each parameter, by its name: it outlives phases, groups and processes."""


def snapshot(model: nn.Module) -> Weights:
    """Return a copy of all weights and buffers, in the main memory."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def moments_of(optimizer: Any, model: nn.Module, before: Moments) -> Moments:
    """Return the memory `before`, brought up to date for the parameters that this optimizer moves."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return before | {names[p]: dict(state) for p, state in optimizer.state.items() if state}


def recall(optimizer: torch.optim.Optimizer, model: nn.Module, moments: Moments) -> None:
    """Give the optimizer its memory of the parameters that it moves; others start without one."""
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if name in moments and id(parameter) in moved:
            # Adam counts its steps in the main memory; everything else lies where the parameter lies.
            optimizer.state[parameter] = {
                key: value.to(parameter.device) if torch.is_tensor(value) and key != "step" else value
                for key, value in moments[name].items()
            }


def save(folder: Path, key: dict[str, Any], progress: Progress, **tensors: Any) -> None:
    """Replace the folder's checkpoint in one step. On a full disk: LearnerError, the old one untouched."""
    content = {"key": key, "progress": dataclasses.asdict(progress), **tensors}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with runtime.atomic_write(folder / FILE) as temporary:
        # Python writes the bytes: torch's own writer would hide a full disk in a RuntimeError.
        temporary.write_bytes(buffer.getbuffer())


def load(folder: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """Return the folder's checkpoint, its progress as `Progress`, or None where there is none.

    Raises LearnerError when the folder belongs to another run, naming what differs, or holds a damaged file.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what the loader says of a damaged file depends on where it is damaged
        raise LearnerError(
            f"{path} cannot be read as a checkpoint: it is damaged, or not from here. "
            "Delete it, or pass resume=False to begin anew."
        ) from error
    there = content["key"]
    differs = [name for name in key if there.get(name) != key[name]]
    if differs:
        short = [n for n in differs if max(len(repr(there.get(n))), len(repr(key[n]))) < 80]
        listed = "; ".join(f"{n}: {there.get(n)} there, {key[n]} now" if n in short else n for n in differs)
        raise LearnerError(
            f"{folder} holds another run ({listed}). Pass out= another folder, one for each run, "
            "or resume=False to replace what is there."
        )
    content["progress"] = Progress(**content["progress"])
    return content
