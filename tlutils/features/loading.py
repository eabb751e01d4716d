"""Images to tensors in threads, each image decoded once, a few batches ahead of the model."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from threading import Lock
from typing import Any

import torch

from .. import data, runtime
from ..errors import LearnerError

_SEEDED = Lock()  # random transforms draw from generators that all threads share


def loader(
    split: data.LabelledImages, transform: Callable[[Any], Any], views: int | None, seed: int
) -> Callable[[int], torch.Tensor]:
    """Return the function that decodes image i once and gives its rows, a tensor (rows, C, H, W)."""

    def load(i: int) -> torch.Tensor:
        image = data.read_for(transform, split, i)
        if views is None:
            return _image_tensor(transform(image))[None]
        rows = []
        for view in range(views):
            with _SEEDED, runtime.seeded(runtime.derive_seed(seed, view, i)):
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


def batches(
    load: Callable[[int], torch.Tensor], blocks: Iterable[tuple[int, int, list[int]]]
) -> Generator[tuple[int, int, torch.Tensor | None]]:
    """Yield (first image, end, rows of those to compute) of blocks (first image, end, those to compute).

    Images are decoded by threads while the model works on earlier ones; at most three batches are in memory.
    Threads suffice: Pillow decodes and resizes outside Python's lock.
    """
    with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), thread_name_prefix="decode") as threads:
        waiting: deque[tuple[int, int, list[Future[torch.Tensor]]]] = deque()
        try:
            for block in chain(blocks, (None, None)):
                if block is not None:
                    first, end, lacking = block
                    waiting.append((first, end, [threads.submit(load, i) for i in lacking]))
                if len(waiting) > 2 or (block is None and waiting):
                    first, end, futures = waiting.popleft()
                    yield first, end, _stacked([future.result() for future in futures]) if futures else None
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
