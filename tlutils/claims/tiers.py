"""What is run: the quick tier that everybody can repeat in minutes, and the full one; each a grid of runs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..experiments import Run, grid
from .copying import LAYERS, layer_transfer
from .explaining import cascading_randomization, domain_distance, gabor_likeness, pointing_game
from .materials import BACKBONE, FAR, NEAR, STAGES
from .probing import linear_probe, nearest_neighbour
from .training import RATE, surgical_finetuning, training

PROTOCOLS: dict[str, Callable[..., Mapping[str, Any]]] = {
    f.__name__: f
    for f in (
        linear_probe,
        nearest_neighbour,
        training,
        surgical_finetuning,
        layer_transfer,
        gabor_likeness,
        pointing_game,
        cascading_randomization,
        domain_distance,
    )
}
VERSION = "2"
"""Part of the key of every run. Raise it with every change to a protocol that changes results."""

SCRATCH_RATE = 1e-3
LARGER = ("tf_efficientnet_lite1", "tf_efficientnet_lite2")
RATES = (RATE, 3e-3, 3e-2)


@dataclass(frozen=True, kw_only=True)
class Tier:
    """How much is run: the quick tier takes minutes, the full one an hour or two.

    Attributes:
        name: "quick" or "full".
        images: training images of each class, by data set and level ("little", "lots").
        epochs: of training from pretrained weights, by level.
        scratch_factor: how many times as many epochs training from scratch has, by level.
        probe_seeds: number of seeds of runs that train no network.
        little_seeds: number of seeds of training with little data, and of other runs of that cost.
        lots_seeds: number of seeds of training with lots of data.
        pictures: number of pictures in the pointing game.
    """

    name: str
    images: Mapping[str, Mapping[str, int]]
    epochs: Mapping[str, int]
    scratch_factor: Mapping[str, int]
    probe_seeds: int
    little_seeds: int
    lots_seeds: int
    pictures: int


QUICK = Tier(
    name="quick",
    images={
        "scenes": {"little": 3, "lots": 20},
        "elpv-defects": {"little": 10, "lots": 80},
        "mnist-5k": {"little": 3, "lots": 30},
    },
    epochs={"little": 8, "lots": 4},
    scratch_factor={"little": 1, "lots": 2},
    probe_seeds=6,
    little_seeds=4,
    lots_seeds=3,
    pictures=12,
)
FULL = Tier(
    name="full",
    images={
        "scenes": {"little": 3, "some": 20, "lots": 40},
        "elpv-defects": {"little": 10, "some": 80, "lots": 160},
        "mnist-5k": {"little": 3, "some": 30, "lots": 60},
    },
    epochs={"little": 8, "some": 4, "lots": 4},
    scratch_factor={"little": 2, "some": 2, "lots": 3},
    probe_seeds=10,
    little_seeds=8,
    lots_seeds=5,
    pictures=24,
)


def runs(tier: Tier) -> dict[str, list[Run]]:
    """Return the runs of a tier by protocol, each a mapping from axes to values.

    Args:
        tier: `QUICK` or `FULL`.

    Example:
        >>> from tlutils import claims
        >>> claims.runs(claims.QUICK)["gabor_likeness"][0]
        {'backbone': 'tf_efficientnet_lite0', 'seed': 0}
    """
    cheap, little = range(tier.probe_seeds), range(tier.little_seeds)
    probes, trainings, neighbours = [], [], []
    for dataset, levels in tier.images.items():
        for level, images in levels.items():
            shared: Run = {"dataset": dataset, "level": level, "images": images}
            probes += grid(backbone=BACKBONE, at=STAGES, **shared, seed=cheap)
            probes += grid(backbone="random", at="pool", **shared, seed=cheap)
            probes += grid(backbone="pixels", at="pixels", **shared, seed=cheap)
            trainings += list(_training_runs(tier, dataset, level, images))
            if (dataset, level) in ((NEAR, "lots"), (FAR[0], "little")):
                probes += grid(backbone=LARGER, at="pool", **shared, seed=little)
        for backbone, at in ((BACKBONE, "pool"), ("random", "pool"), ("pixels", "pixels")):
            own = {"dataset": dataset, "images": levels["lots"], "seed": cheap}
            neighbours += grid(backbone=backbone, at=at, **own)
    few = {"dataset": NEAR, "images": 5, "epochs": 6, "seed": little}
    base = grid(source="same", copied=0, layers="frozen", seed=little)
    return {
        "linear_probe": probes,
        "nearest_neighbour": neighbours,
        "training": trainings,
        "surgical_finetuning": grid(shift=["noise", "relabel"], tune=["first", "last", "all"], **few),
        "layer_transfer": base
        + grid(source=["same", "other"], copied=range(1, LAYERS + 1), layers="frozen", seed=little)
        + grid(source="other", copied=[2, 4], layers="finetuned", seed=little),
        "gabor_likeness": grid(backbone=[BACKBONE, "random"], seed=cheap),
        "pointing_game": grid(method=["saliency", "random"], pictures=tier.pictures, seed=cheap),
        "cascading_randomization": grid(method=["saliency", "guided_backprop"], pictures=4, seed=little),
        "domain_distance": grid(dataset=[*tier.images, "photographs", "noise"], images=60, seed=cheap),
    }


def _training_runs(tier: Tier, dataset: str, level: str, images: int) -> Iterator[Run]:
    """Yield the training runs on one data set at one level."""
    seeds = range(tier.little_seeds if level == "little" else tier.lots_seeds)
    epochs = tier.epochs[level]
    shared: Run = {"dataset": dataset, "level": level, "images": images, "seed": seeds}
    strategies = (
        ["finetune", "few", "random head", "batchnorm on"]
        if level == "little"
        else ["finetune", "few", "more"]
    )
    yield from grid(strategy=strategies, epochs=epochs, rate=RATE, **shared)
    yield from grid(
        strategy="scratch", epochs=epochs * tier.scratch_factor[level], rate=SCRATCH_RATE, **shared
    )
    if level == "little":
        yield from grid(strategy="finetune", epochs=epochs, rate=RATES[1:], **shared)
