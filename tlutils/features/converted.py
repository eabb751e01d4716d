"""A part of a model as a program of OpenVINO, which runs it on a processor in a fraction of torch's time."""

import sys
import warnings
from collections.abc import Callable
from itertools import chain, islice
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import LearnerError
from .store import Arrays

Values = Callable[[str, Any], list[torch.Tensor]]


def convert(
    trunk: nn.Module, values: Values, example: torch.Tensor, *, bfloat16: bool
) -> Callable[[torch.Tensor], dict[str, Arrays]]:
    """Return a function from images (N, C, H, W) to {stage: its arrays}: `values` of what `trunk` gives.

    `example` (2, C, H, W) are two of them. Raises whatever torch or OpenVINO say of a model that they cannot
    convert, and LearnerError for one whose forward decides by the values of a tensor.
    """
    # OpenVINO tells its makers of each import, through a package that it can do without.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    flat = _Flat(trunk, values)
    with torch.no_grad(), warnings.catch_warnings():
        with _Decisions() as decisions:  # type: ignore[no-untyped-call]
            flat(example)
        if decisions.found:
            raise LearnerError("its forward decides by the values of a tensor")
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*(NumPy|Python list)")  # values that would be constants
        traced = torch.jit.trace(flat, example, check_trace=False)
        program = openvino.convert_model(traced, example_input=example)
    program.reshape([-1, *example.shape[1:]])
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    ready = openvino.Core().compile_model(program, "CPU", settings)

    def run(images: torch.Tensor) -> dict[str, Arrays]:
        arrays = iter(ready(images.numpy()).to_tuple())
        return {stage: tuple(islice(arrays, count)) for stage, count in flat.counts.items()}

    return run


class _Flat(nn.Module):
    """Gives all tensors of all stages in one tuple, and knows how many each stage has."""

    def __init__(self, trunk: nn.Module, values: Values) -> None:
        super().__init__()
        self.training, self.trunk, self.values = trunk.training, trunk, values
        self.counts: dict[str, int] = {}

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = {stage: self.values(stage, value) for stage, value in self.trunk(images).items()}
        self.counts = {stage: len(tensors) for stage, tensors in found.items()}
        return tuple(chain.from_iterable(found.values()))


class _Decisions(TorchDispatchMode):
    """Notes whether Python asks for the value of a tensor, as `if x.max() > 1` does."""

    found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= torch.Tag.data_dependent_output in func.tags
        return func(*args, **(kwargs or {}))
