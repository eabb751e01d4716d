"""Parts of a training step that PyTorch computes slowly on a processor, computed in other ways."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

TAPS, PLACES = 25, 49
"""From so many filter taps on, and up to so many places of a map, the way through matrices is quicker: there
are few pairs of places, and a product of matrices for each channel has the correlation of them all."""


class CpuKernels(TorchFunctionMode):
    """Computes three things of a training step in a quicker way (`benchmarks/training.py` says by how much).

    * The weights' gradient of large depthwise filters on small maps, through matrix products: up to a third
      of a step of an EfficientNet at 64 or 96 pixels, spent in a few late stages with maps of 2 to 6 pixels.
    * ReLU6 in place: PyTorch copies its input first, for the gradient, which the output tells as well.
    * A frozen BatchNorm, whose scale and shift are constants: one product and one sum.

    Outputs are PyTorch's, and so are gradients, within rounding.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _QUICKER.get(func, func)(*args, **(kwargs or {}))


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    if inplace and input.requires_grad:
        return _ClampInPlace.apply(input, min_val, max_val)
    return F.hardtanh(input, min_val, max_val, inplace)


class _ClampInPlace(torch.autograd.Function):
    """`F.hardtanh` in place. Its gradient is 0 where the output is a bound, as the input was or beyond."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.mark_dirty(x)
        ctx.bounds = low, high
        x.clamp_(low, high)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, y, *ctx.bounds), None, None


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    settled = [t for t in (running_mean, running_var, weight, bias) if t is not None and not t.requires_grad]
    frozen = not training and len(settled) == 4
    if frozen and input.requires_grad and {t.dtype for t in settled} == {input.dtype}:
        mean, var, weight, bias = (t.view(-1, *[1] * (input.dim() - 2)) for t in settled)
        scale = weight * torch.rsqrt(var + eps)
        return torch.addcmul(bias - mean * scale, input, scale)
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    depthwise = input.dim() == 4 and 1 < groups == input.shape[1] == len(weight)
    large, small = weight[0].numel() >= TAPS, input.shape[2:].numel() <= PLACES
    pairs = [(v, v) if isinstance(v, int) else tuple(v) for v in (stride, padding, dilation)]
    known = all(len(pair) == 2 for pair in pairs)  # and no name, such as "same"
    exact = not torch.is_autocast_enabled(input.device.type)  # which would have the gradient in two types
    if depthwise and large and small and known and exact and weight.requires_grad:
        return _Depthwise.apply(input, weight, bias, *pairs)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


class _Depthwise(torch.autograd.Function):
    """`F.conv2d` with one filter for each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        stride, padding, dilation = settings
        return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            stride, padding, dilation = ctx.settings
            of_x = conv2d_input(x.shape, weight, grad, stride, padding, dilation, len(weight))
        if ctx.needs_input_grad[1]:
            # (C, places in, B) times (C, B, places out): how each place in goes with each place out.
            before = x.flatten(2).permute(1, 2, 0).contiguous()
            after = grad.flatten(2).permute(1, 0, 2).contiguous()
            pairs = torch.bmm(before, after).flatten(1)
            taps = _taps(tuple(x.shape[2:]), tuple(grad.shape[2:]), tuple(weight.shape[2:]), ctx.settings)
            of_weight = (pairs @ taps.to(pairs)).view_as(weight)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None, None


@cache
def _taps(before: Any, after: Any, filter: Any, settings: Any) -> Tensor:
    """Return (places in × places out, taps): 1 where a tap of the filter joins the two places, else 0."""
    along = []
    for n, out, size, stride, padding, dilation in zip(before, after, filter, *settings, strict=True):
        place, tap = torch.arange(out)[:, None] * stride - padding, torch.arange(size) * dilation
        along.append((torch.arange(n)[:, None, None] == place + tap).float())  # (in, out, tap)
    return torch.einsum("aik,bjl->abijkl", *along).flatten(4).flatten(0, 3)


_QUICKER = {F.conv2d: _conv2d, F.hardtanh: _hardtanh, F.batch_norm: _batch_norm}
