"""What does it cost to know that features are still right? A share of an extraction, and ms of a warm one.

    python benchmarks/fingerprint.py                  # 400 solar cells, EfficientNet-Lite0 at 224 pixels
    python benchmarks/fingerprint.py --images 200 --size 128 --rounds 7

In each round an extraction into an empty cache is timed and then one from the full cache, and within both the
parts that only serve to know: the trial of images with a look at all that the model and the transform are
made of, the keys, the repeated transform of a small picture, the hashes of files and the checksums of arrays.
Time by the clock on all cores, as somebody waits for it, so let the machine be quiet. Medians are printed;
beside them what it takes to see that the model still goes the steps of surgery's plan, as whatever reads
stages does.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from tlutils import data, features, models, surgery
from tlutils.data import dataset
from tlutils.features import extraction, keys, store

COSTS: Counter[str] = Counter()


def timed(place: Any, name: str) -> None:
    """Add the time of every call of `place.name` to COSTS."""
    work: Callable[..., Any] = getattr(place, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            COSTS[name] += time.perf_counter() - start

    setattr(place, name, wrapped)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = models.load(models.DEFAULT, input_size=options.size)
    split = data.load("elpv-defects").train.subsample(options.images // 2)
    features.extract(model, split.select(range(8)), at=["pool"])  # imports, kernels, stages
    timed(extraction, "Trial")
    timed(keys, "is_random")
    timed(keys, "of_stages")
    timed(store, "_checksum")
    timed(dataset, "_sha256")
    timed(surgery, "outputs")
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TLUTILS_CACHE"] = cache
            for kind in ("cold", "warm"):
                COSTS.clear()
                start = time.perf_counter()
                features.extract(model, split, at=["pool"])
                found[kind].append(time.perf_counter() - start)
                found[f"{kind} plan"].append(COSTS.pop("outputs"))
                found[f"{kind} cost"].append(COSTS.total())
                parts = ", ".join(f"{name} {1000 * cost:.0f}" for name, cost in COSTS.items())
                print(f"{kind} {found[kind][-1]:.3f} s, of which to know, in ms: {parts}")
    median = {kind: statistics.median(values) for kind, values in found.items()}
    print(
        f"{len(split)} images, {options.size} px: {median['cold cost'] / median['cold']:.1%} of "
        f"{median['cold']:.1f} s, {1000 * median['warm cost']:.0f} ms of a warm one "
        f"({1000 * median['warm']:.0f} ms), and {1000 * median['warm plan']:.0f} ms for surgery's plan"
    )


if __name__ == "__main__":
    main()
