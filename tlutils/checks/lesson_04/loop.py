"""The finetuning loop: what each of its steps saw."""

import math
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ... import runtime
from ..common import attempt, judge_effects

LOOP_TODO = "Fill the gap: what happens in each epoch, and in each batch of it."


STEP_FIRST = "step() comes before backward(): there is no gradient of this batch yet."


class _Watched:
    """A small network with BatchNorm that notes each forward pass, and each optimizer step that moves it."""

    def __init__(self) -> None:
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 3)
        convolution = nn.Conv2d(3, 4, 3, bias=False)
        body = [convolution, self.norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.model = nn.Sequential(*body, self.head).eval()  # so that the learner's train() matters
        self.x, self.y = torch.randn(10, 3, 6, 6), torch.arange(10) % 3
        self.rows: list[Tensor] = []  # of each forward pass
        self.modes: list[tuple[bool, bool]] = []  # of the network and of BatchNorm, in each forward pass
        self.grads: list[Tensor | None] = []  # at each step
        self.wanted: list[Tensor] = []  # what the gradient should have been at each step
        self.summed: list[Tensor] = []  # what it would have been if the loss were a sum
        self.losses: list[float] = []
        self.rates: list[tuple[float, float]] = []  # of the first weights and of the head, at each step

    def trained(self) -> list[nn.Parameter]:
        return [self.model[0].weight, self.head.weight, self.head.bias]  # type: ignore[list-item]

    def forward_hook(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        same = inputs[0].flatten(1)[:, None] == self.x.flatten(1)
        self.rows.append(same.all(-1).int().argmax(1))
        self.modes.append((self.model.training, self.norm.training))

    def step_hook(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self.rows:
            return
        rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        self.rates.append((rate.get(id(self.trained()[0]), 0.0), rate.get(id(self.head.weight), 0.0)))
        grads = [p.grad for p in self.trained()]
        known = [grad.flatten() for grad in grads if grad is not None]
        self.grads.append(torch.cat(known) if len(known) == len(grads) else None)
        x, y = self.x[self.rows[-1]], self.y[self.rows[-1]]
        feature = F.batch_norm(
            F.conv2d(x, self.trained()[0]),
            self.norm.running_mean,
            self.norm.running_var,
            self.norm.weight,
            self.norm.bias,
            eps=self.norm.eps,
        )
        loss = F.cross_entropy(self.head(feature.relu().mean((2, 3))), y)
        self.losses.append(loss.item())
        wanted = torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.trained())])
        self.wanted.append(wanted)
        self.summed.append(wanted * len(y))


def check_loop(loop: Callable[..., Any] | None) -> None:
    """Print whether a loop finetunes a network that has BatchNorm, or which mistake it makes.

    It runs for three epochs on ten images in batches of four; each step's gradient and rates are looked at.

    Args:
        loop: The learner's `loop(model, head, x, y, *, epochs, lr, head_lr, batch)`: it trains all but
            BatchNorm with AdamW, whose rates rise in the first tenth of the steps and then fall along half a
            cosine, and returns the loss of each step.

    Example:
        >>> from tlutils.checks import lesson_04
        >>> lesson_04.check_loop(lambda model, head, x, y, **settings: [model(x).sum().item()])
        Nothing moves: optimizer.step() is missing.
    """
    epochs, batch, lr, head_lr = 3, 4, 0.01, 0.05
    with runtime.seeded(0), warnings.catch_warnings():
        seen = _Watched()
        averages, scale = seen.norm.running_mean.clone(), seen.norm.weight.clone()  # type: ignore[union-attr]
        hooks = [
            seen.model.register_forward_pre_hook(seen.forward_hook),
            register_optimizer_step_pre_hook(seen.step_hook),
        ]

        def run() -> Any:
            try:
                warnings.simplefilter("ignore")  # of a schedule that is a step ahead
                return loop(  # type: ignore[misc]
                    seen.model,
                    seen.head,
                    seen.x,
                    seen.y,
                    epochs=epochs,
                    lr=lr,
                    head_lr=head_lr,
                    batch=batch,
                )
            except RuntimeError:
                if seen.grads and seen.grads[0] is None:
                    return STEP_FIRST  # autograd's own words are that a weight changed too early
                raise

        found = attempt(loop and wraps(loop)(run), todo=LOOP_TODO)
        for hook in hooks:
            hook.remove()
    if found is None:
        return
    if found is STEP_FIRST:
        print(STEP_FIRST)
        return
    if not seen.rows:
        print(f"Not answered yet. {LOOP_TODO}")
        return
    n, per_epoch = len(seen.x), -(-len(seen.x) // batch)
    steps = epochs * per_epoch
    taken = [seen.rows[k : k + per_epoch] for k in range(0, len(seen.rows), per_epoch)]
    orders = [torch.cat(rows).tolist() for rows in taken]
    factors = [_factor(step, steps) for step in range(steps)]
    right = [(f * lr, f * head_lr) for f in factors]
    by_epoch = [(_factor(k // per_epoch, steps)) for k in range(steps)]

    def rates_are(wanted: list[float]) -> bool:
        pairs = [(f * lr, f * head_lr) for f in wanted]
        return len(pairs) == len(seen.rates) and np.allclose(pairs, seen.rates, rtol=1e-4)

    def grads_are(wanted: list[Tensor]) -> bool:
        grads = [grad for grad in seen.grads if grad is not None]
        return len(grads) == len(wanted) and all(map(_near, grads, wanted))

    sums = list(torch.stack(seen.wanted).cumsum(0)) if seen.wanted else []
    mistakes = {
        "Nothing moves: optimizer.step() is missing.": not seen.grads,
        "step() without a gradient: loss.backward() is missing, comes after it, or zero_grad() stands "
        "between the two.": any(grad is None or not grad.any() for grad in seen.grads),
        "The network trains in evaluation mode: model.train() first, then BatchNorm frozen.": not all(
            mode for mode, _ in seen.modes
        ),
        "BatchNorm is in training mode: freeze it after model.train(), which lets it go.": seen.modes[0][1],
        "BatchNorm is frozen in the first epoch and not in the next: train() lets it go, so freeze it again "
        "in each epoch.": any(held for _, held in seen.modes),
        f"{len(seen.rows)} batches, where {epochs} epochs of {per_epoch} were asked for. The last of an "
        "epoch is shorter, and counts.": len(seen.rows) != steps,
        f"{len(seen.grads)} steps for {steps} batches: one for each.": len(seen.grads) != steps,
        "A batch has more than `batch` images.": max(map(len, seen.rows)) > batch,
        "Some images come twice in an epoch, and others not at all: cut one permutation into batches.": any(
            sorted(order) != list(range(n)) for order in orders
        ),
        "The images come in the order in which they lie: shuffle them.": orders[0] == list(range(n)),
        "The same order in every epoch: draw a new one inside the loop over epochs.": orders[:1]
        == orders[1:2],
        "The loss is a sum over the batch: take the mean, or the rates mean something else.": grads_are(
            seen.summed
        ),
        "The gradients of earlier batches are still there: zero_grad() before each backward().": (
            len(seen.grads) > 1 and seen.grads[1] is not None and _near(seen.grads[1], _kept(seen))
        )
        or grads_are(sums),
        "The gradient is not that of cross_entropy for these images: do x and y take the same rows, and does "
        "the loss take logits?": not grads_are(seen.wanted),
        "The rates stay what they were in the first step: schedule.step() is missing.": rates_are(
            [factors[0]] * steps
        ),
        "The schedule counts epochs, and was made for steps: schedule.step() after each optimizer.step().": (
            rates_are(by_epoch)
        ),
        "The schedule is a step ahead: schedule.step() comes after optimizer.step().": rates_are(
            [*factors[1:], 0.0]
        ),
        "The rates of the steps are not those of the schedule and the two groups.": not (
            len(right) == len(seen.rates) and np.allclose(right, seen.rates, rtol=1e-4)
        ),
        "BatchNorm's averages, scale or shift moved.": not (
            torch.equal(averages, seen.norm.running_mean)  # type: ignore[arg-type]
            and torch.equal(scale, seen.norm.weight)
        ),
    }
    if not any(mistakes.values()):
        mistakes = _faults_of_losses(found, seen.losses)
    judge_effects(mistakes, praise="you have written what `train.fit` does.")


def _factor(step: int, steps: int) -> float:
    """What the rates are multiplied by: up in the first tenth of the steps, then down along half a cosine."""
    warm = round(0.1 * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def _near(one: Tensor, two: Tensor) -> bool:
    return torch.allclose(one, two, atol=1e-5)


def _kept(seen: _Watched) -> Tensor:
    """The second step's gradient where the first's was not taken away."""
    return seen.wanted[0] + seen.wanted[1]


def _faults_of_losses(found: Any, wanted: list[float]) -> dict[str, bool]:
    """What may be wrong with the losses that a loop returns, and whether it is."""
    try:
        kept = [isinstance(loss, Tensor) and loss.requires_grad for loss in found]
        losses = [float(torch.as_tensor(loss).detach()) for loss in found]
    except (TypeError, ValueError, RuntimeError):
        return {"Return a list: the loss of each step.": True}
    return {
        "A tensor holds on to its whole graph: note loss.item().": any(kept),
        f"{len(losses)} losses came back for {len(wanted)} steps: note each.": len(losses) != len(wanted),
        "The losses that came back are not those of the steps.": (
            len(losses) == len(wanted) and not np.allclose(losses, wanted, atol=1e-4)
        ),
    }
