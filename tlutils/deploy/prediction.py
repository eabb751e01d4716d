"""Predictions for files: a table that also says which images look unlike the training images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from .. import data, features, models, novelty, runtime
from ..errors import LearnerError

MODEL, EMBEDDINGS = "model.safetensors", "embeddings.safetensors"
BATCH = 32


def predict(
    model: nn.Module | str | Path,
    files: Sequence[str | Path],
    *,
    detector: novelty.Detector | None = None,
) -> pd.DataFrame:
    """Return a table of what a model makes of files, one row for each; files that cannot be read are in it.

    Args:
        model: A classifier, the folder that `build` made of one, or a file of `models.save`.
        files: Paths of images, of folders, whose images are taken at any depth, and of tar shards.
        detector: What says which images look unlike the training images; with a folder of `build`, the one
            that lies there.

    Returns:
        The columns file, class, probability, unlike (whether the image looks unlike the training images;
        missing where nobody can say) and note (why a file could not be read, or that it looks unlike).

    Raises:
        LearnerError: For a model that cannot be loaded, where there are no files, and for shards that are
            missing.

    Example:
        >>> from tlutils import data, deploy, models
        >>> model = models.load("test_resnet", pretrained=False, num_classes=2, input_size=32)
        >>> data.load_photograph("cat").save("cat.png")
        >>> deploy.predict(model, ["cat.png", "dog.png"])["note"].tolist()
        ['', 'missing: There is no such file. Was it moved after the scan?']
    """
    if not isinstance(model, nn.Module):
        kept = runtime.user_path(model) / EMBEDDINGS
        detector = novelty.load_detector(kept) if detector is None and kept.is_file() else detector
        model = models.load(model)
    paths = [path for file in files for path in data.list_files(runtime.user_path(file))]
    if not paths:
        raise LearnerError("No file arrived to predict. Expected paths of images, or of folders of images.")
    rows: list[dict[str, Any]] = [{"file": str(path), "class": "", "note": ""} for path in paths]
    classes, read = models.info(model).classes, features.make_predictor(model)
    for chosen, images in _read(data.transform_for(model), paths, rows):
        probabilities, embeddings = read(images)
        names = classes or [str(k) for k in range(probabilities.shape[1])]
        for i, chances in zip(chosen, probabilities, strict=True):
            rows[i] |= {"class": names[chances.argmax()], "probability": float(chances.max())}
        for i, far in zip(chosen, detector.unlike(embeddings), strict=True) if detector else ():
            rows[i] |= {"unlike": bool(far), "note": "unlike the training images" * bool(far)}
    # As objects: the name of a file may hold what is no text.
    table = pd.DataFrame(rows, columns=["file", "class", "probability", "unlike", "note"], dtype=object)
    return table.astype({"probability": float, "unlike": "boolean"})


def _read(
    prepare: data.Preprocess, paths: Sequence[Path], rows: list[dict[str, Any]]
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield the positions and the prepared images of each batch; a note says what could not be read."""
    for start in runtime.progress(range(0, len(paths), BATCH), desc="predict"):
        chosen, images = [], []
        for i in range(start, min(start + BATCH, len(paths))):
            try:
                images.append(prepare(paths[i]))
                chosen.append(i)
            except data.UnreadableImage as error:
                rows[i]["note"] = f"{error.kind}: {error.message}"
        if chosen:
            yield chosen, torch.stack(images)
