"""Custom backward rules for ReLU, whichever way a model spells it."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _RuledReLU(torch.autograd.Function):
    """A ReLU between 0 and `top` whose way back follows a rule; in place where the original was."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float | None, rule: str, inplace: bool) -> Tensor:
        # A bounded ReLU is min(ReLU(x), top): the rule is for the ReLU, the minimum keeps its own derivative.
        passes = torch.ones_like(x, dtype=torch.bool) if top is None else x < top
        ctx.save_for_backward(passes & (x > 0) if rule == "guided" else passes)
        if inplace:
            ctx.mark_dirty(x)
            return x.clamp_(0, top)
        return x.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (passes,) = ctx.saved_tensors
        return gradient.clamp(min=0) * passes, None, None, None


def _relu_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[float | None, bool] | None:
    """Return (upper bound, in place?) when this call is a ReLU in any spelling, else None."""
    if func in (torch.relu, Tensor.relu, torch.relu_, Tensor.relu_):
        return None, func in (torch.relu_, Tensor.relu_)
    if func in (F.relu, F.relu6):
        return (6.0 if func is F.relu6 else None), bool(
            args[1] if len(args) > 1 else kwargs.get("inplace", False)
        )
    if func in (F.hardtanh, F.hardtanh_):
        named = dict(zip(("min_val", "max_val", "inplace"), args[1:], strict=False)) | kwargs
        if named.get("min_val", -1.0) == 0:
            return named.get("max_val", 1.0), func is F.hardtanh_ or bool(named.get("inplace", False))
    if func in (
        torch.clamp,
        Tensor.clamp,
        torch.clamp_,
        Tensor.clamp_,
        torch.clip,
        Tensor.clip,
        Tensor.clip_,
    ):
        named = dict(zip(("min", "max"), args[1:], strict=False)) | kwargs
        low, high = named.get("min"), named.get("max")
        if isinstance(low, int | float) and low == 0 and (high is None or isinstance(high, int | float)):
            return high, func in (torch.clamp_, Tensor.clamp_, Tensor.clip_)
    at_least = func in (torch.clamp_min, Tensor.clamp_min, torch.clamp_min_, Tensor.clamp_min_)
    if at_least and (args[1] if len(args) > 1 else kwargs.get("min")) == 0:
        return None, func in (torch.clamp_min_, Tensor.clamp_min_)
    return None


class relu_rule(TorchFunctionMode):
    """`with relu_rule("guided") as rule:` every ReLU *call* passes gradients back by that rule;
    `rule.calls` counts them.

    "guided" lets through what is positive and came through an open ReLU (Springenberg et al. 2015);
    "deconvnet" what is positive (Zeiler and Fergus 2014). It acts on calls and not on modules: functional,
    in-place and shared ReLUs, ReLU6 and clamps at zero are all the same to it, and the model is not
    touched.
    """

    def __init__(self, rule: str):
        super().__init__()
        self.rule, self.calls = rule, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = _relu_call(func, args, kwargs)
        x = args[0] if args else kwargs.get("input")
        if call is None or not isinstance(x, Tensor) or not x.requires_grad:
            return func(*args, **kwargs)
        self.calls += 1
        return _RuledReLU.apply(x, call[0], self.rule, call[1])
