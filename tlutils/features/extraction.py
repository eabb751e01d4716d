"""One decode and one forward pass per image, for any number of stages."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

import numpy as np
import torch
from torch import nn

from .. import data, models, runtime, surgery
from ..errors import LearnerError, unknown
from ..inference import device_of, evaluating, require_module
from . import keys
from .forward import Forward, bfloat16_units
from .loading import batches, loader
from .store import FeatureStore, Shelf

COMMIT_SECONDS = 1.0  # how much work a kill can cost

Precision = Literal["auto", "float32"]


def extract(
    model: nn.Module,
    split: data.LabelledImages,
    *,
    at: str | Sequence[str],
    pool: bool = True,
    transform: Callable[[Any], torch.Tensor] | None = None,
    views: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    precision: Precision = "auto",
) -> FeatureStore:
    """Return the store of what leaves the stages `at` for every image of `split`; the model stays as it is.

    Images are decoded once and pass the model once, in evaluation mode, however many stages are asked for.
    The arrays stay in the cache folder, under a key of everything that they depend on. Asked again, they are
    opened in milliseconds; with another weight, transform, image or library version they are made again;
    after a kill the work goes on where it was; a second process waits for the first and does not repeat its
    work.

    Args:
        model: Any image classifier.
        split: The images: a split of a data set.
        at: A stage, or several: features are what leaves it.
        pool: Average feature maps over space and tokens over their number: (N, D) per stage. Without it
            feature maps stay whole.
        transform: What turns an image into a tensor (C, H, W); that of the weights unless given.
        views: Number of random views of each image, for a transform that is random.
        seed: View v of image i depends on `seed`, v and i alone.
        batch_size: Images in one forward pass.
        precision: "auto" uses channels-last feature maps, and bfloat16 on a processor with units for it, if a
            sample drifts by no more than `DRIFT`; "float32" is the model's own arithmetic to the last bit.

    Raises:
        LearnerError: For no stage, an unknown stage, no images, images of different sizes, a random transform
            without `views`, a full disk.

    Example:
        >>> from tlutils import data, features, models
        >>> model = models.load("test_resnet", pretrained=False, input_size=32)
        >>> store = features.extract(model, data.load("digits").val.select(range(8)), at=["stem", "pool"])
        >>> store["stem"].shape, store["pool"].shape
        ((8, 32), (8, 96))
    """
    names = [at] if isinstance(at, str) else [getattr(stage, "name", stage) for stage in at]
    stages = tuple(dict.fromkeys(names))
    _check(stages, split, views, batch_size, precision)
    model = require_module(model)
    transform = transform or data.transform_for(model)
    device = device_of(model)
    ingredients: dict[str, Any] = {
        "model": models.info(model).name,
        "data": split.fingerprint,
        "transform": keys.of_transform(transform),
        "views": views,
        "seed": seed if views else None,
        "pool": pool,
        "precision": precision,
        "device": f"{device.type}, bfloat16" if bfloat16_units(device) else device.type,
        "versions": keys.versions(),
    }
    path = runtime.cache_dir("features") / f"{quote(ingredients['model'], safe='')}-{keys.short(ingredients)}"
    weights = _weights(model, stages, path)
    shelves = {s: Shelf(path / f"{quote(s, safe='')}-{keys.short(s, weights[s])}") for s in stages}
    labels = np.repeat(np.asarray(split.labels, dtype=np.int64), views or 1)
    groups = np.repeat(getattr(split, "groups", range(len(split))), views or 1)
    if not all(shelf.complete for shelf in shelves.values()):
        with ExitStack() as locks:
            # In one order for everybody, so that no two processes wait for each other.
            for folder in sorted(shelf.folder for shelf in shelves.values()):
                locks.enter_context(runtime.file_lock(folder))
            shelves = {stage: Shelf(shelf.folder) for stage, shelf in shelves.items()}
            missing = {stage: shelf for stage, shelf in shelves.items() if not shelf.complete}
            if missing:
                if views is None and keys.is_random(transform):
                    raise LearnerError(
                        "This transform is random, so its features would differ at every run. Give views=k "
                        "to keep k random views of each image, or a transform that is not random."
                    )
                layouts = {stage: surgery.stages(model)[stage].layout for stage in missing} if pool else None
                trunk = surgery.outputs(model, at=list(missing))
                forward = Forward(trunk, layouts, device, precision)
                load = loader(split, transform, views, seed)
                about = {s: ingredients | {"stage": s, "weights": weights[s]} for s in missing}
                _fill(missing, about, forward, load, len(split), views or 1, batch_size)
    states = {stage: shelf.state | {"folder": shelf.folder.name} for stage, shelf in shelves.items()}
    return FeatureStore(path, stages, labels, groups, ingredients | {"stages": states})


def _weights(model: nn.Module, stages: tuple[str, ...], path: Path) -> dict[str, str]:
    """Return the key of what each stage computes; finding stages takes a second, so it is noted in `path`."""
    note = path / f"weights-{keys.short(stages, keys.of_model(model))}.json"
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):  # not asked before, or cut off in writing
        known = surgery.stages(model)
        every = keys.of_stages(model, known)
        found = {stage: every[known[stage].name] for stage in stages}  # an unknown stage is an error here
        path.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(found))
        return found


def _check(
    stages: tuple[str, ...], split: data.LabelledImages, views: int | None, batch_size: int, precision: str
) -> None:
    if not stages:
        raise LearnerError(
            "`at` is empty. Expected the names of the stages to read, for example at=['pool']; "
            "surgery.stages(model) lists them; all of them are at=[s.name for s in surgery.stages(model)]."
        )
    if not len(split):
        raise LearnerError("The split has no images. Expected at least one.")
    if (views is not None and views < 1) or batch_size < 1:
        raise LearnerError(f"views is {views} and batch_size {batch_size}. Expected at least 1 of each.")
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))


def _fill(
    shelves: dict[str, Shelf],
    about: dict[str, dict[str, Any]],
    forward: Forward,
    load: Callable[[int], torch.Tensor],
    images: int,
    rows: int,
    batch_size: int,
) -> None:
    """Compute the images that a shelf still lacks, and count them in as they are safe on the disk."""
    size, last = max(1, batch_size // rows), time.monotonic()
    arithmetics = {shelf.state["arithmetic"] for shelf in shelves.values() if shelf.begun}
    if len(arithmetics) == 1:  # what was chosen for the first rows holds for the others
        (forward.arithmetic,) = arithmetics
    for shelf in shelves.values():
        shelf.sweep(everything=not shelf.begun or len(arithmetics) > 1)
    start = min(shelf.done for shelf in shelves.values())
    runtime.keep_freed_memory()
    total = -(-(images - start) // size)
    with evaluating(forward.trunk), closing(batches(load, start, images, size)) as ready:
        for first, batch in runtime.progress(ready, desc="features", total=total):
            out = forward(batch)
            for stage, shelf in shelves.items():
                if not shelf.begun:
                    shelf.lay(out[stage], images, rows, about[stage] | {"arithmetic": forward.arithmetic})
                shelf.write(out[stage], first)
            done = first + len(batch) // rows
            if done == images or time.monotonic() - last >= COMMIT_SECONDS:
                for shelf in shelves.values():
                    shelf.commit(max(done, shelf.done))
                last = time.monotonic()
