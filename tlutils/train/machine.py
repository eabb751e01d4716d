"""Where training runs: device, precision and processes, by Hugging Face Accelerate."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psutil
import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn
from torch.overrides import TorchFunctionMode

from .. import runtime
from ..errors import LearnerError

log = logging.getLogger("tlutils")


class Machine:
    """The device(s) of one `fit`: the same code on a laptop, a GPU, and several processes under `torchrun`.

    `micro_batches` is the number of forward passes that one step is cut into; it doubles when memory runs out.
    """

    def __init__(self, precision: str, micro_batches: int) -> None:
        self.notices: list[str] = []
        self.micro_batches = micro_batches
        device = runtime.pick_device()
        several = int(os.environ.get("WORLD_SIZE", 1)) > 1
        # Without being told, Accelerate leaves several processes without a GPU to train each for itself.
        cpu = device.type == "cpu" or (several and device.type != "cuda")
        if precision != "float32" and device.type != "cuda":
            self.note(f"{precision} was asked for, but this device ({device.type}) trains in float32.")
            precision = "float32"
        wanted = "no" if precision == "float32" else precision
        if AcceleratorState._shared_state and AcceleratorState().mixed_precision != wanted:
            # Accelerate holds the first precision for the whole process; a notebook fits many times.
            AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            cpu=cpu,
            mixed_precision=wanted,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )

    def recover(self, micro_batches: int, notices: list[str], scaler: dict[str, Any] | None) -> None:
        """Go on as the run that was killed had left off."""
        self.micro_batches = micro_batches
        self.notices += [words for words in notices if words not in self.notices]
        if scaler and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(scaler)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """This process' number, from 0."""
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    def note(self, words: str) -> None:
        """Say something once: in the log, and in the history that `fit` returns."""
        if words not in self.notices:
            self.notices.append(words)
            log.warning(words)

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Return module and optimizer as Accelerate wraps them; `module` itself is only moved, not edited."""
        self.accelerator.free_memory()
        return self.accelerator.prepare_model(Wrapped(module)), self.accelerator.prepare_optimizer(optimizer)

    def micro_batches_of(self, count: int, *, least: int) -> int:
        """Return how many forward passes a step on `count` images takes, each of at least `least` images."""
        return min(self.micro_batches, max(1, count // self.world // least))

    def cut_smaller(self, count: int, *, least: int) -> None:
        """Cut steps into twice as many micro_batches from now on. Raises LearnerError where that is not possible."""
        before = self.micro_batches_of(count, least=least)
        images = -(-count // self.world // before)
        if self.world > 1 or before * 2 > max(1, count // least):
            raise LearnerError(
                f"Memory ran out with {images} images in one forward pass"
                + (" on one of several processes" if self.world > 1 else ", and fewer are not possible")
                + ". Try a larger accumulate or a smaller batch_size in the recipe, smaller images "
                "(models.load(..., input_size=…)), a later from_stage, or a smaller network."
            )
        self.micro_batches = before * 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.note(
            f"Memory ran out with {images} images in one forward pass. Each step now adds up {self.micro_batches} "
            "passes, and stays the same but for BatchNorm."
        )

    def total(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        return self.accelerator.reduce(numbers, "sum") if self.world > 1 else numbers

    def joint_batchnorm(self) -> AbstractContextManager:
        """Within it, BatchNorm in training uses the statistics of all processes' images together."""
        return JointBatchNorm() if self.world > 1 else nullcontext()

    def memory(self) -> float:
        """Return MiB in use: on a GPU the most allocated since the last call, else what is resident."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            peak = psutil.Process().memory_info().rss
        return peak / 2**20


class Wrapped(nn.Module):
    """A network or suffix that takes its inputs as arguments; Accelerate edits this and not the model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.inner(inputs[0] if len(inputs) == 1 else inputs)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)  # type: ignore[arg-type]


@contextmanager
def steady_kernels() -> Iterator[None]:
    """Run a block with cuDNN's repeatable algorithms. A processor's kernels repeat already."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


class JointBatchNorm(TorchFunctionMode):
    """Computes BatchNorm's training statistics over all processes, whatever layer class asks for them.

    `torch.nn.SyncBatchNorm` does it for GPUs only, and by exchanging the layers; here the model stays as it
    is.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return _joint_batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _joint_batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """`F.batch_norm` of x (B, C, …), in training with mean and variance over the images of all processes."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    places = [0, *range(2, x.dim())]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    wide = x.float()
    sums = _AllSum.apply(torch.cat([wide.sum(places), wide.new_tensor([x.numel() / x.shape[1]])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    # Around the joint mean, not as E[x²] - E[x]²: that difference loses the digits that matter.
    var = _AllSum.apply(centred.square().sum(places)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
    out = centred * (var.view(shape) + eps).rsqrt()
    if weight is not None:
        out = out * weight.view(shape)
    if bias is not None:
        out = out + bias.view(shape)
    return out.to(x.dtype)


class _AllSum(torch.autograd.Function):
    """Sum over processes; the gradient of a sum that all use is the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad
