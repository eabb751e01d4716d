"""The judgement of a finished model, on the test images and once: scores, mistakes, and why it made them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import data, explain, features, metrics, novelty, plots, train
from ..errors import LearnerError
from .prediction import BATCH

MISTAKES = 8  # that are shown


@dataclass(frozen=True)
class Mistake:
    """A test image that was classified wrongly.

    Attributes:
        name: The file, below the folder of the data set.
        label: Its class.
        predicted: The class that the model gave it.
        probability: What the model gave that class.
        picture: The image as the network sees it, and where the network looked, as a JPEG.
    """

    name: str
    label: str
    predicted: str
    probability: float
    picture: bytes


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model did on the test images.

    Attributes:
        report: Scores and confusion, with intervals in which copies count once.
        mistakes: The surest mistakes.
        method: What made the maps of the mistakes.
        unlike: How many test images look unlike the training images: about as many as chance explains.
    """

    report: metrics.Report
    mistakes: list[Mistake]
    method: str
    unlike: novelty.Comparison


def judge(
    model: nn.Module, split: data.Split, detector: novelty.Detector, name_of: Callable[[Path], str]
) -> Judgement:
    """Return what a model does on a split that nothing was chosen on; `name_of` gives the name of a file."""
    report = train.evaluate(model, split)
    prepare, read = data.transform_for(model), features.make_predictor(model)
    embeddings = []
    for start in range(0, len(split), BATCH):
        rows = range(start, min(start + BATCH, len(split)))
        images = torch.stack([prepare(data.read_for(prepare, split, i)) for i in rows])
        embeddings.append(read(images)[1])
    unlike = detector.compare(np.concatenate(embeddings), groups=split.groups)
    guess, sure = report.probabilities.argmax(axis=1), report.probabilities.max(axis=1)
    wrong = np.flatnonzero(guess != report.labels)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    pictures, method = _explain(model, split, chosen, guess[chosen])
    mistakes = [
        Mistake(
            name_of(split.paths[i]),
            report.classes[report.labels[i]],
            report.classes[guess[i]],
            float(sure[i]),
            picture,
        )
        for i, picture in zip(chosen, pictures, strict=True)
    ]
    return Judgement(report, mistakes, method, unlike)


def _explain(
    model: nn.Module, split: data.Split, chosen: np.ndarray, predicted: np.ndarray
) -> tuple[list[bytes], str]:
    """Return, of some images, what the network sees beside what spoke for its answer; and by which method."""
    if not len(chosen):
        return [], ""
    prepare = data.transform_for(model)
    x = torch.stack([prepare(data.read_for(prepare, split, int(i))) for i in chosen])
    try:
        maps, method = explain.grad_cam(model, x, predicted.tolist()), "Grad-CAM"
    except LearnerError:  # a network of tokens has no feature maps
        maps, method = explain.saliency(model, x, predicted.tolist()), "saliency"
    mean, std = (torch.tensor(values)[:, None, None] for values in (prepare.mean, prepare.std))
    photographs = (x * std + mean).clamp(0, 1)
    pictures = []
    for photograph, heat in zip(photographs, maps, strict=True):
        picture = plots.overlays(photograph, {method: heat}, title="", alt="", width=4)
        pictures.append(picture.jpeg())
    return pictures, method
