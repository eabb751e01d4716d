"""How the function of an exercise is judged: run without a traceback, compared with what it could have given.

Every check computes the right answer and those of the usual mistakes on a small example, so a mistake is
recognised by what comes out, however it is written.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

# What to say of a mistake -> the answer that it gives, or several such answers.
Mistakes = Mapping[str, Tensor | tuple[Tensor, ...]]


def attempt(function: Callable | None, *inputs: object, todo: str) -> object:
    """Return what `function(*inputs)` gives. Where that is nothing, or an error, say so and return None.

    `todo` says what is asked for.
    """
    try:
        found = None if function is None else function(*inputs)
    except Exception as error:  # a learner's lines may stop in any way, and none of them ends the lesson
        why = (str(error).splitlines() or ["no reason given"])[0]
        print(f"Your lines stopped with {type(error).__name__}: {why}. {todo}")
        return None
    if found is None:
        print(f"Not answered yet. {todo}")
    return found


def tell(found: object, right: Tensor, mistakes: Mistakes, *, praise: str, close: float = 1e-5) -> None:
    """Print `praise` where `found` is `right`, else which of the `mistakes` it is.

    `close` is how far a number may be off, as a share of the largest one.
    """
    if alike(found, right, close):
        print(f"Right: {praise}")
        return
    seen = [
        text
        for text, wrong in mistakes.items()
        if any(alike(found, one, close) for one in (wrong if isinstance(wrong, tuple) else (wrong,)))
    ]
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if seen:
        print(seen[0])
    elif shape == tuple(right.shape):
        print("Not yet: the shape is right and the numbers are not. Try it on two numbers, by hand.")
    else:
        print(f"Not yet. Expected shape {tuple(right.shape)}, and {shape} came.")


def alike(found: object, wanted: Tensor, close: float = 1e-5) -> bool:
    """Return whether `found` (a tensor, an array, a number) has the shape and the numbers of `wanted`."""
    try:
        values = torch.as_tensor(found).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        return False
    wanted = wanted.detach().double()
    return values.shape == wanted.shape and torch.allclose(
        values, wanted, rtol=0, atol=close * max(1.0, float(wanted.abs().max()))
    )


def gradient_of(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return d (sum of scores) / d x."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(score(x).sum(), x)[0]
