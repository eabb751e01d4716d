"""What does it cost to know that features are still right? A share of an extraction, and ms of a warm one.

    python benchmarks/fingerprint.py                  # 400 solar cells, EfficientNet-Lite0 at 224 pixels
    python benchmarks/fingerprint.py --images 200 --size 128 --rounds 7

In each round an extraction into an empty cache is timed and then one from the full cache, and within both the
parts that only serve to know: the trial of images with a look at all that the model and the transform are
made of, the keys, the repeated transform of a small picture, the hashes of files and the checksums of arrays.
Processor time of one thread, which what else the machine does leaves alone. Medians are printed.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from tlutils import data, features, models
from tlutils.data import dataset
from tlutils.features import extraction, keys, store

COSTS: Counter[str] = Counter()


def timed(place: Any, name: str) -> None:
    """Add the time of every call of `place.name` to COSTS."""
    work: Callable[..., Any] = getattr(place, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            COSTS[name] += time.thread_time() - start

    setattr(place, name, wrapped)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = models.load(models.DEFAULT, input_size=options.size)
    split = data.load("elpv-defects").train.subsample(options.images // 2)
    features.extract(model, split.select(range(8)), at=["pool"])  # imports, kernels, stages
    timed(extraction, "Trial")
    timed(keys, "is_random")
    timed(keys, "of_stages")
    timed(store, "_checksum")
    timed(dataset, "_sha256")
    found: dict[str, list[float]] = {"cold": [], "warm": [], "cold cost": [], "warm cost": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TLUTILS_CACHE"] = cache
            for kind in ("cold", "warm"):
                COSTS.clear()
                start = time.process_time()
                features.extract(model, split, at=["pool"])
                found[kind].append(time.process_time() - start)
                found[f"{kind} cost"].append(COSTS.total())
                parts = ", ".join(f"{name} {1000 * cost:.0f}" for name, cost in COSTS.items())
                print(f"{kind} {found[kind][-1]:.3f} s, of which to know, in ms: {parts}")
    median = {kind: statistics.median(values) for kind, values in found.items()}
    print(
        f"{len(split)} images, {options.size} px: {median['cold cost'] / median['cold']:.1%} of "
        f"{median['cold']:.1f} s, {1000 * median['warm cost']:.0f} ms of a warm one "
        f"({1000 * median['warm']:.0f} ms)"
    )


if __name__ == "__main__":
    main()
