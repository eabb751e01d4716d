"""Looking at a model: judge and predict, and leave modes, gradients and random generators as they were."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .. import data, metrics, models, runtime
from ..errors import LearnerError
from ..inference import device_of, evaluating, logits_of
from . import batches

log = logging.getLogger("tlutils")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class probabilities (n, classes), float32, each row of sum 1, and the class names."""

    probabilities: np.ndarray
    classes: list[str]

    @property
    def labels(self) -> np.ndarray:
        """Index of the likeliest class of each image, (n,)."""
        return self.probabilities.argmax(1)

    @property
    def names(self) -> list[str]:
        """Name of the likeliest class of each image."""
        return [self.classes[k] for k in self.labels]

    def __len__(self) -> int:
        return len(self.probabilities)

    def __repr__(self) -> str:
        tops = self.probabilities.max(1)
        shown = [f"{name} ({p:.2f})" for name, p in zip(self.names[:8], tops, strict=False)]
        return f"{len(self)} predictions: " + ", ".join(shown) + (", …" if len(self) > 8 else "")


def predict(model: nn.Module, images: Any, *, batch_size: int = 32) -> Prediction:
    """Return the `Prediction` for one image or many; the model and all generators stay as they were.

    `images`: a PIL image, an array (H, W) or (H, W, C), a path, a sequence of these, or a split of a data
    set. They pass through the transform that the model's weights state. Raises LearnerError when there are
    none.
    """
    if isinstance(images, Image.Image | np.ndarray | str | Path):
        images = [images]
    if not len(images):
        raise LearnerError(
            "No images arrived to predict. Expected an image, a sequence of images, or a split."
        )
    transform = data.transform_for(model)
    device = device_of(model)
    rows = []
    with evaluating(model) as bare, torch.no_grad():
        starts = range(0, len(images), batch_size)
        for start in runtime.progress(starts, desc="predict"):
            chosen = (images[i] for i in range(start, min(start + batch_size, len(images))))
            x = torch.stack([transform(item[0] if isinstance(item, tuple) else item) for item in chosen])
            rows.append(logits_of(bare(x.to(device))).float().softmax(1).cpu())
    proba = torch.cat(rows).numpy()
    return Prediction(proba, models.info(model).classes or [str(k) for k in range(proba.shape[1])])


def evaluate(model: nn.Module, split: Any, *, batch_size: int = 32) -> metrics.Report:
    """Return a `metrics.Report` of the model on a split; the model and all generators stay as they were.

    A test split that was read before is marked by a warning in the log: what is chosen by looking at it twice
    is chosen on it.
    """
    if not len(split):
        raise LearnerError("The split holds no image, so there is nothing to evaluate on.")
    if getattr(split, "name", "") == "test" and split.times_opened:
        log.warning(
            "The test split was read before. Choose by val; the test split judges once, after all is chosen."
        )
    proba = predict(model, split, batch_size=batch_size).probabilities
    return metrics.report(split.labels, proba, classes=list(split.classes))


def logits_on(
    module: nn.Module,
    items: Any,
    device: torch.device,
    *,
    width: int,
    size: int,
    num_workers: int,
    share: slice,
) -> torch.Tensor:
    """Return logits (n, width) of `items`, in order; rows outside this process' `share` of batches are 0."""
    chosen = batches.in_order(len(items), size)[share]
    logits = torch.zeros(len(items), width)
    with evaluating(module), torch.no_grad():
        for draws, batch in zip(chosen, batches.load(items, chosen, num_workers=num_workers), strict=True):
            out = logits_of(module(*(x.to(device) for x in batch.inputs)))
            logits[[d.image for d in draws]] = out.float().cpu()
    return logits


def judge(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return val_loss (nats, unweighted), val_accuracy, val_balanced_accuracy (of the classes that occur)."""
    hits = logits.argmax(1) == labels
    recalls = [hits[labels == k].double().mean().item() for k in labels.unique()]
    return {
        "val_loss": nn.functional.cross_entropy(logits, labels).item(),
        "val_accuracy": hits.double().mean().item(),
        "val_balanced_accuracy": sum(recalls) / len(recalls),
    }
