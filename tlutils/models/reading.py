"""Read tensors from files that somebody else wrote, without running what they hold."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import LearnerError

FOREIGN = re.compile(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)")
UNREADABLE = (SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError, ValueError, OSError)
NESTED = (
    "state_dict",
    "model_state_dict",
    "model",
    "state_dict_ema",
    "net",
    "weights",
)  # where trainers put them


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or of a torch checkpoint, on the CPU.

    A checkpoint may hold more (epoch, optimizer): its weights are looked for under the usual names.
    Read with weights_only=True and nothing else, so a file cannot run code. Raises LearnerError for a file
    that is missing, damaged, or needs more than that.
    """
    path = Path(path)
    if not path.is_file():
        raise LearnerError(
            f"There is no file {path}. Give the path of a file that models.save or torch.save wrote."
        )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path, device="cpu")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own words advise to read unsafely, so only the name of what it met is taken from them.
        if (found := FOREIGN.search(str(error))) is None:
            raise _damaged(path, "torch.save did not write it") from error
        raise LearnerError(
            f"{path} holds Python objects beside tensors ({found.group(1)}), and reading those would run "
            "code from the file, so it was not read. Expected plain tensors, numbers and text. Where the "
            "file was made, save it again with torch.save(model.state_dict(), path), or with "
            "models.save(model, path)."
        ) from error
    except UNREADABLE as error:
        raise _damaged(path, (str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    return only_tensors(content, path)


def only_tensors(content: Any, where: object) -> dict[str, Tensor]:
    """Return a mapping of names to tensors, or raise LearnerError when it is something else."""
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(v, Tensor) for v in content.values())
    ):
        kinds = sorted({type(v).__name__ for v in content.values()}) if isinstance(content, dict) else []
        raise LearnerError(
            f"{where} holds no weights: expected a mapping of names to tensors, as model.state_dict() "
            f"gives, and got {type(content).__name__}{' of ' + ', '.join(kinds[:4]) if kinds else ''}."
        )
    return content


def _damaged(path: Path, reason: str) -> LearnerError:
    return LearnerError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read as weights; it is cut off or of another "
        f"format ({reason[:160]}). Delete it and fetch or write it again."
    )
