"""Checks of a new head on a frozen network, and of the optimizer that trains all of it."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ... import runtime
from ..common import Mistake, answer, require


class Small(nn.Module):
    """A network whose head is called `classifier`, as in the notebook, and that costs nothing to train."""

    def __init__(self, features: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, features, 3, stride=2, bias=False), nn.BatchNorm2d(features)
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.bn(self.conv(x)).relu().mean((2, 3)))


def check_prepare(prepare: Callable[[Any, int], Any], *, seed: int = 0) -> None:
    """Print that a function gives a network a new head and freezes the rest, or raise the mistake.

    Args:
        prepare: The learner's `function(model, classes)`, which returns the network.
        seed: The network of the check is drawn from it.

    Raises:
        Mistake: If the head is not new, does not fit, or the wrong part is frozen.

    Example:
        >>> from tlutils.checks import assignment_01
        >>> def only_a_label(model, classes):
        ...     model.classifier.out_features = classes
        ...     return model
        >>> assignment_01.check_prepare(only_a_label)
        Traceback (most recent call last):
        tlutils.checks.Mistake: The head still has 10 outputs: setting out_features on an existing layer
        changes a label, and no weight. Put a new nn.Linear in its place.
    """
    with runtime.seeded(seed):
        features, classes = 6 + seed % 5, 3 + seed % 4
        model = Small(features)
        old, images = copy.deepcopy(model), torch.rand(4, 3, 12, 12)
        found = answer(
            prepare, model, classes, todo="Return the network, with a new head and the rest frozen."
        )
        if not isinstance(found, nn.Module):
            raise Mistake(f"A {type(found).__name__} came back. Return the network.")
        if isinstance(found, nn.Linear):
            raise Mistake("The head came back without its network. Return the model.")
        kept = [p for name, p in found.named_parameters() if not name.startswith("classifier")]
        head = getattr(found, "classifier", None)
        try:
            logits = found.eval()(images)
        except (RuntimeError, ValueError, TypeError) as error:
            raise Mistake(
                f"The new head does not fit the {features} features that reach it: "
                f"model.classifier.in_features says how many there are."
            ) from error
        linear = [m for m in found.modules() if isinstance(m, nn.Linear)]
        conv = getattr(found, "conv", None)
        relabelled = any(m.out_features != m.weight.shape[0] for m in linear)
        require(
            {
                "The pretrained layers are not those that arrived: change the network that you were given.": (
                    conv is not model.conv or not torch.equal(conv.weight, old.conv.weight)
                ),
                "The head still has 10 outputs: setting out_features on an existing layer changes a label, "
                "and no weight. Put a new nn.Linear in its place.": relabelled,
                "The head still has 10 outputs. A layer under a name that forward does not call changes "
                "nothing: "
                "print(model) shows what the head is called.": logits.shape[1] == 10,
                "The new layer stands on the old head's 10 logits, which are ImageNet's classes: put it in "
                "the "
                "old head's place, on the features.": any(m.weight.shape[0] == 10 for m in linear),
                f"{classes} classes need {classes} outputs, and there are {logits.shape[1]}.": (
                    logits.shape[1] != classes
                ),
                "The head ends in a softmax. cross_entropy has its own: let the network give logits.": bool(
                    torch.allclose(logits.sum(1), torch.ones(4), atol=1e-4)
                ),
                "Nothing trains: the new head was frozen with the rest. Freeze first, then put it "
                "in.": not any(p.requires_grad for p in found.parameters()),
                "The pretrained layers would train: requires_grad_(False) freezes parameters; eval() and "
                "no_grad() do not.": all(p.requires_grad for p in kept),
                "Some of the pretrained parameters are not frozen: BatchNorm has a weight and a bias, "
                "too.": any(p.requires_grad for p in kept),
                "A part of the head is frozen.": not all(
                    p.requires_grad
                    for p in head.parameters()  # type: ignore[union-attr]
                ),
            },
            praise="a new head that learns, and pretrained layers that stay.",
        )


def check_make_optimizer(make_optimizer: Callable[[Any, float, float], Any], *, seed: int = 0) -> None:
    """Print that a function thaws a network and gives it an optimizer with two rates, or raise the mistake.

    Args:
        make_optimizer: The learner's `function(model, lr, head_lr)`, which returns the optimizer.
        seed: The network and the rates of the check are drawn from it.

    Raises:
        Mistake: If a parameter is missing, frozen, or has the other's rate.

    Example:
        >>> import torch
        >>> from tlutils.checks import assignment_01
        >>> def too_early(model, lr, head_lr):
        ...     optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr)
        ...     model.requires_grad_(True)
        ...     return optimizer
        >>> assignment_01.check_make_optimizer(too_early)
        Traceback (most recent call last):
        tlutils.checks.Mistake: The optimizer was made before unfreezing: it knows 2 of 5 parameters, and the
        others will never move. Thaw first.
    """
    with runtime.seeded(seed):
        lr, head_lr = 1e-4 * (1 + seed % 7), 3e-3 * (1 + seed % 5)
        model = Small(5 + seed % 6)
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)
        optimizer = answer(make_optimizer, model, lr, head_lr, todo="Return the optimizer.")
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise Mistake(f"A {type(optimizer).__name__} came back. Return the optimizer.")
        every = [(id(p), group["lr"]) for group in optimizer.param_groups for p in group["params"]]
        rates = dict(every)
        parameters = dict(model.named_parameters())
        head = {name: rates.get(id(p)) for name, p in parameters.items() if name.startswith("classifier")}
        rest = {name: rates.get(id(p)) for name, p in parameters.items() if name not in head}
        known = sum(id(p) in rates for p in parameters.values())
        require(
            {
                "The optimizer holds parameters that are not the network's: copies do not train it.": len(
                    rates
                )
                > known,
                f"The optimizer was made before unfreezing: it knows {known} of {len(parameters)} "
                "parameters, and "
                "the others will never move. Thaw first.": all(rate is None for rate in rest.values())
                and all(p.requires_grad for p in parameters.values()),
                "The pretrained layers are still frozen: the optimizer knows them, and they get no gradient. "
                "requires_grad_(True) is missing.": not all(p.requires_grad for p in parameters.values()),
                "The head is in no group: it would stay as it was drawn.": all(
                    r is None for r in head.values()
                ),
                f"The optimizer knows {known} of {len(parameters)} parameters. Biases and BatchNorm's are "
                "parameters, "
                "too.": known < len(parameters),
                "A parameter is in two groups: each step would move it twice.": len(every) > len(rates),
                "The two rates are swapped: the new head learns fast, the pretrained layers slowly.": set(
                    head.values()
                )
                == {lr}
                and set(rest.values()) == {head_lr},
                "One rate for all: the head's would destroy the pretrained layers, and theirs would leave "
                "the head "
                "behind. Two groups.": len(set(rates.values())) == 1,
                "The rates are not the two that were asked for: hand lr and head_lr to the groups.": (
                    set(head.values()) != {head_lr} or set(rest.values()) != {lr}
                ),
            },
            praise="every parameter trains, once, each part at its own rate.",
        )
