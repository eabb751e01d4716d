"""On which images that come with the packages does pretraining help a probe most? A table, on val.

    python benchmarks/pretraining_gain.py

For each offline data set, and for crops of four photographs in colour: a linear probe of the frozen
EfficientNet-Lite0, pretrained, and of the same network with random weights. Both learn from the same 200
images, drawn three times, and are judged by the same (at most) 150 of val, at 96 pixels. No test image is
read. The interval covers other draws and other images; crops of one photograph count as one.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tlutils import data, features, intervals, models, probe

SIZE, TRAIN, VAL, SEEDS = 96, 200, 150, range(3)


def cut_photographs(folder: Path) -> Path:
    """Write 40 crops in colour of each of four photographs: the left half trains, val is right of it."""
    rng = np.random.default_rng(0)
    for label in ("cat", "coffee", "flower", "rocket"):
        whole = data.load_photograph(label)
        width, height = whole.size
        for split, left, right in (("train", 0.0, 0.5), ("val", 0.52, 1.0)):
            (folder / split / label).mkdir(parents=True)
            for k in range(50):
                side = int(rng.uniform(0.3, 0.6) * min(height, (right - left) * width))
                x = int(rng.integers(int(left * width) + 1, int(right * width) - side))
                y = int(rng.integers(0, height - side))
                crop = whole.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
                crop.save(folder / split / label / f"{k:02}.png")
    return folder


def all_sets(folder: Path) -> Iterator[tuple[str, data.DatasetSplits]]:
    """Yield each offline data set with its name, and at last the photographs in colour."""
    for card in data.catalog(offline=True):
        yield card.name, data.load(card.name, seed=0)
    yield "photographs, in colour", data.load(cut_photographs(folder), seed=0)


def measure(name: str, dataset: data.DatasetSplits) -> str:
    """Return a row of the table for one data set."""
    classes = len(dataset.classes)
    val = dataset.val.subsample(min(VAL // classes, *dataset.val.counts.values()), seed=0)
    hits: dict[str, list[np.ndarray]] = {"pretrained": [], "random": []}
    for seed in SEEDS:
        train = dataset.train.subsample(min(TRAIN // classes, *dataset.train.counts.values()), seed=seed)
        for way, own in hits.items():
            net = models.load(models.DEFAULT, pretrained=way == "pretrained", input_size=SIZE, seed=seed)
            known, new = (features.extract(net, split, at=["pool"])["pool"] for split in (train, val))
            solved = probe.fit_probe(known, train.labels, penalties=(10, 0.3, 0.01), folds=3, seed=seed)
            own.append(solved.predict(new) == np.array(val.labels))
    groups = val.labels if name == "scenes" or "photographs" in name else None
    gain = intervals.compare_hits(hits["pretrained"], hits["random"], groups=groups)
    pretrained, random = (np.mean(own) for own in hits.values())
    interval = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    return f"| {name} | {classes} | {pretrained:.3f} | {random:.3f} | {interval} |"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print("| images | classes | pretrained | random | pretrained minus random |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset in all_sets(Path(folder)):
            print(measure(name, dataset), flush=True)


if __name__ == "__main__":
    main()
