"""Checks of the exercises in lesson 06."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .. import runtime


def _stack(seed: int) -> nn.Sequential:
    with runtime.seeded(seed):
        return nn.Sequential(
            *(nn.Sequential(nn.Conv2d(k, k + 1, 3), nn.ReLU()) for k in range(1, 4)), nn.Flatten()
        )


def check_give(give: Callable[[nn.Sequential, nn.Sequential, int], object] | None) -> None:
    """Print whether `give(giver, taker, layers)` copies the first `layers` modules and holds them there."""
    if give is None:
        print("Not written yet. A module gives its weights with state_dict, and takes with load_state_dict.")
        return
    giver, taker = _stack(0), _stack(1)
    own = [[p.clone() for p in module.parameters()] for module in taker]
    give(giver, taker, 2)

    def same(a: nn.Module, tensors: list[torch.Tensor]) -> bool:
        return all(torch.equal(p, q) for p, q in zip(a.parameters(), tensors, strict=True))

    gifts = [[p.clone() for p in module.parameters()] for module in giver]
    with torch.no_grad():
        for parameter in giver.parameters():
            parameter.add_(1)
    mistakes = {
        "Nothing was copied: the first layer is still the taker's own.": same(taker[0], own[0]),
        "One layer too few: the second is still the taker's own.": same(taker[1], own[1]),
        "One layer too many: the third should be drawn anew.": not same(taker[2], own[2]),
        "The networks share their weights: when the giver trains on, the taker changes. Copy the values.": (
            same(taker[0], list(giver[0].parameters()))
        ),
        "The weights are copied, the biases are not.": not same(taker[0], gifts[0])
        and torch.equal(taker[0][0].weight, gifts[0][0]),  # type: ignore[index]
        "The first layers do not hold the giver's values.": not (
            same(taker[0], gifts[0]) and same(taker[1], gifts[1])
        ),
        "The copied layers can still learn: take the gradients of weights and biases away.": any(
            p.requires_grad for module in taker[:2] for p in module.parameters()
        ),
        "The rest is held, too, and nothing is left to train.": not all(
            p.requires_grad for p in taker[2].parameters()
        ),
        "The giver was frozen. Only the taker should be.": not all(
            p.requires_grad for p in giver.parameters()
        ),
    }
    found = [words for words, made in mistakes.items() if made]
    print(found[0] if found else "Right: values copied, held there, and the giver is free.")


def check_honest(answer: float | None, table: np.ndarray) -> None:
    """Print whether `answer` is the judged accuracy of the chosen row of `table` (stages, 2), or the mistake.

    The first column chooses, the second judges.
    """
    row = int(table[:, 0].argmax())
    mistakes = {
        table[row, 0]: "That is how the chosen stage looks to those that chose it: too good on average.",
        table[:, 1].max(): "That is the best stage for the judges: then the judges have chosen.",
        table[:, 1].mean(): "That is the mean over all stages, and one of them was chosen.",
        table[row].mean(): "The images that chose have no say in the judgement.",
    }
    if answer is None:
        print("Not answered yet. The first column points at a row; what does the second say there?")
    elif np.isclose(answer, table[row, 1]):
        print("Right: one column chooses, the other judges.")
    else:
        near = [words for value, words in mistakes.items() if np.isclose(answer, value)]
        print(near[0] if near else "Not yet. Choose a row by the first column, then read the second.")
