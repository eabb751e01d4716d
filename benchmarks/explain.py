"""How long explanations take on Lite0 at 224 pixels, beside captum and a lucent-style optimisation.

    python benchmarks/explain.py [--threads 2] [--repeats 3]

Each row is the median of the repeats, in seconds, with the limit that the course keeps on two quiet cores.
Both sides of a ratio run in turn, so that a busy machine slows both.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from tlutils import explain, models

SQUARE = 16  # 14 × 14 positions on 224 pixels


def lucent_style(model: nn.Module, target: int, steps: int) -> Tensor:
    """The common recipe: a Fourier image with decorrelated colours, jitter, and Adam on one score."""
    colours = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
    frequency = (
        (torch.fft.fftfreq(224)[:, None] ** 2 + torch.fft.rfftfreq(224)[None] ** 2).sqrt().clamp(min=1 / 224)
    )
    spectrum = (0.01 * torch.randn(1, 3, *frequency.shape, 2)).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], 0.05)
    for _ in range(steps):
        grown = torch.fft.irfft2(torch.view_as_complex(spectrum) * 224 / frequency, s=(224, 224)) / 4
        image = torch.einsum("cd,ndhw->nchw", colours / 0.3, grown).sigmoid()
        shift = torch.randint(-16, 17, (2,)).tolist()
        score = model(explain.normalize(model, image.roll(shift, (2, 3))))[0, target]
        optimizer.zero_grad()
        (-score).backward(inputs=[spectrum])
        optimizer.step()
    return image.detach()


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = models.load("tf_efficientnet_lite0")
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    size = (3, SQUARE, SQUARE)
    theirs = Occlusion(model)
    steps = 150
    rows: dict[str, tuple[Callable[[], object], float | None]] = {
        "Grad-CAM, first call (follows the model once)": (lambda: explain.grad_cam(model, x, 281), None),
        "Grad-CAM": (lambda: explain.grad_cam(model, x, 281), 0.2),
        "saliency": (lambda: explain.saliency(model, x, 281), None),
        "occlusion, 14 × 14": (lambda: explain.occlusion(model, x, 281, window=SQUARE, stride=SQUARE), 5.0),
        "occlusion, 14 × 14, captum": (lambda: captum(), None),
        f"class image, {steps} steps": (lambda: explain.class_visualization(model, 281, steps=steps), 20.0),
        f"class image, {steps} steps, lucent-style": (lambda: lucent_style(model, 281, steps), None),
        "inversion of stage4, 100 steps": (lambda: explain.feature_inversion(model, x, at="stage4"), 15.0),
    }

    def captum() -> Tensor:
        with torch.no_grad():
            return theirs.attribute(x, size, strides=size, target=281, perturbations_per_eval=16)

    with torch.no_grad():
        model(x)  # the first pass of a process also sets up the kernels
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(chosen.repeats):
        for name, (call, _limit) in rows.items():
            if not (taken[name] and "first call" in name):
                taken[name].append(seconds(call))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, (_, limit) in rows.items():
        verdict = (
            "" if limit is None else f"  limit {limit:g}: {'kept' if medians[name] < limit else 'MISSED'}"
        )
        print(f"{name:48} {medians[name]:7.2f} s{verdict}")
    for name in (n for n in rows if n.endswith((", captum", ", lucent-style"))):
        ours = name.rsplit(", ", 1)[0]
        print(f"{ours}: {medians[ours] / medians[name]:.2f} times {name.rsplit(', ', 1)[1]}'s time")


if __name__ == "__main__":
    main()
