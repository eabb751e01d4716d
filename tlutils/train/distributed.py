"""Where training runs: device, precision, memory and processes, by Hugging Face Accelerate."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
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

from .. import inference, models, runtime
from ..errors import LearnerError
from ..inference import device_of, dtype_of, logits_of, twin
from .cpu_kernels import CpuKernels
from .data import TrainingBatch

log = logging.getLogger("tlutils")


class Hardware:
    """What one `fit` runs on: the same code on a laptop, on a GPU, and in several processes under `torchrun`.

    `micro_batches` is the number of forward passes that one step is split into; it doubles when memory runs
    out. `notices` are messages for the reader of the result.
    """

    def __init__(self, precision: str, *, micro_batches: int) -> None:
        runtime.keep_freed_memory()
        self.notices: list[str] = []
        self.micro_batches = micro_batches
        self._peak_memory = 0.0
        self._has_prepared = False
        device = runtime.pick_device()
        several = int(os.environ.get("WORLD_SIZE", 1)) > 1
        # Without being told, Accelerate leaves several processes without a GPU to train each for itself.
        self._cpu = device.type == "cpu" or (several and device.type != "cuda")
        units = precision == "bf16" and device.type == "cpu" and runtime.bfloat16_units(device)
        if precision != "float32" and device.type != "cuda" and not units:
            self.note(f"{precision} was asked for, but this device ({device.type}) trains in float32.")
            precision = "float32"
        self.use(precision)

    def use(self, precision: str) -> None:
        """Train in this precision from now on."""
        self.precision, wanted = precision, "no" if precision == "float32" else precision
        if AcceleratorState._shared_state and AcceleratorState().mixed_precision != wanted:
            # Accelerate holds the first precision for the whole process; a notebook fits many times.
            AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            cpu=self._cpu,
            mixed_precision=wanted,
            kwargs_handlers=[
                # A layer that a step leaves out has no gradient, as in one process.
                DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
            ],
        )
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index  # the number of this process, from 0
        self.world_size: int = self.accelerator.num_processes

    def note(self, message: str) -> None:
        """Say something once: in the log, and in the history that `fit` returns."""
        if message not in self.notices:
            self.notices.append(message)
            log.warning(message)

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Return module and optimizer as Accelerate wraps them; `module` itself is only moved, not edited."""
        if self._has_prepared:  # an earlier phase, which Accelerate would hold
            self.accelerator.free_memory()
        self._has_prepared = True
        return self.accelerator.prepare_model(_Wrapped(module)), self.accelerator.prepare_optimizer(optimizer)

    def within_memory(
        self, attempt: Callable[[int], torch.Tensor], module: nn.Module, *, images: int, smallest: int
    ) -> torch.Tensor:
        """Return `attempt(micro_batches)`; when memory runs out, try again with twice as many micro-batches.

        A failed attempt leaves no gradient in `module` and its buffers as they were. Raises LearnerError when
        `images`, over all processes, would have to be split into micro-batches of fewer than `smallest`.
        """
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        while True:
            try:
                return attempt(self.count_passes(images, smallest))
            except RuntimeError as error:
                if not _ran_out_of_memory(error):
                    raise
            finally:
                self._watch_memory()
            # Only behind the except block is the error's traceback gone, with the tensors that it held.
            module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            self._split_further(images, smallest)

    def count_passes(self, images: int, smallest: int) -> int:
        """Return in how many passes a step of `images` is made, none of fewer than `smallest` of them."""
        return min(self.micro_batches, max(1, images // self.world_size // smallest))

    def alters(self, module: nn.Module, batch: TrainingBatch) -> bool:
        """Return whether dividing a batch into passes and processes gives other scores, or other buffers.

        A batch of a few images is tried on a copy in training mode, whole and divided.
        """
        batch = batch.to(self.device)
        share = batch.part(slice(self.rank, None, self.world_size))
        whole, buffers = _try(module, [batch])
        parts = share.split(min(2, self.micro_batches))
        with _JointBatchNorm() if self.world_size > 1 else nullcontext():
            divided, moved = _try(module, parts)
        alike = _close(whole[self.rank :: self.world_size], divided) and all(map(_close, buffers, moved))
        return self.sum_over_processes(torch.tensor(float(not alike), device=self.device)).item() > 0

    def _split_further(self, images: int, smallest: int) -> None:
        before = self.count_passes(images, smallest)
        largest = -(-images // self.world_size // before)
        if self.world_size > 1 or before * 2 > max(1, images // smallest):
            raise LearnerError(
                f"Memory ran out with {largest} images in one forward pass"
                + (" on one of several processes" if self.world_size > 1 else ", and fewer are not possible")
                + ". Try more micro_batches or a smaller batch_size in the recipe, smaller images "
                "(models.load(..., input_size=…)), a later from_stage, or a smaller network."
            )
        self.micro_batches = before * 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.note(
            f"Memory ran out with {largest} images in one forward pass. Each step now adds up "
            f"{self.micro_batches} passes, and stays the same but for BatchNorm."
        )

    @contextmanager
    def joined(self, module: nn.Module, *, exchange: bool) -> Iterator[None]:
        """Run a forward and backward pass as part of one step of all processes.

        BatchNorm uses the statistics of all processes' images together. With `exchange`, the gradients that
        were added up so far are averaged over the processes; once a step is enough.
        """
        with ExitStack() as stack:
            if not exchange:
                stack.enter_context(self.accelerator.no_sync(module))
            if self.world_size > 1:
                stack.enter_context(_JointBatchNorm())
            if self.device.type == "cpu":
                stack.enter_context(CpuKernels())
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of `loss`, the share of this process in the loss of all."""
        # Accelerate averages the gradients of the processes, where shares must be added.
        self.accelerator.backward(loss * self.world_size)

    def sum_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        return self.accelerator.reduce(values, "sum") if self.world_size > 1 else values

    def wait_for_all(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    def clip_gradients(self, parameters: list[nn.Parameter], norm: float) -> None:
        """Scale the gradients down where their length, over all `parameters` together, is above `norm`."""
        self.accelerator.clip_grad_norm_(parameters, norm)

    def refuse_drift(self, drift: float) -> None:
        """Train in float32 after all where bfloat16 moves the features of a sample by too large a `drift`."""
        if drift > inference.DRIFT:
            self.note(
                f"bf16 was asked for, but it moves the features of training images by {drift:.1%} of their "
                f"spread, more than {inference.DRIFT:.0%}: training is in float32."
            )
            self.use("float32")

    def restore(
        self, micro_batches: int, precision: str, notices: list[str], scaler: dict[str, Any] | None
    ) -> None:
        """Go on as the run that was killed had left off."""
        self.micro_batches = micro_batches
        if precision != self.precision:
            self.use(precision)
        self.notices += [message for message in notices if message not in self.notices]
        if scaler and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(scaler)

    def scaler_state(self) -> dict[str, Any] | None:
        """Return the state of the gradient scaler of "fp16"; None for other precisions."""
        return self.accelerator.scaler.state_dict() if self.accelerator.scaler else None

    @contextmanager
    def measured(self) -> Iterator[dict[str, float]]:
        """Run a block; afterwards the dictionary that it yields holds `seconds` and `peak_memory_mib`.

        Memory is the most that torch allocated on a GPU; elsewhere the most that the process held after a
        step.
        """
        cost: dict[str, float] = {}
        start, self._peak_memory = time.perf_counter(), 0.0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        yield cost
        self._watch_memory()
        cost |= {"seconds": time.perf_counter() - start, "peak_memory_mib": self._peak_memory}

    def _watch_memory(self) -> None:
        if self.device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self.device)
        else:
            used = psutil.Process().memory_info().rss
        self._peak_memory = max(self._peak_memory, used / 2**20)


def _try(module: nn.Module, batches: list[TrainingBatch]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the scores that a copy of a module gives in training mode, and its buffers afterwards."""
    with twin(module) as copy, torch.no_grad():
        copy.train()
        scores = [logits_of(_Wrapped(copy)(*batch.inputs)) for batch in batches]
        return torch.cat(scores), [*copy.buffers()]


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors differ by rounding only."""
    one, other = one.double(), other.double()
    return torch.allclose(one, other, rtol=0, atol=1e-4 * float(one.nan_to_num().abs().max()), equal_nan=True)


class _Wrapped(nn.Module):
    """A network or suffix that takes its inputs as arguments; Accelerate edits this and not the model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.inner(inputs[0] if len(inputs) == 1 else inputs)


def _ran_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the device's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """Run a block with cuDNN's repeatable algorithms. A processor's kernels repeat already."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Run a block with a model's images and filters in the order in which convolutions are quickest.

    Afterwards each tensor has its own order in memory again: predictions round alike before and after. A
    model that counts on the usual order, as `x.view(len(x), -1)` does, keeps it.
    """
    if not _takes_channels_last(model):
        yield
        return

    def tensors() -> list[tuple[str, torch.Tensor]]:
        return [*model.named_parameters(), *model.named_buffers()]

    before = {name: tensor.stride() for name, tensor in tensors() if tensor.dim() == 4}
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        for name, tensor in tensors():
            if name in before and tensor.stride() != before[name]:
                tensor.data = tensor.data.new_empty_strided(tensor.shape, before[name]).copy_(tensor.data)


def _takes_channels_last(model: nn.Module) -> bool:
    """Try it on a copy."""
    size = models.info(model).input_size
    images = torch.zeros(2, *size, dtype=dtype_of(model), device=device_of(model))
    try:
        with twin(model) as copy, torch.no_grad():
            copy(images.to(memory_format=torch.channels_last))
    except Exception:
        return False
    return True


class _JointBatchNorm(TorchFunctionMode):
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
    wide = x if x.dtype == torch.float64 else x.float()
    sums: torch.Tensor = _AllSum.apply(
        torch.cat([wide.sum(places), wide.new_tensor([x.numel() / x.shape[1]])])
    )
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    # Around the joint mean, not as E[x²] - E[x]²: that difference loses the digits that matter.
    var: torch.Tensor = _AllSum.apply(centred.square().sum(places)) / count
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
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad
