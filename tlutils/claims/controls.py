"""The gate: a strategy that loses to what it starts from, or to no trained network, is no fair opponent."""

from collections.abc import Iterator
from itertools import product

from .effects import Contrast, Mean, Ranking, values_of
from .materials import BACKBONE
from .training import STRATEGIES

PRETRAINED = (("a linear probe of the frozen features", BACKBONE, "pool"),)
UNTRAINED = (
    ("a linear classifier of the pixels", "pixels", "pixels"),
    ("a probe of a random frozen backbone", "random", "pool"),
)


def controls(effect: Contrast | Ranking) -> Iterator[tuple[str, Contrast]]:
    """Yield what must not be below 0 before an effect says anything, with words for its failure.

    A network trained from scratch has to reach a linear classifier of the pixels and of a random frozen
    backbone, a finetuned one the probe of the pretrained backbone: else its recipe was no fair one.

    Args:
        effect: what a claim is about.
    """
    seen = set()
    for mean in effect.means():
        if mean.protocol != "training":
            continue
        names = ("dataset", "level", "strategy")
        for dataset, level, strategy in product(*(values_of(mean.axes[name]) for name in names)):
            if strategy not in STRATEGIES:  # an ablation, which may lose
                continue
            for words, backbone, at in UNTRAINED if strategy == "scratch" else PRETRAINED:
                text = f"{dataset}, {level}: {strategy} is surely below {words}"
                if text not in seen:
                    seen.add(text)
                    own = {"dataset": dataset, "level": level}
                    trained = Mean(protocol="training", axes={**mean.axes, **own, "strategy": strategy})
                    bar = Mean(protocol="linear_probe", axes={**own, "backbone": backbone, "at": at})
                    yield text, trained - bar
