"""One decode and one forward pass per image, for any number of stages."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from threading import Lock
from typing import Any, Literal, get_args
from urllib.parse import quote

import numpy as np
import torch
from torch import nn

from .. import data, models, runtime, surgery
from ..errors import LearnerError, unknown
from . import keys
from .store import Arrays, FeatureStore, Shelf, write_labels

log = logging.getLogger(__name__)

DRIFT = 0.02
"""How far bfloat16 features may lie from float32 ones: a share of a sample's spread between its images."""

COMMIT_SECONDS = 1.0  # how much work a kill can cost
SAMPLE = 8  # images that the drift is measured on
_SEEDED = Lock()  # random transforms draw from generators that all threads share

Precision = Literal["auto", "float32"]


def extract(
    model: nn.Module,
    split: Any,
    *,
    at: Sequence[str],
    pool: bool = True,
    transform: Callable | None = None,
    views: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    precision: Precision = "auto",
) -> FeatureStore:
    """Return the store of what leaves the stages `at` for every image of `split`; the model stays as it is.

    Images are decoded once and pass the model once, in evaluation mode, however many stages are asked for.
    The arrays stay in the cache folder, under a key of everything that they depend on. Asked again, they are
    opened in milliseconds; with another weight, transform, image or library version they are made anew; after
    a kill the work goes on where it was; a second process waits for the first and does not repeat its work.

    `pool` averages maps over space and tokens over their number: (N, D) a stage. Without it maps stay whole.
    `transform` is that of the weights unless given. A random one needs `views`, the number of random views
    of each image: view v of image i depends on `seed`, v and i alone. `precision` "auto" uses channels-last
    maps, and bfloat16 on a processor with units for it, if a sample drifts by no more than `DRIFT`; "float32"
    is the model's own arithmetic to the last bit. Raises LearnerError for no stage, an unknown stage, no
    images, images of different sizes, a random transform without `views`, a full disk.
    """
    names = [at] if isinstance(at, str) else [getattr(stage, "name", stage) for stage in at]
    stages = tuple(dict.fromkeys(names))
    _check(stages, split, views, batch_size, precision)
    transform = transform or data.transform_for(model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    ingredients = {
        "model": models.info(model).name,
        "data": split.fingerprint,
        "images": len(split),
        "transform": keys.of_transform(transform),
        "views": views,
        "seed": seed if views else None,
        "pool": pool,
        "precision": precision,
        "device": device.type,
        "units": _bfloat16_units(device) if precision == "auto" else None,
        "versions": keys.versions(),
    }
    path = runtime.cache_dir("features") / f"{quote(ingredients['model'], safe='')}-{keys.short(ingredients)}"
    trunk = surgery.outputs(model, at=list(stages))
    weights = keys.of_weights(trunk)
    folders = {stage: f"{quote(stage, safe='')}-{keys.short(stage, weights)}" for stage in stages}
    rows = views or 1
    if not all(Shelf(path / folder).complete for folder in folders.values()):
        path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            for folder in sorted(
                folders.values()
            ):  # in one order for all, so that no two wait for each other
                locks.enter_context(runtime.file_lock(path / folder))
            shelves = {stage: Shelf(path / folder) for stage, folder in folders.items()}
            missing = {stage: shelf for stage, shelf in shelves.items() if not shelf.complete}
            if missing:
                if views is None and keys.is_random(transform):
                    raise LearnerError(
                        "This transform is random, so its features would differ at every run. Give views=k "
                        "to keep k random views of each image, or a transform that is not random."
                    )
                write_labels(path / "labels.npy", np.repeat(np.asarray(split.labels, dtype=np.int64), rows))
                run = _Run(trunk, device, pool, precision)
                _fill(missing, run, split, _loader(split, transform, views, seed), batch_size, rows, weights)
    about = {stage: Shelf(path / folder).state | {"folder": folder} for stage, folder in folders.items()}
    return FeatureStore(path, stages, np.load(path / "labels.npy"), ingredients | {"stages": about})


def _check(stages: tuple[str, ...], split: Any, views: int | None, batch_size: int, precision: str) -> None:
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


def _loader(split: Any, transform: Callable, views: int | None, seed: int) -> Callable[[int], torch.Tensor]:
    """Return the function that decodes image i once and gives its rows, a tensor (rows, C, H, W)."""

    def load(i: int) -> torch.Tensor:
        image = split[i][0]
        if views is None:
            return _image_tensor(transform(image))[None]
        rows = []
        for view in range(views):
            draw = int(np.random.SeedSequence([seed, view, i]).generate_state(1)[0])
            with _SEEDED, runtime.seeded(draw):
                rows.append(_image_tensor(transform(image)))
        return torch.stack(rows)

    return load


def _image_tensor(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.ndim != 3:
        got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise LearnerError(
            f"The transform gave {got}. Expected a tensor (C, H, W); data.transform_for(model) gives one."
        )
    return value


def _batches(
    load: Callable[[int], torch.Tensor], start: int, images: int, size: int
) -> Generator[tuple[int, torch.Tensor]]:
    """Yield (first image, rows of `size` images), decoded by threads while the model works on earlier ones.

    At most three batches are in memory. Threads suffice: Pillow decodes and resizes outside Python's lock.
    """
    with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), thread_name_prefix="decode") as threads:
        waiting: deque[tuple[int, list[Future]]] = deque()
        try:
            for first in range(start, images + 2 * size, size):
                if first < images:
                    chunk = range(first, min(first + size, images))
                    waiting.append((first, [threads.submit(load, i) for i in chunk]))
                if len(waiting) > 2 or (first >= images and waiting):
                    begin, futures = waiting.popleft()
                    yield begin, _stacked([future.result() for future in futures])
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _stacked(rows: list[torch.Tensor]) -> torch.Tensor:
    shapes = {tuple(r.shape[1:]) for r in rows}
    if len(shapes) > 1:
        raise LearnerError(
            f"The transform gave tensors of different shapes ({' and '.join(map(str, sorted(shapes)))}). "
            "Expected one size for all images: resize and crop them, as data.transform_for(model) does."
        )
    return torch.cat(rows)


class _Run:
    """The model's forward pass in the fastest arithmetic that is near enough: call it with (B, C, H, W)."""

    def __init__(self, trunk: nn.Module, device: torch.device, pool: bool, precision: str) -> None:
        self.trunk, self.device, self.pool, self.precision = trunk, device, pool, precision
        parameter = next((p for p in trunk.parameters() if p.is_floating_point()), None)
        self.dtype = torch.float32 if parameter is None else parameter.dtype

    def settle(self, images: torch.Tensor) -> None:
        """Choose bfloat16 or float32 by a sample, and stay with it."""
        if self.precision != "auto":
            return
        self.precision = "channels_last"
        if self.dtype == torch.float32 and _bfloat16_units(self.device):
            sample = images[:SAMPLE]
            plain, fast = self._forward(sample, "channels_last"), self._forward(sample, "bfloat16")
            drift = max(
                _drift(a, b) for stage in plain for a, b in zip(plain[stage], fast[stage], strict=True)
            )
            if drift <= DRIFT:
                self.precision = "bfloat16"
            else:
                log.info(
                    "bfloat16 would move features by %.1f %% of their spread; float32 it is.", 100 * drift
                )

    def __call__(self, images: torch.Tensor) -> dict[str, Arrays]:
        # Kernels may differ by batch size, above all for a batch of one, and an image's code should not.
        extra = -len(images) % 8
        padded = torch.cat([images, images[-1:].expand(extra, *images.shape[1:])]) if extra else images
        out = self._forward(padded, self.precision)
        return {stage: tuple(a[: len(images)] for a in arrays) for stage, arrays in out.items()}

    def _forward(self, images: torch.Tensor, precision: str) -> dict[str, Arrays]:
        x = images.to(self.device, self.dtype)
        if precision != "float32":
            x = x.to(memory_format=torch.channels_last)
        fast = precision == "bfloat16"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=fast):
            out = self.trunk(x)
        return {
            stage: tuple(
                _array(v, self.pool) for v in (value if isinstance(value, tuple | list) else (value,))
            )
            for stage, value in out.items()
        }


def _array(value: torch.Tensor, pool: bool) -> np.ndarray:
    """Return a stage's output as an array; when pooled, (N, C, H, W) and tokens (N, T, C) become (N, C)."""
    value = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if pool and value.ndim > 2:
        value = value.mean(dim=1) if value.ndim == 3 else value.mean(dim=(2, 3))
    return value.cpu().numpy()


def _drift(plain: np.ndarray, fast: np.ndarray) -> float:
    """Return the distance of two versions of the same rows, in units of the spread between the rows."""
    spread = np.linalg.norm(plain - plain.mean(axis=0))
    distance = np.linalg.norm(fast - plain)
    return float(distance / spread) if spread > 0 else float("inf") if distance > 0 else 0.0


def _bfloat16_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
    return device.type == "cpu" and any(ask() for ask in supported if ask)


def _fill(
    shelves: dict[str, Shelf],
    run: _Run,
    split: Any,
    load: Callable[[int], torch.Tensor],
    batch_size: int,
    rows: int,
    weights: str,
) -> None:
    """Compute the images that a shelf still lacks, and count them in as they are safe on the disk."""
    images, size, last = len(split), max(1, batch_size // rows), time.monotonic()
    arithmetics = {s.state["precision"] for s in shelves.values() if s.begun}
    if len(arithmetics) == 1:  # what was chosen for the first rows holds for the others
        run.precision = arithmetics.pop()
    else:
        for shelf in shelves.values():
            shelf.clear()
    start = min(shelf.done for shelf in shelves.values())
    total = -(-(images - start) // size)
    with _still(run.trunk), closing(_batches(load, start, images, size)) as batches:
        for first, batch in runtime.progress(batches, desc="features", total=total):
            run.settle(batch)
            out = run(batch)
            for stage, shelf in shelves.items():
                if not shelf.begun:
                    about = {"stage": stage, "weights": weights, "precision": run.precision}
                    shelf.lay(out[stage], images, rows, about)
                shelf.write(out[stage], first)
            done = first + len(batch) // rows
            if done == images or time.monotonic() - last >= COMMIT_SECONDS:
                for shelf in shelves.values():
                    shelf.commit(max(done, shelf.done))
                last = time.monotonic()


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode; modules' modes and the random generators are afterwards as before."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with runtime.seeded(0):
            yield
    finally:
        for m, mode in modes:
            m.training = mode
