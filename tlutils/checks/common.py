"""What the checks of all lessons share: stable words for a result, a guess compared, an exercise judged.

A check of a function computes the right answer and those of the usual mistakes on a small example, so a
mistake is recognised by what comes out, however it is written.
"""

import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from ..intervals import Difference, Estimate


class Mistake(AssertionError):
    """What a check of an assignment raises: its message names the mistake, and a notebook shows that alone.

    Example:
        >>> from tlutils import checks
        >>> raise checks.Mistake("The head still has 1,000 outputs.")
        Traceback (most recent call last):
        tlutils.checks.Mistake: The head still has 1,000 outputs.
    """

    __module__ = "tlutils.checks"

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


# What to say of a mistake -> the answer that it gives, or several such answers.
Mistakes = Mapping[str, Tensor | tuple[Tensor, ...]]


def show_value(name: str, value: float) -> None:
    """Print what was measured once, without an interval: its last digits differ on another processor.

    A committed lesson is compared with a fresh run (`notebooks/conftest.py`), and a value that is marked so
    may lie a tenth beside the committed one. Where there is an interval, print the `Estimate` instead.

    Args:
        name: What was measured, in words.
        value: The measurement.

    Example:
        >>> from tlutils import checks
        >>> checks.show_value("share of a Gabor filter", 0.8123)
        share of a Gabor filter: 0.812 (one run)
    """
    print(f"{name}: {value:.3f} (one run)")


def compare_guess(guess: float | None, value: float | Estimate | Difference, *, close: float = 0.05) -> None:
    """Print how a number guessed before a run compares with what was measured, and with its interval.

    Args:
        guess: The number that was guessed; None where nothing was written down, and nothing is told then.
        value: The measurement, with its interval where it has one; a `Difference` with its verdict, too.
        close: How far from the measurement is near enough, in the unit of `value`. Within the interval is
            near enough, too.

    Example:
        >>> from tlutils import checks
        >>> from tlutils.intervals import Estimate
        >>> checks.compare_guess(0.9, Estimate(0.7, 0.65, 0.75))
        You said 0.9; measured: 0.700 [0.650, 0.750]. Too high by 0.2. Think why, then read on.
    """
    if guess is None:
        print("No guess written yet. Write one above and run again: predicting first is how this sticks.")
        return
    estimate = value if isinstance(value, Estimate | Difference) else Estimate(value, value, value)
    measured = str(value) if estimate is value else f"{value:.3g}"
    off = guess - estimate.value
    print(f"You said {guess:g}; measured: {measured}. ", end="")
    if abs(off) <= close / 100:
        print("That is it. What made you sure?")
    elif abs(off) <= close or estimate.low <= guess <= estimate.high:
        print(f"{abs(off):.2g} off: within reach. What made you sure?")
    else:
        print(f"Too {'high' if off > 0 else 'low'} by {abs(off):.2g}. Think why, then read on.")


def compare_choice(guess: object, answer: object) -> None:
    """Print how a guessed word, name or True/False compares with what was found.

    Args:
        guess: What was guessed; None where nothing was written down.
        answer: What was found, or a set of all that are right.

    Example:
        >>> from tlutils import checks
        >>> checks.compare_choice("pca", "tsne")
        You said pca; it is tsne. Think why, then read on.
    """
    right = sorted(map(str, answer)) if isinstance(answer, set | frozenset) else [str(answer)]
    if guess is None:
        print("No guess written yet. Write one above and run again: predicting first is how this sticks.")
    elif [str(guess)] == right:
        print(f"You said {guess}, and so it is.")
    elif str(guess) in right:
        others = " or ".join(name for name in right if name != str(guess))
        print(f"You said {guess}. So it may be, or {others}: these images do not tell them apart.")
    else:
        print(f"You said {guess}; it is {' or '.join(right)}. Think why, then read on.")


_OTHER_SHAPES = "must match", "broadcast", "cannot be multiplied", "not aligned", "core dimension"

_OTHER_AXIS = (
    "Two shapes do not fit: was something taken along the other axis (0 goes down the rows, 1 along each of "
    "them), or not taken at all? print(x.shape) tells."
)


def attempt(function: Callable[..., object] | None, *inputs: object, todo: str) -> object:
    """Return what `function(*inputs)` gives. Where that is nothing, or an error, say so and return None.

    `todo` says what is asked for. Who wrote lines and no `return` is not told that nothing was done.
    """
    try:
        found = None if function is None else function(*inputs)
    except Exception as error:  # a learner's lines may stop in any way, and none of them ends the lesson
        why = (str(error).splitlines() or ["no reason given"])[0]
        hint = f"{_OTHER_AXIS} " if any(words in why for words in _OTHER_SHAPES) else ""
        print(f"Your lines stopped with {type(error).__name__}: {why}. {hint}{todo}")
        return None
    if found is None:
        print(f"{say_nothing_came(function)} {todo}")
    return found


def say_nothing_came(function: Callable[..., object] | None) -> str:
    """Return what to say where nothing came back: a function without lines, but for `...`, is unanswered."""
    lines = inspect.unwrap(getattr(function, "forward", function or _empty))  # a module's are in `forward`
    code = getattr(lines, "__code__", None)
    if code and code.co_code[::2] == _empty.__code__.co_code[::2]:  # every second byte: what is done
        return "Not answered yet."
    return "Nothing came back: return it."


def _empty() -> None: ...


def judge(found: object, right: Tensor, mistakes: Mistakes, *, praise: str, close: float = 1e-5) -> None:
    """Print `praise` where `found` is `right`, else which of the `mistakes` it is; nothing for None.

    `close` is how far a number may be off, as a share of the largest one.
    """
    if found is None:
        return
    if is_close(found, right, close):
        print(f"Right: {praise}")
        return
    seen = [
        text
        for text, wrong in mistakes.items()
        if any(is_close(found, one, close) for one in (wrong if isinstance(wrong, tuple) else (wrong,)))
    ]
    try:
        shape = str(tuple(torch.as_tensor(found).shape))
    except (TypeError, ValueError, RuntimeError):
        shape = type(found).__name__
    if seen:
        print(seen[0])
    elif shape == str(tuple(right.shape)):
        print("Not yet: the shape is right and the numbers are not. Try it on a small example, by hand.")
    else:
        wanted = f"shape {tuple(right.shape)}" if right.ndim else "one number"
        print(f"Not yet. Expected {wanted}, and got {shape}.")


def judge_number(
    answer: float | None,
    right: float,
    mistakes: Mapping[float, str],
    *,
    todo: str,
    praise: str,
    hint: str,
    rtol: float = 1e-5,
) -> None:
    """Print `praise` where `answer` is `right`, what the mistake was that leads to it, or else `hint`.

    `todo` says what is asked for where `answer` is None; `rtol` is how far it may be off, as a share.
    """
    if answer is None:
        print(f"Not answered yet. {todo}")
    elif not isinstance(answer, int | float | np.number):
        print(f"Not yet: a {type(answer).__name__} arrived, and one number was expected. {todo}")
    elif np.isclose(answer, right, rtol=rtol):
        print(f"Right: {praise}")
    else:
        seen = [text for wrong, text in mistakes.items() if np.isclose(answer, wrong, rtol=rtol)]
        print(seen[0] if seen else f"Not yet. {hint}")


def judge_effects(mistakes: Mapping[str, bool], *, praise: str) -> None:
    """Print the first of the `mistakes` that was made, else `praise`."""
    print(next((text for text, made in mistakes.items() if made), f"Right: {praise}"))


def is_close(found: object, wanted: Tensor, close: float = 1e-5) -> bool:
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


def require(mistakes: Mapping[str, bool], *, praise: str) -> None:
    """Print `praise`, or raise `Mistake` with the first of the `mistakes` that was made."""
    if made := next((text for text, is_made in mistakes.items() if is_made), None):
        raise Mistake(made)
    print(f"Right: {praise}")


def answer(function: Callable[..., object], *inputs: object, todo: str) -> object:
    """Return what `function(*inputs)` gives; raise `Mistake` where it stops or gives nothing.

    Warnings and words of the function are not shown: a grader would take a warning for a failure.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            found = function(*inputs)
        except NotImplementedError as error:
            raise Mistake(f"Not answered yet. {todo}") from error
        except Exception as error:
            why = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
            raise Mistake(f"Your lines stopped with {type(error).__name__}: {why}. {todo}") from error
    if found is None:
        raise Mistake(f"Nothing came back. {todo}")
    return found
