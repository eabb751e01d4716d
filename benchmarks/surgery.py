"""What does surgery cost? Seeing a model as stages, auditing it, running it in two halves instead of whole.

    python benchmarks/surgery.py                      # ResNet-50 at 224 pixels, one core
    python benchmarks/surgery.py --model timm/convnext_tiny --cut stage2 --pairs 31

`stages` and `audit` are timed on a model that nothing has looked at before, since a second call only looks up
what the first found. The forward passes take turns, whole and halves; the ratio is taken within each pair.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from tlutils import models, surgery


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that `work` took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="torchvision/resnet50")
    parser.add_argument("--cut", default="stage3")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for act in (surgery.stages, surgery.audit):
        untouched = [models.load(options.model, pretrained=False) for _ in range(4)]
        act(untouched.pop())  # imports
        found = [seconds(lambda model=model, act=act: act(model)) for model in untouched]
        print(
            f"{act.__name__} of {options.model}: {statistics.median(found):.2f} s ({max(found):.2f} at most)"
        )

    model = models.load(options.model, pretrained=False).eval()
    prefix, suffix = surgery.split_at(model, options.cut)
    x = torch.randn(options.batch, *models.info(model).input_size)
    ratios = []
    with torch.no_grad():
        assert torch.equal(suffix(prefix(x)), model(x))
        runs = [lambda: model(x), lambda: suffix(prefix(x))]
        for pair in range(options.pairs):
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            took = {i: seconds(runs[i]) for i in order}
            ratios.append(took[1] / took[0])
    low, _, high = statistics.quantiles(ratios, n=4)
    print(
        f"forward in halves at {options.cut} / whole: {statistics.median(ratios):.3f} "
        f"(middle half of {options.pairs} pairs: {low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
