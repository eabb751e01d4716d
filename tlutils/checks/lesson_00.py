"""Checks of the exercises in lesson 00, the six steps."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from .. import runtime, surgery
from .common import attempt, is_close, judge, judge_effects, judge_number


def check_freeze(freeze: Callable[[nn.Module], Any] | None) -> None:
    """Print whether a function freezes a module, weights and BatchNorm's averages, or which mistake it makes.

    Args:
        freeze: The learner's `freeze(module)`, which returns the module.

    Example:
        >>> from tlutils.checks import lesson_00
        >>> lesson_00.check_freeze(lambda module: module.requires_grad_(False))
        The weights are frozen, and BatchNorm's averages still move: evaluation mode holds them.
    """
    todo = "No parameter may ask for a gradient, BatchNorm has to rest, and the module comes back."
    with runtime.seeded(0):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
        start, images = copy.deepcopy(module.state_dict()), torch.rand(4, 3, 8, 8)

        def run() -> Any:
            return (freeze(module),)  # type: ignore[misc]

        found = attempt(freeze and run, todo=todo)
    if not isinstance(found, tuple):
        return
    asks = [p.requires_grad for p in module.parameters()]
    weights = all(torch.equal(start[name], p) for name, p in module.named_parameters())
    resting = not any(m.training for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        module(images)
    moved = not torch.equal(start["1.running_mean"], module.state_dict()["1.running_mean"])
    if all(asks) and not resting and found[0] is None and "requires_grad" not in vars(module):
        print(f"Not answered yet. {todo}")
        return
    judge_effects(
        {
            "The weights are others now: freezing keeps them as they are.": not weights,
            "module.requires_grad = False makes an attribute that nothing reads; the method is "
            "requires_grad_(False).": "requires_grad" in vars(module),
            "BatchNorm rests, and the weights still ask for gradients: requires_grad_(False).": all(asks),
            "Some parameters still ask for a gradient: biases and BatchNorm's own count, too.": any(asks),
            "The weights are frozen, and BatchNorm's averages still move: evaluation mode holds them.": moved,
            "All is frozen. Return the module, so that it can be used at once.": found[0] is not module,
        },
        praise="no gradient, and averages that stay.",
    )


def check_accuracy(accuracy: Callable[[Tensor, Tensor], Any] | None) -> None:
    """Print whether a function gives the share of right answers, or which mistake it makes.

    Args:
        accuracy: The learner's `accuracy(logits, labels)` for logits (N, C) and labels (N,): a number.

    Example:
        >>> from tlutils.checks import lesson_00
        >>> lesson_00.check_accuracy(lambda logits, labels: (logits.argmax(1) == labels).sum())
        That is how many are right: divide by the number of images.
    """
    logits = torch.tensor(
        [[2.0, 0, -1, 0], [0, 3, 1, 0], [1, 2, 0, 0], [0, -2, -1, 0.5], [0.1, 0, 2, 0], [-3, -1, -2, -4]]
    )
    labels = torch.tensor([0, 1, 0, 3, 2, 2])
    right = logits.argmax(1) == labels
    chances = logits.softmax(1).gather(1, labels[:, None])
    judge(
        attempt(accuracy, logits, labels, todo="Return the share of images whose largest logit is theirs."),
        right.double().mean(),
        {
            "That is how many are right: divide by the number of images.": right.sum(),
            "That is how many are wrong: an accuracy is the share that is right.": (~right).sum(),
            "That is the share of wrong answers.": (~right).double().mean(),
            "A share lies between 0 and 1; this one is in percent.": 100 * right.double().mean(),
            "That says for each image whether it is right: take the mean.": right,
            "Those are the answers: compare them with the labels.": logits.argmax(1),
            "That is the mean probability of the true class, and not how often it is the largest.": (
                chances.mean()
            ),
            "That compares the largest logit with the label: argmax says at which class it stands.": (
                (logits.max(1).values == labels).double().mean()
            ),
            "That is a loss. How many have their largest logit there?": F.cross_entropy(logits, labels),
            "Divided by the number of classes: divide by that of images.": right.sum() / logits.shape[1],
            "Divided by a fixed number. There are not always as many images: len(labels) counts them.": tuple(
                right.sum() / number for number in range(2, 300)
            ),
        },
        praise="the largest logit of each row, against the label.",
    )


def check_training_step(step: Callable[..., Any] | None) -> None:
    """Print whether a function takes a step of gradient descent by hand, or which mistake it makes.

    It is called twice, with a network whose first layer is frozen.

    Args:
        step: The learner's `step(network, inputs, labels, lr)`, without an optimizer: it changes the network
            in place and returns the loss before the step, a number.

    Example:
        >>> from tlutils.checks import lesson_00
        >>> lesson_00.check_training_step(lambda network, inputs, labels, lr: network(inputs).sum())
        Nothing moved. Take lr times the gradient off each weight that has one, in place: p -= …, while ...
    """
    lr, todo = 0.5, "Change the weights that have a gradient in place, and return the loss before."
    with runtime.seeded(0):
        network = nn.Sequential(nn.Linear(5, 4).requires_grad_(False), nn.ReLU(), nn.Linear(4, 3))
        inputs, labels = torch.randn(8, 5), torch.arange(8) % 3
    start = copy.deepcopy(network)

    def descend(
        sign: float = -1,
        kept: bool = False,
        reduction: str = "mean",
        link: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> tuple[Any, list[float]]:
        """Two steps as they are done, or with a mistake: the network after them, and the losses before."""
        other: Any = copy.deepcopy(start)
        weights, losses = list(other[2].parameters()), []
        old = [torch.zeros_like(p) for p in weights]
        for _ in range(2):
            loss = F.cross_entropy(link(other(inputs)), labels, reduction=reduction)
            losses.append(loss.item())
            new = torch.autograd.grad(loss, weights)
            grads = [g + o for g, o in zip(new, old, strict=True)]
            old = grads if kept else old
            with torch.no_grad():
                for p, grad in zip(weights, grads, strict=True):
                    p += sign * lr * grad
        return other, losses

    found, optimizers = [], list[Any]()
    watch = register_optimizer_step_pre_hook(lambda optimizer, *_: optimizers.append(optimizer))
    for _ in range(2):
        one = attempt(step, network, inputs, labels, lr, todo=todo)
        if one is None:
            break
        found.append(one)
    watch.remove()
    if len(found) < 2:
        return

    def like(other: nn.Module) -> bool:
        pairs = zip(network.parameters(), other.parameters(), strict=True)
        return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)

    right, losses = descend()
    after = [losses[1], F.cross_entropy(right(inputs), labels).item()]

    def said(wanted: list[float]) -> bool:
        return all(is_close(a, torch.tensor(b), 1e-4) for a, b in zip(found, wanted, strict=True))

    judge_effects(
        {
            "Nothing moved. Take lr times the gradient off each weight that has one, in place: p -= …, while "
            "p = p - … makes a new tensor.": like(start),
            "The frozen layer moved, too.": not torch.equal(network[0].weight, start[0].weight),  # type: ignore[arg-type]
            "Up the loss: the step goes against the gradient, minus lr times it.": like(descend(sign=1)[0]),
            "The gradient of the step before was still there: backward() adds. Set it to None, or to zero.": (
                like(descend(kept=True)[0])
            ),
            "The loss is a sum over the images: take the mean.": like(descend(reduction="sum")[0]),
            "The rate is not in it.": like(descend(sign=-1 / lr)[0]),
            "cross_entropy takes logits: it has the softmax inside.": like(
                descend(link=lambda logits: logits.softmax(1))[0]
            ),
            "An optimizer took the step. Here it is yours: no torch.optim.": bool(optimizers),
            "The weights are not where lr times the gradient takes them.": not like(right),
            "The loss that you return holds on to its graph: loss.item().": any(
                isinstance(one, Tensor) and one.requires_grad for one in found
            ),
            "That is the loss after the step.": said(after),
            "The loss that came back is not that before the step.": not said(losses),
        },
        praise="that is all that plain SGD does.",
    )


def check_head_size(answer: int | None, *, features: int, classes: int) -> None:
    """Print whether `answer` is the number of parameters of a linear head, or which mistake it looks like.

    Args:
        answer: The learner's number; None where nothing was answered.
        features: How many features go into the head.
        classes: How many classes come out.

    Example:
        >>> from tlutils.checks import lesson_00
        >>> lesson_00.check_head_size(12_800, features=1280, classes=10)
        You counted the weights. A linear layer has a bias for each class, too.
    """
    judge_number(
        answer,
        features * classes + classes,
        {
            features * classes: "You counted the weights. A linear layer has a bias for each class, too.",
            features + classes: "A linear layer has a weight for each *pair* of a feature and a class.",
            features * classes + features: "The bias belongs to what comes out (classes), not what goes in.",
            features * classes + 1: "There is a bias for each class, not one for all.",
        },
        todo="Count a matrix from features to classes, and do not forget the bias.",
        praise="a weight for each pair of feature and class, and a bias for each class.",
        hint="Draw the matrix: how many rows and columns, and what is added?",
    )


def check_frozen_before_last_stage(model: nn.Module) -> None:
    """Print whether all is frozen but the backbone's last stage with parameters, and the head.

    Args:
        model: The learner's model.

    Raises:
        LearnerError: If the model cannot be read as stages.

    Example:
        >>> from torch import nn
        >>> from tlutils import surgery
        >>> from tlutils.checks import lesson_00
        >>> blocks = [nn.Sequential(nn.Conv2d(3, 3, 3, 2), nn.ReLU()) for _ in range(3)]
        >>> model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> lesson_00.check_frozen_before_last_stage(surgery.freeze_to(model, "stage2"))
        You froze too little: the cut lies before the stage that was asked for.
    """
    stages, found = surgery.stages(model), surgery.frozen_to(model)
    names, stage = stages.names, [own.name for own in stages[:-1] if own.parameters][-1]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    if all(trains):
        print("Nothing is frozen yet. Freeze what lies before the stage.")
    elif not any(trains):
        print("Everything is frozen, the head included: nothing can learn.")
    elif found is None:
        print("The weights are frozen by flag, but BatchNorm drifts. `surgery.freeze_to` holds both.")
    elif names.index(found) < names.index(stage):
        print("You froze too little: the cut lies before the stage that was asked for.")
    elif found != stage:
        print("You froze too much: the stage that was asked for must learn.")
    else:
        print("Right: what comes before is frozen, weights and statistics, and the rest can learn.")
