"""A low-rank update of a layer, as LoRA makes it."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ... import runtime
from ..common import attempt, is_close


def check_low_rank(build: Callable[[nn.Linear, int], nn.Module] | None) -> None:
    """Print whether a module adds a low-rank update to a frozen linear layer, or what it does instead.

    Args:
        build: The learner's class, called as `build(linear, rank)`.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_08
        >>> class BothRandom(nn.Module):
        ...     def __init__(self, linear, rank):
        ...         super().__init__()
        ...         self.linear = linear.requires_grad_(False)
        ...         self.down = nn.Linear(linear.in_features, rank, bias=False)
        ...         self.up = nn.Linear(rank, linear.out_features, bias=False)
        ...
        ...     def forward(self, x):
        ...         return self.linear(x) + self.up(self.down(x))
        >>> lesson_08.check_low_rank(BothRandom)
        At the start it does not give what the old layer gives: B has to begin at zero.
    """
    todo = "Return W x + b + B A x, (n, outputs)."
    with runtime.seeded(0):
        linear, x, rank = nn.Linear(6, 5), torch.randn(7, 6), 2
        old = copy.deepcopy(linear).requires_grad_(False)
        layer = attempt(build, linear, rank, todo=todo)
        if layer is None:
            return
        if not isinstance(layer, nn.Module):
            print(f"Not yet: a {type(layer).__name__} arrived. Expected an nn.Module.")
            return
        out = attempt(layer, x, todo=todo)
        if out is None:
            return
        fault = _fault_of_update(layer, linear, old, out, x, rank)
    print(fault or "Right: it begins as the old layer, and what it may learn has a rank of two.")


def _fault_of_update(
    layer: nn.Module, linear: nn.Linear, old: nn.Linear, out: Any, x: Tensor, rank: int
) -> str | None:
    """Return what is wrong with a layer that should be `linear`, as it was in `old`, and an update."""
    if not isinstance(out, Tensor) or out.shape != (len(x), linear.out_features):
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        return f"Seven rows give {shape}. Expected {(len(x), linear.out_features)}."
    if not torch.equal(linear.weight.detach(), old.weight):
        return "The weight of the layer that arrived was changed. It stays as it is, and B A x is added."
    free = [p for p in layer.parameters() if p.requires_grad]
    if any(p is linear.weight or p.shape == (linear.out_features, linear.in_features) for p in free):
        return "A whole matrix trains, as large as W. Freeze W; only A and B train."
    if any(p is linear.bias for p in free):
        return "The old bias still trains: freeze the whole layer, linear.requires_grad_(False)."
    if not free:
        return "Nothing trains: make A and B an nn.Parameter each, or an nn.Linear without bias."
    count, wanted = sum(p.numel() for p in free), rank * (linear.in_features + linear.out_features)
    if count in (wanted + rank, wanted + linear.out_features, wanted + rank + linear.out_features):
        return "The new layers have biases. A and B are matrices: give bias=False."
    if count != wanted:
        return f"{count} parameters train. Expected rank × (inputs + outputs), here {wanted}."
    if not is_close(out, old(x)):
        if is_close(out, torch.zeros_like(out)):
            return "The old layer's output is missing: B A x is added to it."
        return "At the start it does not give what the old layer gives: B has to begin at zero."
    with torch.enable_grad():
        slopes = torch.autograd.grad(layer(x).square().sum(), free, allow_unused=True)
    if all(slope is None or not slope.any() for slope in slopes):
        return (
            "Nothing will ever move: A and B both begin at zero, and the gradient of each is a multiple of "
            "the other. Start A at random."
        )
    down = next((p for p in free if linear.in_features in p.shape), None)
    if down is not None and not down.any():
        return "A begins at zero and B at random. It would train as well, but the paper's way is the reverse."
    return _fault_of_free_update(layer, old, free, x, rank)


def _fault_of_free_update(
    layer: nn.Module, old: nn.Linear, free: Sequence[nn.Parameter], x: Tensor, rank: int
) -> str | None:
    """Return what is wrong with the update of a layer once all that trains was moved."""
    with torch.no_grad():
        for parameter in free:
            nn.init.normal_(parameter)
        both, opposite = (layer(sign * x) - old(sign * x) for sign in (1, -1))
        if not is_close(both, -opposite):
            return (
                "There is something between A and B that is not linear. Such an update cannot be added to W."
            )
        down, up = (next(p for p in free if n in p.shape) for n in (old.in_features, old.out_features))
        a, b = (p if p.shape[0] == n else p.T for p, n in ((down, rank), (up, old.out_features)))
        wanted = x @ a.T @ b.T
    if is_close(both, wanted):
        return None
    factor = float((both * wanted).sum() / wanted.square().sum())
    if is_close(both, factor * wanted):
        return f"The update is B A x times {factor:.2g}. Add it as it is."
    return "What is added is not B A x, once A and B have moved. Try it with numbers of your own."
