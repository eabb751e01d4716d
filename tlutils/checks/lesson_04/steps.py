"""What surrounds a step: rates by layer, accumulation, a range test, class weights."""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import runtime
from ..common import attempt, is_close, judge_effects


def check_discriminative(discriminative: Callable[..., Any] | None) -> None:
    """Print whether a function gives each layer a learning rate of its own, or which mistake it makes.

    It is tried on four layers, of which one has no parameters.

    Args:
        discriminative: The learner's `discriminative(layers, lr, decay, head_lr)` for a list of modules, the
            head last: optimizer groups, one for each module with parameters.

    Example:
        >>> from tlutils.checks import lesson_04
        >>> def discriminative(layers, lr, decay, head_lr):
        ...     return [{"params": list(layer.parameters()), "lr": lr} for layer in layers]
        >>> lesson_04.check_discriminative(discriminative)
        All layers learn at one rate.
    """
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Linear(5, 2)]
    lr, decay, head_lr = 0.01, 0.5, 0.08
    todo = "Return a list of groups, each a dictionary with params and lr."
    found = attempt(discriminative, list(layers), lr, decay, head_lr, todo=todo)
    if found is None:
        return
    if isinstance(found, torch.optim.Optimizer):
        print(f"An optimizer came back, {type(found).__name__}. Return its groups, the list alone.")
        return
    try:
        optimizer = torch.optim.SGD(found, lr=1.0, momentum=0.9)  # type: ignore[arg-type]
    except Exception as error:  # whatever the learner's groups are
        print(f"An optimizer does not take these groups: {(str(error).splitlines() or ['?'])[0]}")
        return
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    weighted = [layer for layer in layers if list(layer.parameters())]
    missing = [p for layer in layers for p in layer.parameters() if id(p) not in rate]
    if missing:
        print(f"{len(missing)} tensors are in no group: they would never move. Biases and norms count, too.")
        return
    if len({rate[id(p)] for p in weighted[-2].parameters()}) > 1:
        print("Parameters of one layer have different rates: a group is a layer.")
        return
    rates = [rate[id(next(layer.parameters()))] for layer in weighted]

    def are(*wanted: float) -> bool:
        return bool(np.allclose(rates, wanted, rtol=1e-4))

    # Steps of the decay where layers are counted from the head, and from the stem: from 0 or 1, the ReLU too.
    from_head, from_stem = (
        ((2, 1, 0), (3, 2, 0), (3, 2, 1), (4, 3, 1)),
        ((0, 1, 2), (0, 1, 3), (1, 2, 3), (1, 2, 4)),
    )
    mistakes = {
        "All layers learn at one rate.": len(set(rates)) == 1,
        "The wrong way round: count from the head. The layer nearest to it is the fastest, the stem the "
        "slowest.": any(are(*(lr * decay**k for k in counts), head_lr) for counts in from_stem),
        "Faster and faster on the way back: multiply by the decay, do not divide.": are(
            lr / decay**2, lr / decay, lr, head_lr
        ),
        "The ReLU has no parameters and counts for nothing, and here it took a step of the decay.": are(
            lr * decay**3, lr * decay**2, lr, head_lr
        ),
        "The head counts as the first step: the layer before it learns at lr itself.": are(
            lr * decay**3, lr * decay**2, lr * decay, head_lr
        )
        or are(lr * decay**4, lr * decay**3, lr * decay, head_lr),
        "The head has the rate lr: it is new, and has a rate of its own, head_lr.": rates[-1] == lr,
        "The wrong way round: the stem is the slowest. And the head has a rate of its own, head_lr.": (
            are(lr, lr * decay, lr * decay**2, lr * decay**3)
            or are(lr, lr * decay, lr * decay**3, lr * decay**4)
        ),
        "The rates start from head_lr: the layer before the head learns at lr.": are(
            head_lr * decay**3, head_lr * decay**2, head_lr * decay, head_lr
        ),
        "A factor of the number of layers is a product. Each step back multiplies once more: a power.": are(
            lr * decay, lr * decay, lr, head_lr
        )
        or any(
            are(*(lr * decay * k if k else first for k in counts), head_lr)
            for counts in from_head + from_stem
            for first in (0.0, lr)
        ),
        "Not yet. Before the head: lr, lr · decay, lr · decay², ... towards the stem.": not are(
            lr * decay**2, lr * decay, lr, head_lr
        ),
        "The rates are right, and layers share a group: give each layer its own.": (
            len(optimizer.param_groups) != len(weighted)
        ),
    }
    judge_effects(mistakes, praise="the earlier, the slower, and each parameter in one group.")


def _small() -> tuple[nn.Module, Tensor, Tensor]:
    """A network without BatchNorm, ten images and their labels: what is the same in parts and in one."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    return model, torch.randn(10, 6), torch.arange(10) % 3


class _Counted(torch.optim.SGD):
    """An optimizer that counts its steps."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        return super().step(closure)


def check_accumulate(accumulate: Callable[..., Any] | None) -> None:
    """Print whether a function takes one step with gradients of several parts, or which mistake it makes.

    It is tried on ten images in parts of four: the last part is shorter.

    Args:
        accumulate: The learner's `accumulate(model, optimizer, x, y, size)`; it changes the model.

    Example:
        >>> from torch.nn import functional as F
        >>> from tlutils.checks import lesson_04
        >>> def accumulate(model, optimizer, x, y, size):
        ...     optimizer.zero_grad()
        ...     for rows, labels in zip(x.split(size), y.split(size)):
        ...         F.cross_entropy(model(rows), labels).backward()
        ...     optimizer.step()
        >>> lesson_04.check_accumulate(accumulate)
        The gradients of means are added: that is a sum. Weight each part by its share of the images.
    """
    todo = "One optimizer step for the whole batch, in parts of at most `size` images."
    if accumulate is None:
        print(f"Not answered yet. {todo}")
        return
    with runtime.seeded(0):
        model, x, y = _small()
        start = copy.deepcopy(model)
        optimizer = _Counted(model.parameters(), lr=0.5)
        F.cross_entropy(model(torch.randn(4, 6)), torch.arange(4) % 3).backward()  # what was before
        old = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        seen: list[int] = []  # of each forward pass its images, of each backward pass 0
        hooks = [
            model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))),
            next(model.parameters()).register_hook(lambda _: seen.append(0)),
        ]

        def run(*inputs: Any) -> bool:
            accumulate(*inputs)
            return True

        done = attempt(run, model, optimizer, x, y, 4, todo=todo)
        for hook in hooks:
            hook.remove()
        if done is None:
            return

    def like(
        weigh: Callable[[int], float], kept: bool = False, parts: int = 3, softmax: bool = False
    ) -> bool:
        other = copy.deepcopy(start)
        for p, grad in zip(other.parameters(), old, strict=True):
            p.grad = grad.clone() if kept else torch.zeros_like(grad)
        for rows, labels in list(zip(x.split(4), y.split(4), strict=True))[-parts:]:
            logits = other(rows)
            loss = F.cross_entropy(logits.softmax(1) if softmax else logits, labels)
            (loss * weigh(len(labels))).backward()
        torch.optim.SGD(other.parameters(), lr=0.5).step()
        pairs = zip(other.parameters(), model.parameters(), strict=True)
        return all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)

    def share(images: int) -> float:
        return images / 10

    mistakes = {
        "Nothing moved: is there a step()?": optimizer.steps == 0,
        f"{optimizer.steps} steps for one batch: step() comes once, after the last part.": optimizer.steps
        > 1,
        "A part was larger than `size` images: memory would not hold it.": max(seen, default=0) > 4,
        "Not every image took part: is the shorter last part left out?": sum(seen) < 10,
        "Only the last part counts: zero_grad() comes once, before the first part.": like(share, parts=1)
        or like(lambda images: 1.0, parts=1)
        or like(lambda images: 1 / 3, parts=1),
        "The gradients of means are added: that is a sum. Weight each part by its share of the images.": (
            like(lambda images: 1.0)
        ),
        "Each part counts a third, and the last is shorter: weight it by its share of the images.": like(
            lambda images: 1 / 3
        ),
        "That is the sum over the images: divide by their number.": like(float),
        "Gradients from before are still there: zero_grad() first.": like(share, kept=True)
        or like(lambda images: 1.0, kept=True)
        or like(lambda images: 1 / 3, kept=True),
        "cross_entropy takes logits, and makes the softmax itself: yours came twice.": like(
            share, softmax=True
        ),
        "Not yet: the weights are not where one pass over the batch takes them.": not like(share),
        "The weights are right, and the memory is that of all images: a part's graph is kept until its "
        "backward(). So backward() in each part.": any(a and b for a, b in pairwise(seen)),
    }
    judge_effects(mistakes, praise="the memory of four images, and the step of ten.")


def check_range_test(range_test: Callable[..., Any] | None) -> None:
    """Print whether a function makes a learning-rate range test, or which mistake it makes.

    Args:
        range_test: The learner's `range_test(model, x, y, rates)`: a list of losses, each before a step of
            plain SGD at one of the rates, one after another.

    Example:
        >>> from torch.nn import functional as F
        >>> from tlutils.checks import lesson_04
        >>> lesson_04.check_range_test(lambda model, x, y, rates: [F.cross_entropy(model(x), y)] * 4)
        All losses are the same: no step was taken, or each from the start again.
    """
    todo = "Return a list of losses, one for each rate."
    rates = [0.01, 0.1, 1.0, 4.0]
    with runtime.seeded(0):
        model, x, y = _small()
    start = copy.deepcopy(model.eval())
    trains: list[bool] = []  # of each forward pass, also of a copy: whether it is in training mode
    hook = model.register_forward_pre_hook(lambda module, _: trains.append(module.training))
    found = attempt(range_test, model, x, y, list(rates), todo=todo)
    hook.remove()
    if found is None:
        return
    try:
        came = list(found)  # type: ignore[call-overload]
        losses = [float(torch.as_tensor(loss).detach()) for loss in came]
    except (TypeError, ValueError, RuntimeError):
        print(f"Not yet. {todo}")
        return
    if len(losses) != len(rates):
        print(f"{len(losses)} losses came back for {len(rates)} rates.")
        return

    def run(
        steps: list[float], zero: bool = True, momentum: float = 0.0, softmax: bool = False
    ) -> list[float]:
        """The loss before each step, and after the last."""
        other = copy.deepcopy(start)
        optimizer = torch.optim.SGD(other.parameters(), lr=1.0, momentum=momentum)
        seen = []
        for lr in steps:
            logits = other(x)
            loss = F.cross_entropy(logits.softmax(1) if softmax else logits, y)
            seen.append(loss.item())
            if zero:
                optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        return [*seen, F.cross_entropy(other(x), y).item()]

    def are(wanted: list[float]) -> bool:
        return bool(np.allclose(losses, wanted, rtol=1e-4))

    right = run(rates)
    alone = [run([lr])[1] for lr in rates]
    moved = any(not torch.equal(a, b) for a, b in zip(model.parameters(), start.parameters(), strict=True))
    mistakes = {
        "All losses are the same: no step was taken, or each from the start again.": (
            len({round(loss, 6) for loss in losses}) == 1
        ),
        "Each rate began with the start's weights: that is a sweep. The steps come one after another.": are(
            alone
        ),
        "That is the loss after each step: note it before, when the rate has not acted yet.": are(right[1:]),
        "All steps were at the first rate: set it in the optimizer's groups before each step.": are(
            run([rates[0]] * 4)[:-1]
        ),
        "All steps were at the last rate.": are(run([rates[-1]] * 4)[:-1]),
        "The rates came in the reverse order: from small to large, or the first step destroys the rest.": are(
            run(rates[::-1])[:-1]
        ),
        "The gradients of earlier steps are still there: zero_grad().": are(run(rates, zero=False)[:-1]),
        "Momentum carries earlier rates along: plain SGD.": are(run(rates, momentum=0.9)[:-1]),
        "The losses are right, and the model is another one now: work on copy.deepcopy(model). What "
        "`state_dict()` gives is no copy: it holds the weights themselves.": are(right[:-1]) and moved,
        "cross_entropy takes logits, and makes the softmax itself: yours came twice.": are(
            run(rates, softmax=True)[:-1]
        ),
        "Not yet. For each rate: loss, zero_grad, backward, a step at this rate.": not are(right[:-1]),
        "The copy was in training mode, and the model is not: leave it in the mode that it came in.": any(
            trains
        ),
        "A tensor holds on to its whole graph: note loss.item().": any(
            isinstance(loss, Tensor) and loss.requires_grad for loss in came
        ),
    }
    judge_effects(
        mistakes, praise="one short run, and the model as it was. Take a rate below where it rises."
    )


RANGE_TEST = dict(
    zip(
        [10 ** (k / 2) for k in range(-12, -1)],
        [2.386, 2.379, 2.356, 2.290, 2.149, 2.038, 1.881, 3.350, 2.975, 3.384, 7.585],
        strict=True,
    )
)
"""Rate -> loss before the step at it: AdamW on the lesson's network with a random head and 60 digits."""


def check_reading(rate: float | None) -> None:
    """Print whether a rate is a good one to take from the curve `RANGE_TEST`, or what is wrong with it.

    Args:
        rate: The learner's learning rate; None where nothing was answered.

    Example:
        >>> from tlutils.checks import lesson_04
        >>> lesson_04.check_reading(1e-3)
        There the loss is lowest, and the very step at this rate throws it up. Take about a tenth.
    """
    if rate is None:
        print("Not answered yet. Read the curve from left to right: flat, falling, broken.")
        return
    if not isinstance(rate, int | float) or rate <= 0:
        print(f"Not yet: {rate!r} arrived. Expected a number above 0, without quotes, from the x axis.")
        return
    lowest = min(RANGE_TEST, key=lambda tried: RANGE_TEST[tried])
    mistakes = {
        "Here the network is broken already: the loss has shot up.": rate > 2 * lowest,
        "There the loss is lowest, and the very step at this rate throws it up. Take about a tenth.": rate
        > lowest / 2,
        "Here the curve is still nearly flat: you would pay for full finetuning and get little.": rate
        < lowest / 40,
    }
    judge_effects(mistakes, praise="it still falls steadily here, well before it breaks.")


def check_class_weights(class_weights: Callable[..., Any] | None) -> None:
    """Print whether a function weights classes so that each counts alike, or which mistake it makes.

    Args:
        class_weights: The learner's `class_weights(labels, num_classes)`: a tensor, a weight for each class.

    Example:
        >>> import torch
        >>> from tlutils.checks import lesson_04
        >>> lesson_04.check_class_weights(lambda labels, num_classes: 1 / torch.bincount(labels))
        The classes count alike, and the weights of all images do not add up to their number. Multiply by it,
        and divide by the number of classes.
    """
    labels = torch.tensor([0] * 12 + [1] * 3 + [2] * 5)
    counts, todo = torch.bincount(labels).double(), "Return one weight for each class."
    found = attempt(class_weights, labels.clone(), 3, todo=todo)
    if found is None:
        return
    try:
        weights = torch.as_tensor(found).detach().double()
    except (TypeError, ValueError, RuntimeError):
        print(f"Not yet. {todo}")
        return
    if weights.shape != (3,):
        print(f"Shape {tuple(weights.shape)} came back; expected (3,): a weight for each class, not image.")
        return
    right = len(labels) / (3 * counts)
    more = attempt(class_weights, labels.clone(), 4, todo=todo)  # one class has no image
    if more is None:
        return
    four = torch.as_tensor(more).detach().double()
    present = four.flatten()[:3]
    total = (present * counts[: len(present)]).sum()

    def are(wanted: Tensor) -> bool:
        return torch.allclose(weights, wanted, rtol=1e-4)

    ratio = weights / right
    mistakes = {
        "That is the number of images: the frequent class would count even more. Divide by it.": are(counts),
        "That is each class's share: the frequent class would count even more.": are(counts / 20),
        "Square roots: the frequent class still counts more than the others.": are(counts**-0.5)
        or torch.allclose(ratio / ratio[0], (counts / counts[0]) ** 0.5),
        "1 minus the share is smaller for a frequent class, and does not make classes count alike.": are(
            1 - counts / 20
        ),
        "All weights are the same.": bool((weights == weights[0]).all()),
        "They add up to 1 over the classes. Over all images, the weights have to add up to the number of "
        "images.": torch.allclose(ratio, ratio[:1])
        and bool(torch.isclose(weights.sum(), torch.tensor(1.0).double())),
        "Each class sums to the number of all images: divide by the number of classes, too.": are(3 * right),
        "The classes count alike, and the weights of all images do not add up to their number. Multiply by "
        "it, and divide by the number of classes.": torch.allclose(ratio, ratio[:1]) and not are(right),
        "Not yet. Images of a class times its weight has to be the same for every class.": not are(right),
        "With four classes, of which one has no image here, four weights are asked for.": four.shape != (4,),
        "The class without an image has the weight inf: give it a finite one, such as 0.": (
            not four.isfinite().all()
        ),
        f"With a class that has no image here, the weights of all {len(labels)} images add up to {total:g}: "
        "divide by the number of classes that have images.": not is_close(present, right),
    }
    judge_effects(
        mistakes, praise="rare classes count as much as frequent ones, and the loss keeps its size."
    )
