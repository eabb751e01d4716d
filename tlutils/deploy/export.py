"""A model to run without this package: ONNX and torch.export, compared with the model before they count."""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import data, models, runtime
from ..errors import LearnerError
from ..inference import logits_of, refuse_quantised, require_module, set_mode
from .preprocessing import INPUT, OUTPUT, describe_preprocessing

OPSET = 18
"""Version of ONNX's operators: the exporter's own, which runtimes read since 2023."""

TOLERANCE = 1e-4
"""The largest difference between scores that is allowed, as a share of the largest score."""

LEAST = 1e-3  # counts as the largest score where all are smaller
BATCHES = (1, 3)  # sizes that are compared
ENDINGS = {"onnx": (".onnx",), "torch": (".pt2",)}
LARGEST = 2**31 - 1  # bytes of a file in the format that ONNX is in

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """An exported file, and how closely its scores match the model's.

    Attributes:
        path: The exported file.
        preprocessing: The JSON file beside it: what to do to an image first, and the names of the classes.
        format: "onnx" or "torch".
        opset: The version of ONNX's operators; None for torch.
        images: How many images were compared, real and random ones.
        difference: The largest difference between scores of file and model, over all of them.
        tolerance: How large it was allowed to be: `TOLERANCE` times the largest score.
    """

    path: Path
    preprocessing: Path
    format: str
    opset: int | None
    images: int
    difference: float
    tolerance: float

    def __str__(self) -> str:
        kind = f"ONNX, opset {self.opset}" if self.opset else "torch.export"
        return (
            f"{self.path} ({kind}, any batch size): scores of {self.images} images, in batches of "
            f"{' and '.join(map(str, BATCHES))}, differ from the model's by at most {self.difference:.1e} "
            f"(allowed: {self.tolerance:.1e}). What to do to an image first: {self.preprocessing}"
        )


def export_onnx(model: nn.Module, path: str | Path) -> Exported:
    """Write a model as an ONNX file with a free batch size, once its scores agree with the model's.

    The file takes a batch (n, C, H, W) of prepared images, float32, under the name "images" and gives
    "logits" (n, classes). Beside it, a JSON file says how to prepare an image (`describe_preprocessing`).
    The model stays as it is; weights of 16 bits are exported as 32. It needs the packages of the extra
    `export`: onnx, onnxruntime and onnxscript.

    Args:
        model: An image classifier, on any device.
        path: The file; the ending .onnx is added where there is none.

    Raises:
        LearnerError: With nothing written, for a model that cannot be exported, saying why; where the scores
            of the file differ; and where the packages are missing.

    Example:
        >>> from tlutils import deploy, models
        >>> model = models.load("test_resnet", pretrained=False, num_classes=2, input_size=32)
        >>> exported = deploy.export_onnx(model, "pets.onnx")
        >>> exported.opset, exported.preprocessing.name, exported.difference <= exported.tolerance
        (18, 'pets.onnx.json', True)
    """
    if missing := [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]:
        raise LearnerError(
            f"ONNX files are written and checked with {', '.join(missing)}, not installed here: "
            "pip install 'tlutils[export]'. A file of torch.export needs no other package."
        )

    def write(traced: torch.export.ExportedProgram, example: Tensor, to: Path) -> None:
        size = sum(t.numel() * t.element_size() for t in traced.state_dict.values())
        if size > LARGEST:
            raise LearnerError(f"The weights take {size / 2**30:.1f} GiB, and an ONNX file holds 2 at most.")
        program = torch.onnx.export(
            traced,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        program.save(to, external_data=False)

    return _export(model, path, "onnx", write, _load_onnx)


def export_torch(model: nn.Module, path: str | Path) -> Exported:
    """Write a model as a file of torch.export with a free batch size, once its scores agree with the model's.

    `torch.export.load(path).module()` gives a function from a batch (n, C, H, W) of prepared images, float32,
    to scores (n, classes); it needs torch and not this package, nor the model's source. Beside it, a JSON
    file says how to prepare an image. The model stays as it is; weights of 16 bits are exported as 32.

    Args:
        model: An image classifier, on any device.
        path: The file; the ending .pt2 is added where there is none.

    Raises:
        LearnerError: With nothing written, for a model that cannot be exported, saying why, and where the
            scores of the file differ.

    Example:
        >>> import torch
        >>> from tlutils import deploy, models
        >>> model = models.load("test_resnet", pretrained=False, num_classes=2, input_size=32)
        >>> exported = deploy.export_torch(model, "pets")
        >>> torch.export.load(exported.path).module()(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 2])
    """

    def write(traced: torch.export.ExportedProgram, example: Tensor, to: Path) -> None:
        torch.export.save(traced, to)

    return _export(model, path, "torch", write, _load_torch)


def _export(
    model: nn.Module,
    path: str | Path,
    kind: str,
    write: Callable[[torch.export.ExportedProgram, Tensor, Path], None],
    read: Callable[[Path], Callable[[Tensor], np.ndarray]],
) -> Exported:
    """Trace a model, write the file beside its place, compare it with the model, and put it there."""
    path = _named(path, kind)
    described = describe_preprocessing(model)
    copied = _Scores(model)
    images = _examples(model)
    with runtime.seeded(0), torch.no_grad(), _quiet():
        expected = np.concatenate([copied(x).numpy() for x in images.split(1)])
        if not np.isfinite(expected).all():
            raise LearnerError(
                f"{copied.name} gives scores that are not finite numbers for ordinary images, so nothing can "
                "be compared. Look at its weights, or train it again at a lower rate."
            )
        traced = _trace(copied, images[: max(BATCHES)])
        tolerance = TOLERANCE * max(LEAST, float(np.abs(expected).max()))
        with runtime.atomic_write(path) as temporary:
            try:
                write(traced, images[: max(BATCHES)], temporary)
            except LearnerError:
                raise
            except Exception as error:  # the exporters' own, of many kinds
                raise _refusal(copied.name, kind, error) from error
            run = read(temporary)
            found = [np.concatenate([run(x) for x in images.split(size)]) for size in BATCHES]
            difference = max(float(np.abs(scores - expected).max()) for scores in found)
            if not difference <= tolerance:  # also where it is NaN
                raise LearnerError(
                    f"The scores of the exported file differ from {copied.name}'s by {difference:.2g}; "
                    f"at most {tolerance:.2g} was expected. Nothing was written. Does the model draw random "
                    "numbers, or mix the images of a batch?"
                )
    opset = OPSET if kind == "onnx" else None
    described |= {"file": path.name, "exported_as": kind, "opset": opset}
    described |= {"parity": {"images": len(images), "batch_sizes": BATCHES, "largest_difference": difference}}
    beside = path.with_name(f"{path.name}.json")
    with runtime.atomic_write(beside) as temporary:
        temporary.write_text(json.dumps(described, indent=1, ensure_ascii=False), "utf-8", "backslashreplace")
    return Exported(path, beside, kind, opset, len(images), difference, tolerance)


class _Scores(nn.Module):
    """A copy of a model on the processor, in float32 and in eval mode, that gives its scores and no more."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        bare = require_module(model)
        self.name = models.info(bare).name
        if isinstance(bare, torch.jit.ScriptModule):
            raise LearnerError(
                f"{self.name} is a TorchScript module, which torch.export does not read. Export the "
                "model that it was made of; torch.jit.save keeps this one."
            )
        refuse_quantised(bare.modules())
        self.model = copy.deepcopy(bare).cpu().float()
        set_mode(self.model, training=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.model(images))


def _trace(copied: _Scores, example: Tensor) -> torch.export.ExportedProgram:
    """Return the model as torch.export's program, its batch size free. Raises LearnerError."""
    try:
        return torch.export.export(
            copied, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        )
    except Exception as error:  # whatever stands in the model's own code
        raise _refusal(copied.name, "torch.export", error) from error


def _refusal(name: str, how: str, error: Exception) -> LearnerError:
    if isinstance(error, ImportError):
        return LearnerError(
            f"The installed packages for ONNX do not go with this PyTorch ({error}): "
            "pip install --upgrade 'tlutils[export]'."
        )
    why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return LearnerError(
        f"{name} cannot be exported by {how}: {type(error).__name__}: {why[:300]}. Its forward must be "
        "tensor operations alone, the same for every batch size: no choice by the values of a tensor, no "
        "NumPy. models.save keeps the model as it is."
    )


def _examples(model: nn.Module) -> Tensor:
    """Return prepared photographs, and noise, as a batch (n, C, H, W)."""
    prepare = data.transform_for(model)
    photographs = [prepare(data.load_photograph(name)) for name in ("cat", "coffee", "rocket")]
    noise = torch.randn(3, *photographs[0].shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([torch.stack(photographs), noise])


def _load_onnx(path: Path) -> Callable[[Tensor], np.ndarray]:
    import onnx
    import onnxruntime

    onnx.checker.check_model(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run([OUTPUT], {INPUT: x.numpy()})[0])


def _load_torch(path: Path) -> Callable[[Tensor], np.ndarray]:
    module: Any = torch.export.load(path).module()
    return lambda x: module(x).numpy()


def _named(path: str | Path, kind: str) -> Path:
    """Return the path with the ending of its format. Raises LearnerError for that of another."""
    path, endings = runtime.user_path(path), ENDINGS[kind]
    if path.suffix in endings:
        return path
    if path.suffix in (".pt", ".pth", ".safetensors", ".json", *sum(ENDINGS.values(), ())):
        raise LearnerError(f"{path.name} names another format; call it {path.with_suffix(endings[0]).name}.")
    return path.with_name(path.name + endings[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Run a block without the exporters' own warnings, which are for those who write exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
