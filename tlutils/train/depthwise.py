"""Large depthwise filters on small maps: their gradient, which PyTorch computes slowly on a processor."""

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


class SmallDepthwise(TorchFunctionMode):
    """Computes the weights' gradient of depthwise convolutions on small maps through matrix products.

    An EfficientNet at 64 or 96 pixels spends up to a third of a training step on that gradient, in a few
    late stages whose maps are 2 to 6 pixels wide (`benchmarks/training.py`). Outputs are those of
    `F.conv2d`, and so are gradients, within rounding.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d:
            return _conv2d(*args, **kwargs)
        return func(*args, **kwargs)


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
