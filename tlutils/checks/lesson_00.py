"""Checks of the exercises in lesson 00, the six steps."""

from torch import nn

from .. import surgery
from .common import judge_number


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
