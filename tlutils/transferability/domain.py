"""How far images are from those that a network was pretrained on, measured in the network's own features."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .. import data, models, runtime
from ..errors import LearnerError
from ..inference import device_of, dtype_of, evaluating, require_module
from ..models import layers


@dataclass(frozen=True)
class DomainDistance:
    """How far images are from those that a network was pretrained on.

    Attributes:
        value: mean over the network's BatchNorm layers. 0 stands for the statistics of the pretraining images
            themselves, 1 for means, or standard deviations, that are off by a whole standard deviation.
        layers: distance in each layer, by dotted name.
    """

    value: float
    layers: dict[str, float]


def domain_distance(
    model: nn.Module,
    split: data.LabelledImages | Sequence[tuple[Image.Image, int]],
    *,
    batch_size: int = 32,
) -> DomainDistance:
    """Return how far images are from those that a model was pretrained on; the model stays as it was.

    Every BatchNorm layer keeps mean and variance of each channel, averaged over the pretraining images: a
    summary of ImageNet that needs no image of it. In each layer this is the squared Fréchet distance between
    two Gaussians per channel, (m - m')² + (s - s')², for the images' mean m and standard deviation s and the
    kept ones, in units of the kept variance, as the median over channels; then the mean over layers. Fréchet
    distance of Gaussians: Dowson and Landau 1982, used for images by Heusel et al. 2017 (arXiv:1706.08500);
    BatchNorm's statistics in place of images: Yin et al. 2020 (arXiv:1912.08795).

    Args:
        model: a pretrained model with BatchNorm layers.
        split: a sequence of (PIL image, label), such as a split of a data set. Compare at one input size of
            the model only: padding weighs more in small images.
        batch_size: images in one pass through the model; the result does not depend on it.

    Raises:
        LearnerError: the model keeps no BatchNorm statistics, or there is no image.

    Example:
        >>> from torch import nn
        >>> from tlutils import data, models, transferability
        >>> net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> net = models.describe(net, input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> digits = data.load("digits").train.subsample(2)
        >>> round(transferability.domain_distance(net, digits).value, 1)
        0.2
    """
    bare = require_module(model)
    kept = {n: m for n, m in bare.named_modules() if layers.is_batchnorm(m)}
    norms = {n: m for n, m in kept.items() if getattr(m, "running_mean", None) is not None}
    if not norms:
        raise LearnerError(
            f"{models.info(bare).name} keeps no BatchNorm statistics, so it has no summary of what it was "
            "pretrained on. Take a network with BatchNorm, such as a ResNet or EfficientNet."
        )
    if not len(split):
        raise LearnerError("The split holds no image. Expected at least one, better a hundred.")
    prepare = data.transform_for(bare)
    place = device_of(bare), dtype_of(bare)
    with _sum_inputs(bare, norms) as sums:
        for start in runtime.progress(range(0, len(split), batch_size), desc="distance"):
            chosen = range(start, min(start + batch_size, len(split)))
            bare(torch.stack([prepare(data.read_for(prepare, split, i)) for i in chosen]).to(*place))
    found = {name: _frechet(norm, *sums[name]) for name, norm in norms.items() if name in sums}
    return DomainDistance(sum(found.values()) / len(found), found)


def similarity_border(similar: Iterable[float], different: Iterable[float]) -> float:
    """Return the distance from which images are called different: halfway between two kinds of data sets.

    No table says where it lies. It holds for the network and the input size that all are measured with.

    Args:
        similar: `domain_distance` of data sets that are like the pretraining images.
        different: The same of data sets that are not.

    Example:
        >>> from tlutils import transferability
        >>> round(transferability.similarity_border([0.08, 0.1], [0.3, 0.4]), 2)
        0.2
    """
    return (max(similar) + min(different)) / 2


def _frechet(norm: Any, count: int, sums: Tensor) -> float:
    """Return the median over channels of the squared distance, in units of the kept variance."""
    variance = norm.running_var.double().cpu()
    shift, squares = sums / count
    deviation = (squares - shift**2).clamp(min=0).sqrt()
    gaps = shift**2 + (deviation - variance.sqrt()) ** 2
    return float((gaps / (variance + getattr(norm, "eps", 0))).median())


@contextmanager
def _sum_inputs(model: nn.Module, norms: dict[str, Any]) -> Iterator[dict[str, tuple[int, Tensor]]]:
    """Run a block in eval mode; yield of what enters each norm in it the count, and the sums of d and d².

    d is the distance from the kept mean: small numbers, whose squares lose nothing in single precision.
    """
    sums: dict[str, tuple[int, Tensor]] = {}

    def note(name: str, x: Tensor) -> None:
        maps = x.detach().float().reshape(*x.shape[:2], -1)  # (N, C, places)
        away = (maps - norms[name].running_mean.float()[:, None]).cpu()
        own = torch.stack([away.sum(2), away.square().sum(2)]).sum(1, dtype=torch.float64)  # (2, C)
        count, before = sums.get(name, (0, torch.zeros(1)))
        sums[name] = count + len(maps) * maps.shape[2], before + own

    hooks = [
        norm.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, norm in norms.items()
    ]
    try:
        with evaluating(model), torch.no_grad():
            yield sums
    finally:
        for hook in hooks:
            hook.remove()
