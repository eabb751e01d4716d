"""Read tensors from files that somebody else wrote, without running what they hold."""

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import LearnerError
from ..runtime import user_path

FOREIGN = re.compile(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)")
USUAL = ("state_dict", "model_state_dict", "model", "net", "weights")  # where trainers put the weights
AVERAGED = re.compile(r"ema|swa|averag|shadow|polyak", re.IGNORECASE)  # what they call averages of them


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or of a torch checkpoint, on the CPU; see `read_sets`."""
    sets = read_sets(path)
    return sets[next((key for key in USUAL if key in sets), next(iter(sets)))]


def read_sets(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return every set of tensors in a file by where it stands there, "" for the whole file, on the CPU.

    Read with weights_only=True and nothing else, so a file cannot run code. Raises LearnerError for a file
    that is missing, damaged, or needs more than that.
    """
    path = user_path(path)
    if not path.is_file():
        raise LearnerError(
            f"There is no file {path}. Give the path of a file that models.save or torch.save wrote."
        )
    try:
        if path.suffix == ".safetensors":
            with readable(path) as name:
                return {"": safetensors.torch.load_file(name, device="cpu")}
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
    except Exception as error:  # a damaged file may fail anywhere
        raise _damaged(path, (str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    return sets_of(content, path)


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Yield a path that is text, as safetensors needs it: a link for a file whose path is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with TemporaryDirectory() as folder:
            link = Path(folder, "file.safetensors")
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def sets_of(content: Any, where: object) -> dict[str, dict[str, Tensor]]:
    """Return every mapping of names to tensors in a checkpoint: the whole, or entries of it and of those."""
    if not _is_state(content) and isinstance(content, dict):
        inner = [
            (f"{key}.{name}", value)
            for key, entry in content.items()
            if isinstance(entry, dict) and not _is_state(entry)
            for name, value in entry.items()
        ]
        if found := {str(key): value for key, value in (*content.items(), *inner) if _is_state(value)}:
            return found
    return {"": only_tensors(content, where)}


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def only_tensors(content: Any, where: object) -> dict[str, Tensor]:
    """Return a mapping of names to tensors, or raise LearnerError when it is something else."""
    if not _is_state(content):
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
