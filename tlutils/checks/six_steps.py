"""Checks of the exercises in lesson 00."""

from torch import nn

from .. import surgery


def check_head_size(answer: int | None, *, features: int, classes: int) -> None:
    """Print whether `answer` is the number of parameters of a linear head, or which mistake it looks like."""
    right = features * classes + classes
    mistakes = {
        features * classes: "You counted the weights. A linear layer has a bias for each class, too.",
        features + classes: "A linear layer has a weight for each *pair* of a feature and a class.",
        features * classes + features: "The bias belongs to what comes out (classes), not to what goes in.",
        features * classes + 1: "There is a bias for each class, not one for all.",
    }
    if answer is None:
        print("Not answered yet. Count a matrix from features to classes, and do not forget the bias.")
    elif answer == right:
        print("Right: a weight for each pair of feature and class, and a bias for each class.")
    else:
        print(mistakes.get(answer, "Not yet. Draw the matrix: how many rows and columns, and what is added?"))


def check_frozen_before(model: nn.Module, stage: str) -> None:
    """Print whether everything before `stage` is frozen and the rest trains, or what is wrong."""
    wanted, found = surgery.stages(model).names.index(stage), surgery.frozen_to(model)
    if not any(not parameter.requires_grad for parameter in model.parameters()):
        print("Nothing is frozen yet. Freeze what lies before the stage.")
    elif not any(parameter.requires_grad for parameter in model.parameters()):
        print("Everything is frozen, the head included: nothing can learn.")
    elif found is None:
        print("The weights are frozen by flag, but BatchNorm drifts. `surgery.freeze_to` holds both.")
    elif (place := surgery.stages(model).names.index(found)) < wanted:
        print("You froze too little: the cut lies before the stage that was asked for.")
    elif place > wanted:
        print("You froze too much: the stage that was asked for must learn.")
    else:
        print("Right: what lies before is held, weights and statistics, and the rest can learn.")
