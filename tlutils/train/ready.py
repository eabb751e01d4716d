"""What must hold before training begins, said before any time is spent."""

from typing import Any

import torch
from torch import nn

from ..errors import LearnerError
from .looking import predict
from .recipes import Recipe


def check_ready(model: nn.Module, dataset: Any, recipe: Recipe) -> None:
    """Raise LearnerError unless the recipe can train the model on the data set. Nothing is changed."""
    if not isinstance(recipe, Recipe):
        raise LearnerError(
            f"A recipe of type {type(recipe).__name__} arrived. Expected a Recipe, like Recipe.finetune()."
        )
    classes, labels = list(dataset.classes), list(dataset.train.labels)
    if len(classes) < 2:
        raise LearnerError(
            f"The data set has {len(classes)} class ({', '.join(classes)}). There is nothing to tell apart: "
            "expected at least two."
        )
    if len(labels) < 2:
        raise LearnerError(
            f"The training split has {len(labels)} image. Expected at least two, better twenty a class."
        )
    absent = [name for k, name in enumerate(classes) if k not in set(labels)]
    if absent:
        raise LearnerError(
            f"No training image of class {', '.join(map(repr, absent))}: it could never be predicted. "
            "Add images of it, take a larger sample, or leave the class out when loading."
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise LearnerError(
            "Nothing trains: every weight is frozen, the head's too. Call surgery.unfreeze(model), or "
            "surgery.freeze_to(model, 'head') to let the head train."
        )
    _check_width(model, dataset)


def _check_width(model: nn.Module, dataset: Any) -> None:
    """Raise LearnerError unless the model gives one number for each class, tried on one training image."""
    width = predict(model, dataset.train[0][0]).probabilities.shape[1]
    wanted = len(list(dataset.classes))
    if width == 1:
        raise LearnerError(
            "The head has one output. Softmax over one number is always 1: the loss would be 0 for ever. "
            f"Give it one output a class: surgery.replace_head(model, {wanted})."
        )
    if width != wanted:
        raise LearnerError(
            f"The head has {width} outputs and the data set {wanted} classes. "
            f"Replace it first: surgery.replace_head(model, {wanted})."
        )


def class_weights(labels: torch.Tensor, classes: int, recipe: Recipe) -> torch.Tensor:
    """Return one weight a class, (classes,): 1, or with "balanced" n / (classes * images of the class).

    `labels` (n,) are those of the images that train, and no others: weights from a larger set would not fit
    them.
    """
    if recipe.class_weights is None:
        return torch.ones(classes)
    return len(labels) / (classes * torch.bincount(labels, minlength=classes).float())
