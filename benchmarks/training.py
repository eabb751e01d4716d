"""What makes a training step quicker on a processor: kept memory, and parts computed in quicker ways.

    python benchmarks/training.py                          # EfficientNet-Lite0 at 96 pixels, one core
    python benchmarks/training.py --size 224 --batch 8 --freeze-batchnorm
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/training.py  # without AVX-512

Each way runs in a process of its own, since memory that is kept stays kept, and the ways take turns. What
is compared are seconds of the processor for one step, channels last, every way at its place of a round.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

WAYS = {
    "plain": "memory goes back to the system after each step",
    "kept": "memory is kept (runtime.keep_freed_memory)",
    "kept, kernels": "and depthwise gradients, ReLU6, frozen BatchNorm in quicker ways (train.cpu_kernels)",
}


def measure(way: str, options: argparse.Namespace) -> float:
    """Return the processor's seconds of a median step in this process."""
    import torch

    from tlutils import models, runtime, surgery
    from tlutils.train.cpu_kernels import CpuKernels

    torch.set_num_threads(1)
    if way == "plain":
        runtime.keep_freed_memory = lambda: False  # which models.load calls
    model = models.load(options.model, pretrained=False, num_classes=10, input_size=options.size).train()
    model = model.to(memory_format=torch.channels_last)
    if options.freeze_batchnorm:
        surgery.freeze_batchnorm(model)
    x = torch.randn(options.batch, 3, options.size, options.size).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (options.batch,))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-5, fused=True)
    seconds = []
    for _ in range(options.steps):
        start = time.process_time()
        optimizer.zero_grad()
        with CpuKernels() if way.endswith("kernels") else nullcontext():
            torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[2:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--freeze-batchnorm", action="store_true")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # the part of a child
    options = parser.parse_args()
    if options.way:
        print(measure(options.way, options))
        return
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            call = [sys.executable, *sys.argv, "--way", way]
            child = subprocess.run(call, capture_output=True, text=True, check=True)
            found[way].append(float(child.stdout))
    for way, what in WAYS.items():
        ratios = sorted(a / b for a, b in zip(found["plain"], found[way], strict=True))
        print(
            f"{way:16s} {1e3 * statistics.median(found[way]):6.0f} ms a step, "
            f"{statistics.median(ratios):.2f} times as quick as plain "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}): {what}"
        )


if __name__ == "__main__":
    main()
