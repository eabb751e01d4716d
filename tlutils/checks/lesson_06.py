"""Checks of the exercises in lesson 06, how transferable."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .. import runtime
from .common import judge_effects, judge_number


def _stack(seed: int) -> nn.Sequential:
    with runtime.seeded(seed):
        return nn.Sequential(
            *(nn.Sequential(nn.Conv2d(k, k + 1, 3), nn.ReLU()) for k in range(1, 4)), nn.Flatten()
        )


def check_copied_layers(copy_layers: Callable[[nn.Sequential, nn.Sequential, int], object] | None) -> None:
    """Print whether a function copies the first layers of one network into another and freezes them there.

    Yosinski et al. 2014 copy layers in this way.

    Args:
        copy_layers: The learner's `copy_layers(source, target, layers)`, for the first `layers` modules.

    Example:
        >>> from tlutils.checks import lesson_06
        >>> def copy_layers(source, target, layers):
        ...     target[:layers].load_state_dict(source[:layers].state_dict())
        >>> lesson_06.check_copied_layers(copy_layers)
        The copied layers can still learn: take the gradients of weights and biases away.
    """
    if copy_layers is None:
        print("Not written yet. state_dict gives the weights of a module, load_state_dict sets them.")
        return
    source, target = _stack(0), _stack(1)
    own = [[p.clone() for p in module.parameters()] for module in target]
    copy_layers(source, target, 2)

    def same(a: nn.Module, tensors: list[torch.Tensor]) -> bool:
        return all(torch.equal(p, q) for p, q in zip(a.parameters(), tensors, strict=True))

    copied = [[p.clone() for p in module.parameters()] for module in source]
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    mistakes = {
        "Nothing was copied: the first layer is still the target's own.": same(target[0], own[0]),
        "One layer too few: the second is still the target's own.": same(target[1], own[1]),
        "One layer too many: the third should keep its own weights.": not same(target[2], own[2]),
        "The networks share their weights: when the source trains, the target changes. Copy the values.": (
            same(target[0], list(source[0].parameters()))
        ),
        "The weights are copied, the biases are not.": not same(target[0], copied[0])
        and torch.equal(target[0][0].weight, copied[0][0]),  # type: ignore[index]
        "The first layers do not have the source's values.": not (
            same(target[0], copied[0]) and same(target[1], copied[1])
        ),
        "The copied layers can still learn: take the gradients of weights and biases away.": any(
            p.requires_grad for module in target[:2] for p in module.parameters()
        ),
        "The rest is frozen, too, and nothing is left to train.": not all(
            p.requires_grad for p in target[2].parameters()
        ),
        "The source was frozen. Only the target should be.": not all(
            p.requires_grad for p in source.parameters()
        ),
    }
    judge_effects(mistakes, praise="values copied, frozen there, and the source is free to train.")


def check_held_out_accuracy(answer: float | None, table: np.ndarray) -> None:
    """Print whether `answer` is the accuracy of a chosen stage on images that did not choose it.

    Args:
        answer: The learner's accuracy; None where nothing was answered.
        table: Accuracies (stages, 2): the first column chooses the stage, the second judges it.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_06
        >>> lesson_06.check_held_out_accuracy(0.8, np.array([[0.71, 0.70], [0.80, 0.74]]))
        That is how the chosen stage looks to those that chose it: too good on average.
    """
    row = int(table[:, 0].argmax())
    judge_number(
        answer,
        table[row, 1],
        {
            table[row, 0]: "That is how the chosen stage looks to those that chose it: too good on average.",
            table[:, 1].max(): "That is the best stage for the judges: then the judges have chosen.",
            table[:, 1].mean(): "That is the mean over all stages, and one of them was chosen.",
            table[row].mean(): "The images that chose have no say in the judgement.",
        },
        todo="The first column points at a row; what does the second say there?",
        praise="one column chooses, the other judges.",
        hint="Choose a row by the first column, then read the second.",
    )
