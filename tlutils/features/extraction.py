"""One decode and one forward pass per image, for any number of stages."""

import logging
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import quote

import numpy as np
import torch
from torch import nn

from .. import data, fingerprint, models, runtime, surgery
from ..errors import LearnerError, unknown
from ..inference import device_of, evaluating, require_module
from . import keys, reuse
from .forward import Forward
from .loading import batches, loader
from .reuse import Known
from .store import FeatureStore, Shelf
from .trial import OWN_GENERATOR, Trial

log = logging.getLogger(__name__)

_ONE_AT_A_TIME = threading.RLock()

_CHOSEN: "weakref.WeakKeyDictionary[nn.Module, dict[str, str]]" = weakref.WeakKeyDictionary()
"""The arithmetic that a precision came to when the model was last asked: a trial in it serves at once."""

COMMIT_SECONDS = 1.0  # how much work a kill can cost

PASS_PIXELS = 16 * 224**2  # of the images in one pass: EfficientNet-Lite0 then takes 450 MiB

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
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> FeatureStore:
    """Return the store of what leaves the stages `at` for every image of `split`; the model stays as it is.

    Images are decoded once and pass the model once, in evaluation mode, however many stages are asked for.
    The arrays stay in the cache folder, under a key of everything that they depend on: images, transform,
    weights, layers, hooks, and whatever else the code reads. As a check, two images (one, if the
    model has not changed) are run again, each alone, and compared with their stored rows: where they differ,
    all are computed again. What affects other images alone, and is not read by name, goes unseen: a file that
    the transform opens, `getattr(module, name)`, a module imported inside of a function, an edit inside an
    installed library. After a kill the work goes on where it was; a second process waits for the first
    and does not repeat its work.

    What was computed for an image once serves every split of a data set that it is in: a sample of the images
    or other labels take no pass, and of a folder that has grown the new images alone take one. Under
    `torchrun` or `accelerate launch` each process computes its share, and all return the whole.

    Features that depend on more than the image are not kept, and a warning says why: those of a model that
    draws random numbers in evaluation mode, or mixes the images of a batch, and of files that have changed
    since the data set was loaded. Their files go with the store.

    Args:
        model: Any image classifier.
        split: The images: a split of a data set.
        at: A stage, or several: features are what leaves it.
        pool: Average feature maps over space, and tokens over all tokens: (N, D) per stage. Without it
            feature maps stay whole.
        transform: What turns an image into a tensor (C, H, W); that of the weights unless given.
        views: Number of random views of each image, for a transform that is random.
        seed: View v of image i depends on `seed`, v and i alone.
        batch_size: Images in one forward pass. None: 16 images of 224 pixels, more if they are smaller (the
            same memory), at most 128; 8 times that on a GPU. Features stay the same, within rounding.
        precision: "auto" uses channels-last feature maps, and bfloat16 on a processor with units for it, if a
            sample drifts by no more than `inference.DRIFT`; on a processor that would be busy for a minute or
            more, and with the extra `tlutils[openvino]`, OpenVINO, if the first batch comes out sooner and
            alike (the same drift in bfloat16, else rounding). The manifest tells, stage by stage.
            "float32" is the model's own arithmetic to the last bit.

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
    data.check_labelled(split)
    _check(stages, split, views, batch_size, precision)
    wanted = _Wanted(stages, pool, transform, views, seed, batch_size, precision)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1 and views is None and type(split) is data.Split and len(split) >= processes:
        from accelerate import PartialState

        state = PartialState(cpu=runtime.pick_device().type != "cuda")
        _extract(model, split.select(range(state.process_index, len(split), processes)), wanted)
        state.wait_for_everyone()
    return _extract(model, split, wanted)


class _Wanted(NamedTuple):
    """What `extract` was asked for, but for the model and the images."""

    stages: tuple[str, ...]
    pool: bool
    transform: Callable[[Any], torch.Tensor] | None
    views: int | None
    seed: int
    batch_size: int | None
    precision: Precision


def _extract(model: nn.Module, split: data.LabelledImages, wanted: _Wanted) -> FeatureStore:
    stages, pool, transform, views, seed, batch_size, precision = wanted
    with _ONE_AT_A_TIME:  # modes and random generators belong to all threads
        model = require_module(model)
        transform = transform or data.transform_for(model)
        facts, device = models.info(model), device_of(model)
        batch_size = batch_size or _fitting(facts.input_size, device)
        trunk_to = partial(surgery.outputs, model, input_size=facts.input_size)
        trunk = trunk_to(stages)
        known = trunk.known_stages
        layouts = {stage: known[stage].layout for stage in stages} if pool else None
        forward = Forward(trunk, trunk_to, layouts, device, precision, batch_size)
        load = loader(split, transform, views, seed)
        chosen = _CHOSEN.get(model, {})
        trial = Trial(model, transform, forward, load, len(split), chosen.get(precision, forward.likely))
        if views is None and (trial.draws_images or trial.own_generator):
            raise _random_transform()
        images = _image_names(split, views)
        ingredients: dict[str, Any] = {
            "model": facts.name,
            "transform": fingerprint.short(trial.transform),
            "views": views,
            "seed": seed if views else None,
            "pool": pool,
            "precision": precision,
            "device": f"{device.type}, bfloat16" if runtime.bfloat16_units(device) else device.type,
            "versions": keys.versions(),
        }
        last = max(known.names.index(stage) for stage in stages)
        weights = keys.of_stages(model, known[: last + 1], trial.model)
        folder = f"{quote(facts.name, safe='')}-{fingerprint.short(ingredients)}"
        ingredients["data"] = fingerprint.short(images or split.fingerprint)
        about = {s: ingredients | {"stage": s, "weights": weights[known[s].name]} for s in stages}
        work = _Work(forward, load, trial, about, split, images, transform, views, batch_size)
        path = runtime.cache_dir("features") / folder / ingredients["data"]
        try:
            shelves = work.kept(path)
        except _NotKept as reason:
            ingredients["not kept"] = str(reason)
            log.warning("These features are not kept, and each call computes them again: %s.", str(reason))
            path = Path(tempfile.mkdtemp(prefix="not-kept-", dir=runtime.cache_dir("features")))
            shelves = work.shelves(path)
            work.fill(shelves, Known.nothing(len(split), work.rows))
        _CHOSEN[model] = chosen | {precision: shelves[stages[-1]].state["arithmetic"]}
    labels = np.repeat(np.asarray(split.labels, dtype=np.int64), views or 1)
    states = {stage: shelf.state | {"folder": shelf.folder.name} for stage, shelf in shelves.items()}
    groups = np.repeat(getattr(split, "groups", range(len(split))), views or 1)
    store = FeatureStore(path, stages, labels, groups, ingredients | {"stages": states})
    if "not kept" in ingredients:
        weakref.finalize(store, shutil.rmtree, path, ignore_errors=True)
    return store


def _fitting(input_size: tuple[int, int, int], device: torch.device) -> int:
    """Return how many images go into a pass: their maps should take the same memory at any size."""
    images = PASS_PIXELS // (input_size[1] * input_size[2]) // 8 * 8
    return max(16, min(128, images)) * (8 if device.type == "cuda" else 1)


def _image_names(split: data.LabelledImages, views: int | None) -> list[str]:
    """Return for each image what makes it another one, or nothing where only the whole is known to change.

    A split of a kind of its own may do more than to read its files, and its fingerprint tells of that.
    """
    if type(split) is not data.Split:
        return []
    names = (f"{content} {split.grey_bits} bits" for content in split.hashes)
    return [f"{i} {name}" for i, name in enumerate(names)] if views else list(names)


def _random_transform() -> LearnerError:
    return LearnerError(
        "This transform is random, so its features would differ at every run. Give views=k "
        "to keep k random views of each image, or a transform that is not random."
    )


class _NotKept(Exception):
    """Why features cannot be kept: they would not come out alike again."""


@dataclass
class _Work:
    """What computing the rows takes."""

    forward: Forward
    load: Callable[[int], torch.Tensor]
    trial: Trial
    about: dict[str, dict[str, Any]]
    split: data.LabelledImages
    images: list[str]
    transform: Callable[[Any], torch.Tensor]
    views: int | None
    batch_size: int

    @property
    def rows(self) -> int:
        """Number of rows of each image."""
        return self.views or 1

    def shelves(self, path: Path) -> dict[str, Shelf]:
        return {s: Shelf(path / f"{quote(s, safe='')}-{a['weights']}") for s, a in self.about.items()}

    def kept(self, path: Path) -> dict[str, Shelf]:
        """Return the shelves of a folder, after what lacks was computed. Raises _NotKept."""
        if reason := self.trial.unlike:
            raise _NotKept(reason)
        self._check_files()
        shelves = self.shelves(path)
        if not self._missing(shelves):
            return shelves
        if keys.is_random(self.transform, suspect=self.trial.asks_system):
            raise _random_transform() if self.views is None else _NotKept(OWN_GENERATOR)
        with ExitStack() as locks:
            # In one order for everybody, so that no two processes wait for each other.
            for folder in sorted(shelf.folder for shelf in shelves.values()):
                locks.enter_context(runtime.file_lock(folder))
            shelves = self.shelves(path)
            while missing := self._missing(shelves):
                for shelf in missing.values():
                    if shelf.complete:  # made by a computation that did something else
                        shelf.sweep(everything=True)
                fresh = not any(shelf.begun for shelf in missing.values())
                self.fill(missing, self._known(path, missing), check=self._check_files)
                if fresh and self._missing(missing):
                    for shelf in missing.values():
                        shelf.sweep(everything=True)
                    raise _NotKept(
                        "what the model gives for an image changes with the other images of its batch, or "
                        "from run to run"
                    )
        return shelves

    def _missing(self, shelves: dict[str, Shelf]) -> dict[str, Shelf]:
        """Return the shelves that are not complete, or hold other rows than the trial gave."""
        return {
            stage: shelf
            for stage, shelf in shelves.items()
            if not shelf.complete
            or not self.trial.agrees(stage, shelf.read(), self.rows, shelf.state["arithmetic"])
        }

    def _check_files(self) -> None:
        if changed := getattr(self.split, "changed", None):
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise _NotKept(
                f"{changed[0]}{more} changed after the data set was loaded. Load the data set again"
            )

    def _known(self, path: Path, shelves: dict[str, Shelf]) -> Known:
        if not self.images:
            return Known.nothing(len(self.split), self.rows)
        reuse.note(path, self.images)
        return reuse.find(path, shelves, self.images, self.rows, self.trial.confirms)

    def fill(self, shelves: dict[str, Shelf], known: Known, check: Callable[[], None] = lambda: None) -> None:
        """Write the rows that a shelf still lacks, and count them in as they are safe on the disk.

        `check` is called before rows count, and may raise an error.
        """
        images, rows, forward = len(self.split), self.rows, self.forward
        size, last = max(1, self.batch_size // rows), time.monotonic()
        for stage, shelf in shelves.items():
            shelf.sweep(everything=not shelf.begun)
            if shelf.begun:  # what was chosen for the first rows holds for the others
                forward.arithmetic[stage] = shelf.state["arithmetic"]
        forward.arithmetic |= known.arithmetic
        blocks = [*known.blocks(min(shelf.done for shelf in shelves.values()), size)]
        if not self.trial.unlike:
            forward.left = rows * sum(len(lacking) for _, _, lacking in blocks)
        runtime.keep_freed_memory()
        with evaluating(forward.trunk), closing(batches(self.load, blocks)) as ready:
            for first, end, batch in runtime.progress(ready, desc="features", total=len(blocks)):
                computed = {} if batch is None else forward(batch, shelves)
                for stage, shelf in shelves.items():
                    for begin, out in known.merge(stage, computed.get(stage), first, end, size):
                        if not shelf.begun:
                            chosen = {"arithmetic": forward.arithmetic[stage], "runtime": forward.runtime}
                            shelf.lay(out, images, rows, self.about[stage] | chosen)
                        shelf.write(out, begin)
                if end == images or time.monotonic() - last >= COMMIT_SECONDS:
                    check()
                    for shelf in shelves.values():
                        shelf.commit()
                    last = time.monotonic()


def _check(
    stages: tuple[str, ...],
    split: data.LabelledImages,
    views: int | None,
    batch_size: int | None,
    precision: str,
) -> None:
    if not stages:
        raise LearnerError(
            "`at` is empty. Expected the names of the stages to read, for example at=['pool']; "
            "surgery.stages(model) lists them; all of them are at=[s.name for s in surgery.stages(model)]."
        )
    if not len(split):
        raise LearnerError("The split has no images. Expected at least one.")
    if any(number is not None and number < 1 for number in (views, batch_size)):
        raise LearnerError(f"views is {views} and batch_size {batch_size}. Expected at least 1 of each.")
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
