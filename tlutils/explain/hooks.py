"""Looking into a model without leaving a trace: checked input, eval mode, captured outputs.

Everything here is a context manager or a pure function. Modes, gradients, flags and hooks of the user's
model are the same afterwards, also after an error.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from .. import models, surgery
from ..errors import LearnerError, unknown
from ..inference import device_of, dtype_of, evaluating, in_float32, logits_of, require_module

log = logging.getLogger("tlutils")

_expects_empty = ContextVar("expects_empty", default=False)

Target = int | Sequence[int] | Tensor | None


@contextmanager
def examining(model: nn.Module, *batches: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield (bare model in eval mode, *checked batches), with gradients recorded, also inside `no_grad`.

    Weights of 16 bits are held in 32, since small gradients vanish in 16: maps are then float32.
    """
    with (
        evaluating(model) as bare,
        torch.inference_mode(False),
        torch.enable_grad(),
        in_float32(bare),
        surgery.assume_unchanged(),
    ):
        yield bare, *(checked_batch(bare, x) for x in batches)


def checked_batch(model: nn.Module, x: Tensor) -> Tensor:
    """Return a copy of a batch, on the model's device and in its precision, after checking that it is one.

    The copy lies in memory in the order of its shape: nothing depends on the layout that arrived.

    Args:
        model: The model that will read it.
        x: A preprocessed batch (N, C, H, W).

    Raises:
        LearnerError: If it is not a finite, floating-point batch with the model's channels and size.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> explain.checked_batch(model, torch.zeros(2, 3, 16, 16) / 0)
        Traceback (most recent call last):
        tlutils.errors.LearnerError: x has NaN or infinite pixels in image 0, 1. ...
    """
    size = models.info(require_module(model)).input_size
    wanted = f"Expected a preprocessed batch (N, {size[0]}, {size[1]}, {size[2]})"
    if not isinstance(x, Tensor):
        raise LearnerError(
            f"x is a {type(x).__name__}. {wanted} as a torch.Tensor: "
            "`data.transform_for(model)(image)[None]` makes one from a picture."
        )
    models.check_input(model, x)
    if 0 in x.shape:
        raise LearnerError(f"x has shape {tuple(x.shape)}, so it is empty. {wanted}.")
    if not x.is_floating_point():
        raise LearnerError(
            f"x has {x.dtype} values. {wanted}, scaled and normalised: `data.transform_for(model)` does that."
        )
    bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise LearnerError(
            f"x has NaN or infinite pixels in image {', '.join(map(str, bad[:8]))}. Every pixel must be a "
            "finite number: look at how these images were read or normalised (a standard deviation of 0 "
            "does this)."
        )
    x = x.detach().clone(memory_format=torch.contiguous_format)
    return x.to(device_of(model), dtype_of(model))


def run_model(module: Callable[[Tensor], Any], x: Tensor, model: nn.Module) -> Any:
    """Return module(x); what torch says about a size that does not fit becomes a LearnerError."""
    try:
        return module(x)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        if isinstance(error, LearnerError):
            raise
        size = models.info(model).input_size
        raise LearnerError(
            f"The model could not run on a batch of shape {tuple(x.shape)}: "
            f"{str(error).partition(chr(10))[0]} "
            f"It was made for images of {size[1]}×{size[2]} pixels; resize with `data.transform_for(model)`."
        ) from error


def compute_scores(model: nn.Module, x: Tensor) -> Tensor:
    """Return the unnormalised class scores (N, K) of the bare model; a size it cannot take is a
    LearnerError.
    """
    return logits_of(run_model(model, x, model))


def read_layouts(model: nn.Module, like: Tensor) -> dict[str, str]:
    """Return `surgery.module_layouts` for images of the size of the batch `like`."""
    return run_model(lambda x: surgery.module_layouts(model, x), like, model)


def score_classes(model: nn.Module, x: Tensor, target: Target = None) -> tuple[Tensor, Tensor]:
    """Return the unnormalised class scores (N, K) of a batch, and the class of each image to explain (N,).

    Args:
        model: An image classifier; it and its gradients stay as they were.
        x: A preprocessed batch (N, C, H, W).
        target: The class to explain: one, one per image, or None for the class that the model finds.

    Raises:
        LearnerError: If there is no such class, or the batch is not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> scores, index = explain.score_classes(model, torch.randn(5, 3, 16, 16), target=1)
        >>> scores.shape, index
        (torch.Size([5, 2]), tensor([1, 1, 1, 1, 1]))
    """
    with examining(model, x) as (model, x), torch.no_grad():
        out = compute_scores(model, x)
        return out, resolve_target(target, out)


def parse_indices(name: str, value: object) -> Tensor:
    """Return whole numbers as a tensor (n,); anything else is a LearnerError that calls it `name`."""
    try:
        index = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        index = None
    if (
        index is None
        or index.is_floating_point()
        or index.dtype == torch.bool
        or index.ndim > 1
        or not index.numel()
    ):
        raise LearnerError(f"{name} is {value!r}. Expected a whole number, or several in a list.")
    return index.flatten().long()


def resolve_target(target: Target, out: Tensor) -> Tensor:
    """Return the class (N,) to explain for each row of the scores `out` (N, K): the highest one for None."""
    count, classes = out.shape
    if target is None:
        return out.detach().argmax(1)
    index = parse_indices("target", target).to(out.device)
    if len(index) not in (1, count):
        raise LearnerError(
            f"target has {len(index)} classes for {count} images. Expected one, or one per image."
        )
    index = index.expand(count)
    wrong = index[(index < 0) | (index >= classes)].tolist()
    if wrong:
        raise LearnerError(
            f"There is no class {wrong[0]}: this model has {classes} classes, 0 to {classes - 1}."
        )
    return index


def select_scores(out: Tensor, index: Tensor) -> Tensor:
    """Return the score (N,) of class `index` (N,) in each row of `out` (N, K)."""
    return out.gather(1, index[:, None])[:, 0]


def compute_gradient(score: Tensor, at: Tensor, *, retain_graph: bool = False) -> Tensor:
    """Return d score / d at; raise LearnerError where the model lets no gradient pass."""
    found = None
    if score.requires_grad:
        try:
            found = torch.autograd.grad(score, at, retain_graph=retain_graph, allow_unused=True)[0]
        except RuntimeError as error:  # re-entrant checkpointing, say, or a value changed in place
            raise LearnerError(
                f"No gradient comes back from the scores. Torch says: {error} Change the model there, or use "
                "explain.occlusion, which needs none."
            ) from error
    if found is None:
        raise LearnerError(
            "No gradient comes back from the scores: the model has quantised layers, computes without "
            "gradients (torch.no_grad, detach, argmax), or does not look at the image. Use the model before "
            "quantisation, or explain.occlusion, which needs none."
        )
    return found


def say_empty(
    maps: Tensor, method: str, reason: str = "no pixel moves the score of the class. Another may show more."
) -> Tensor:
    """Return `maps` (N, …) as they are; the log says of which images they are zero everywhere, and why."""
    empty = (maps == 0).flatten(1).all(1).nonzero().flatten().tolist()
    if empty and not _expects_empty.get():
        log.warning("%s is zero everywhere for image %s: %s", method, ", ".join(map(str, empty[:8])), reason)
    return maps


@contextmanager
def expecting_empty() -> Iterator[None]:
    """Run a block in which `say_empty` says nothing."""
    token = _expects_empty.set(True)
    try:
        yield
    finally:
        _expects_empty.reset(token)


class Reader:
    """Gives {name: what leaves there} for a preprocessed batch (N, C, H, W); gradients flow back to it.

    A name is a stage (`surgery.stages`) or a module (`named_modules`; one that is called several times
    gives its last output). The tensors are the true outputs: a later in-place ReLU does not change them.
    `with_scores` adds the class scores of the same pass under "scores". `layouts` says of each name which
    dimensions are channels, height and width, as `surgery.Stage.layout` does. Raises LearnerError for an
    unknown name, and where no single tensor leaves.
    """

    def __init__(self, model: nn.Module, at: str | Sequence[str], *, like: Tensor, with_scores: bool = False):
        if not at:
            raise LearnerError(
                f"at is {at!r}. Expected the name of a stage or a list of names, for example at=['stage1']."
            )
        at = [at] if isinstance(at, str) else list(at)
        self.model, self.at, self.with_scores = model, at, with_scores
        modules = dict(model.named_modules())
        try:
            known = stages(model, like)
        except LearnerError:
            if any(name not in modules for name in at):
                raise
            known = surgery.Stages()  # modules can be read in a model that surgery cannot follow
        self.stages = known.names
        for name in at:
            if name not in self.stages and name not in modules:
                every = [*self.stages, *modules]
                raise unknown("stage", name, every, hint=f"The stages are {', '.join(self.stages)}.")
        self.inside = {name: modules[name] for name in at if name not in self.stages}
        staged = [name for name in at if name in self.stages]
        self.layouts = read_layouts(model, like) if self.inside else {}
        self.layouts |= {name: known[name].layout for name in staged}
        if staged and with_scores:
            staged.append(self.stages[-1])
        self.outputs = (
            surgery.outputs(model, list(dict.fromkeys(staged)), input_size=_size(like)) if staged else None
        )

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if self.inside:
            with ExitStack() as hooks:
                for name, module in self.inside.items():
                    hooks.callback(module.register_forward_hook(_keeper(found, name)).remove)
                found["scores"] = compute_scores(self.model, x)
        if self.outputs is not None:
            found |= run_model(self.outputs, x, self.model)
            if self.with_scores:
                found["scores"] = logits_of(found[self.stages[-1]])
        for name in self.at:
            if not isinstance(found.get(name), Tensor):
                raise LearnerError(
                    f"No single tensor leaves {name!r}. Choose another of {', '.join(self.stages)}."
                )
        return {name: found[name] for name in ([*self.at, "scores"] if self.with_scores else self.at)}


def stages(model: nn.Module, like: Tensor) -> surgery.Stages:
    """Return `surgery.stages` for images of the size of the batch `like`."""
    return surgery.stages(model, input_size=_size(like))


def _size(like: Tensor) -> tuple[int, int, int]:
    return like.shape[1], like.shape[2], like.shape[3]


def _keeper(found: dict[str, Tensor], name: str) -> Callable[..., object]:
    def keep(module: nn.Module, args: tuple[Any, ...], output: object) -> object:
        # What follows gets a copy: it may write into it, and the gradient passes through the one kept.
        found[name] = output  # type: ignore[assignment]
        return output.clone() if isinstance(output, Tensor) else output

    return keep
