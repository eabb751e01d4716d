"""Is `features.extract` faster than the loop that one would write? Ours against a plain DataLoader, in pairs.

    python benchmarks/features.py                     # 400 solar cells, EfficientNet-Lite0 at 224 pixels
    python benchmarks/features.py --images 200 --size 128 --pairs 7

Both compute the pooled features of the same images with the same model. They take turns, so that what else
the machine does falls on both; the ratio is taken within each pair, and the median and range are printed.
The plain loop keeps its features in memory; ours also writes them to the disk, safely.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader

from tlutils import data, features, models, surgery


def plain(model: torch.nn.Module, split: data.Split, workers: int) -> np.ndarray:
    """Return pooled features (N, D) by the usual loop: a DataLoader, no_grad, a list of batches."""
    loader = DataLoader(split.transformed(data.transform_for(model)), batch_size=32, num_workers=workers)
    backbone, _ = surgery.split_at(model, "head")
    backbone.eval()
    with torch.no_grad():
        return torch.cat([backbone(images) for images, _ in loader]).numpy()


def ours(model: torch.nn.Module, split: data.Split) -> np.ndarray:
    """Return the same from a fresh store."""
    return np.asarray(features.extract(model, split, at=["pool"])["pool"])


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the seconds that `work` took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers of the plain loop")
    options = parser.parse_args()
    torch.set_num_threads(2)
    model = models.load(models.DEFAULT, input_size=options.size)
    split = data.load("elpv-defects").train.subsample(options.images // 2)
    plain(model, split.select(range(8)), options.workers)  # imports, kernels, file cache
    ratios, again = [], []
    for pair in range(options.pairs):
        # A fresh cache folder in each pair, since a second call would only read.
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TLUTILS_CACHE"] = cache
            runs = [lambda: plain(model, split, options.workers), lambda: ours(model, split)]
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            found = {i: timed(runs[i]) for i in order}
            again.append(timed(runs[1])[0])
        (slow, expected), (fast, got) = found[0], found[1]
        assert np.abs(expected - got).max() < 1e-2 * np.abs(expected).max()
        ratios.append(slow / fast)
        print(
            f"plain {slow:6.2f} s, ours {fast:6.2f} s, ratio {ratios[-1]:.2f}, read again {again[-1]:.3f} s"
        )
    print(
        f"{len(split)} images, {options.size} px, {options.workers} workers: plain / ours = "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} pairs), "
        f"read again in {1000 * statistics.median(again):.0f} ms"
    )


if __name__ == "__main__":
    main()
