"""From which epoch on does it pay to keep what leaves a stage, instead of computing it in each epoch?

    python benchmarks/keeping.py                      # 64 solar cells, EfficientNet-Lite0 at 224 pixels
    python benchmarks/keeping.py --model resnet50 --images 32

For each cut: bytes of an image's maps (float32), milliseconds to decode an image and run the stages before
the cut, to write its maps safely to the cache folder, and to read them back, on Linux from the disk and not
from memory. Keeping pays from the epoch on in which writing once and reading in each have taken less than
computing in each. Half precision would halve the bytes and the times of the disk, and nothing else.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from tlutils import data, models, runtime, surgery


def milliseconds(images: int, start: float) -> float:
    """Return the time since `start` for each image."""
    return 1000 * (time.perf_counter() - start) / images


def disk(blob: bytes, images: int, times: int) -> tuple[float, float]:
    """Return milliseconds an image (to write, to read) for the maps of some images, `times` over."""
    with tempfile.NamedTemporaryFile(dir=runtime.cache_dir("features")) as file:
        start = time.perf_counter()
        for _ in range(times):
            file.write(blob)
        file.flush()
        os.fsync(file.fileno())
        write = milliseconds(images * times, start)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        Path(file.name).read_bytes()
        return write, milliseconds(images * times, start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    model = models.load(options.model).eval()
    split = data.load("elpv-defects").train.select(range(options.images))
    transform = data.transform_for(model)
    transform(split[0][0])  # imports
    start = time.perf_counter()
    images = torch.stack([transform(image) for image, _ in split])
    decode = milliseconds(len(split), start)
    print(f"decode and transform {decode:.2f} ms an image, {torch.get_num_threads()} threads")
    print("| cut before | kB | compute, ms | write, ms | read, ms | compute / read | pays from epoch |")
    print("|---|---|---|---|---|---|---|")
    for stage in surgery.stages(model).names[1:]:
        prefix, _ = surgery.split_at(model, stage)
        with torch.no_grad():
            prefix(images[:8])  # kernels, memory
            start = time.perf_counter()
            out = [prefix(part) for part in images.split(16)]
            compute = decode + milliseconds(len(images), start)
        values = [value for part in out for value in ([part] if isinstance(part, torch.Tensor) else part)]
        blob = b"".join(value.numpy().tobytes() for value in values)
        size = len(blob) / len(images)
        write, read = disk(blob, len(images), max(1, int(1e8 / len(blob))))
        pays = next((n for n in range(1, 100) if compute + write + n * read < n * compute), "never")
        print(
            f"| {stage} | {size / 1000:.0f} | {compute:.1f} | {write:.2f} | {read:.2f} "
            f"| {compute / read:.0f} | {pays} |"
        )


if __name__ == "__main__":
    main()
