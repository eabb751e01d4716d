"""Judging a model: predict and evaluate, and leave modes, gradients and random generators as they were."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .. import data, metrics, models, runtime, surgery
from ..errors import LearnerError
from ..inference import (
    DRIFT_IMAGES,
    device_of,
    dtype_of,
    evaluating,
    logits_of,
    measure_drift,
    refuse_quantised,
)
from .data import Inputs, load_batches, plan_validation
from .recipe import Recipe

log = logging.getLogger("tlutils")

AnyImage = Image.Image | np.ndarray | str | Path


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model makes of images: the probability of each class.

    Attributes:
        probabilities: Shape (n, classes), float32, each row of sum 1.
        classes: Name of each class.
    """

    probabilities: np.ndarray
    classes: list[str]

    @property
    def predicted(self) -> np.ndarray:
        """Index of the likeliest class of each image, (n,)."""
        predicted: np.ndarray = self.probabilities.argmax(1)
        return predicted

    @property
    def names(self) -> list[str]:
        """Name of the likeliest class of each image."""
        return [self.classes[k] for k in self.predicted]

    def __len__(self) -> int:
        return len(self.probabilities)

    def __repr__(self) -> str:
        tops = self.probabilities.max(1)
        shown = [f"{name} ({p:.2f})" for name, p in zip(self.names[:8], tops, strict=False)]
        return f"{len(self)} predictions: " + ", ".join(shown) + (", …" if len(self) > 8 else "")


def predict(
    model: nn.Module,
    images: AnyImage | Sequence[AnyImage] | data.LabelledImages,
    *,
    batch_size: int = 32,
) -> Prediction:
    """Return the class probabilities of one image or many.

    Modes, gradients and random generators stay as they were.

    Args:
        model: The network, on any device.
        images: A PIL image, an array (H, W) or (H, W, C), a path, a sequence of these, or a split of a data
            set. They pass through the transform that the model's weights state.
        batch_size: Images in one forward pass.

    Raises:
        LearnerError: When there are no images, or when the model is no classifier or cannot run on them.

    Example:
        >>> from tlutils import data, models, train
        >>> model = models.load("test_resnet", pretrained=False, num_classes=10, input_size=32)
        >>> train.predict(model, data.load("digits").val.select([0, 1])).probabilities.shape
        (2, 10)
    """
    several = [images] if isinstance(images, AnyImage) else images
    if not len(several):
        raise LearnerError(
            "No images arrived to predict. Expected an image, a sequence of images, or a split."
        )
    transform, place = data.transform_for(model), (device_of(model), dtype_of(model))
    rows = []
    with evaluating(model) as bare, torch.no_grad():
        starts = range(0, len(several), batch_size)
        for start in runtime.progress(starts, desc="predict"):
            chosen = range(start, min(start + batch_size, len(several)))
            x = torch.stack([transform(data.read_for(transform, several, i)) for i in chosen])
            rows.append(logits_of(_run(bare, x.to(*place))).float().softmax(1).cpu())
    proba = torch.cat(rows).numpy()
    return Prediction(proba, models.info(model).classes or [str(k) for k in range(proba.shape[1])])


def _run(model: nn.Module, images: torch.Tensor) -> Any:
    try:
        return model(images)
    except (LearnerError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever somebody's model says that takes something else
        raise LearnerError(
            f"{type(model).__name__} could not run on a batch of images of shape {tuple(images.shape)}: "
            f"{error}. Expected a model that takes such a batch alone, of any number of images. Wrap one "
            "that takes something else, such as a dict; an exported program may be fixed to one batch size."
        ) from error


def evaluate(model: nn.Module, split: data.LabelledImages, *, batch_size: int = 32) -> metrics.Report:
    """Return the report of a model on a split: accuracies, log loss and calibration, with their intervals.

    Modes, gradients and random generators stay as they were. A warning in the log marks a test split that was
    read before: what is chosen by looking at it twice is chosen on it.

    Args:
        model: The network, on any device.
        split: Images with labels, such as `dataset.val`; its groups, such as copies, count once.
        batch_size: Images in one forward pass.

    Raises:
        LearnerError: When the split is empty, or when the model is no classifier.

    Example:
        >>> from tlutils import data, models, train
        >>> model = models.load("test_resnet", pretrained=False, num_classes=10, input_size=32)
        >>> train.evaluate(model, data.load("digits").val.subsample(1)).n
        10
    """
    data.check_labelled(split)
    if not len(split):
        raise LearnerError("The split holds no image, so there is nothing to evaluate on.")
    if getattr(split, "name", "") == "test" and getattr(split, "images_read", 0):
        log.warning(
            "The test split was read before. Choose by val; the test split judges once, after all is chosen."
        )
    proba = predict(model, split, batch_size=batch_size).probabilities
    groups = getattr(split, "groups", None)
    return metrics.report(split.labels, proba, classes=list(split.classes), groups=groups)


def predict_logits(
    module: nn.Module,
    inputs: Inputs,
    device: torch.device,
    *,
    classes: int,
    batch_size: int,
    num_workers: int,
    share: slice,
) -> torch.Tensor:
    """Return the logits (n, classes) of `inputs`, in order; rows outside the `share` of batches are 0."""
    chosen = plan_validation(len(inputs), batch_size)[share]
    logits = torch.zeros(len(inputs), classes)
    with evaluating(module), torch.no_grad():
        for draws, batch in zip(chosen, load_batches(inputs, chosen, num_workers=num_workers), strict=True):
            output = logits_of(module(*(x.to(device) for x in batch.inputs)))
            logits[[d.image for d in draws]] = output.float().cpu()
    return logits


def measure_bfloat16(model: nn.Module, dataset: data.TrainingData, device: torch.device) -> float:
    """Return how far bfloat16 moves the embeddings of some training images, as a share of their spread."""
    transform, images = data.transform_for(model), range(min(DRIFT_IMAGES, len(dataset.train)))
    batch = torch.stack([transform(data.read_for(transform, dataset.train, i)) for i in images]).to(device)
    embedding = surgery.stages(model).embedding
    trunk = surgery.outputs(model.to(device), embedding)

    def embed(fast: bool) -> np.ndarray:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=fast):
            found = trunk(batch)[embedding]
        values = [found] if isinstance(found, torch.Tensor) else found
        return np.concatenate([value.flatten(1).float().cpu() for value in values], axis=1)

    with evaluating(trunk):
        return measure_drift(embed(fast=False), embed(fast=True))


def compute_val_metrics(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return val_loss (`metrics.log_losses`), val_accuracy, val_balanced_accuracy (of classes that occur)."""
    predicted = logits.argmax(1)
    return {
        "val_loss": metrics.log_losses(labels, logits.double().softmax(1)).mean().item(),
        "val_accuracy": (predicted == labels).double().mean().item(),
        "val_balanced_accuracy": metrics.balanced_accuracy(labels, predicted),
    }


def check_trainable(model: nn.Module, dataset: data.TrainingData, recipe: Recipe) -> None:
    """Raise LearnerError unless the recipe can train the model on the data set. Nothing is changed.

    The head is tried on one training image, so that a wrong one is named before any time is spent.
    """
    if not isinstance(recipe, Recipe):
        raise LearnerError(
            f"A recipe of type {type(recipe).__name__} arrived. Expected a Recipe, like Recipe.finetune()."
        )
    for split in (getattr(dataset, "train", dataset), getattr(dataset, "val", dataset)):
        data.check_labelled(split)
    classes, labels = list(dataset.classes), list(dataset.train.labels)
    if len(classes) < 2:
        raise LearnerError(
            f"The data set has {len(classes)} class ({', '.join(classes)}). There is nothing to tell apart: "
            "expected at least two."
        )
    if len(labels) < 2:
        raise LearnerError(
            f"The training split has {len(labels)} image. Expected at least two, better "
            f"{data.FEW_IMAGES} per class."
        )
    absent = [name for k, name in enumerate(classes) if k not in set(labels)]
    if absent:
        raise LearnerError(
            f"No training image of class {', '.join(map(repr, absent))}: it could never be predicted. "
            "Add images of it, take a larger sample, or leave the class out when loading."
        )
    refuse_quantised(model.modules())
    if not any(p.requires_grad for p in model.parameters()):
        raise LearnerError(
            "Nothing trains: every weight is frozen, the head's too. Call surgery.unfreeze(model, '*'), or "
            "surgery.freeze_to(model, 'head') to let the head train."
        )
    width = predict(model, dataset.train[0][0]).probabilities.shape[1]
    if width == 1:
        raise LearnerError(
            "The head has one output. Softmax over one number is always 1: the loss would be 0 for ever. "
            f"Give it one output per class: surgery.replace_head(model, {len(classes)})."
        )
    if width != len(classes):
        raise LearnerError(
            f"The head has {width} outputs and the data set {len(classes)} classes. "
            f"Replace it first: surgery.replace_head(model, {len(classes)})."
        )
