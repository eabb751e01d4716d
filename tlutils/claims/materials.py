"""What the claims are measured on: data sets near to ImageNet and far from it, sizes, draws, networks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from .. import data, features, metrics, models, runtime, surgery
from ..errors import unknown
from ..inference import evaluating, logits_of

BACKBONE = models.DEFAULT
STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7", "pool")
"""Where the backbone is read: what leaves each of these stages; "pool" has the final features."""


SIZE, SHORT = 96, 128
"""In pixels: side of the input, alike for all data sets; short side to which pictures are shrunk."""

LARGER = ("tf_efficientnet_lite1", "tf_efficientnet_lite2")
"""Other networks, where a claim compares networks: on little that is different, and lots that is similar."""

NETWORKS = {
    "tf_efficientnet_lite0": ("EfficientNet-Lite", 74.830),
    "tf_efficientnet_lite1": ("EfficientNet-Lite", 76.644),
    "tf_efficientnet_lite2": ("EfficientNet-Lite", 77.464),
    "mobilenet_v2.IMAGENET1K_V1": ("MobileNet", 71.878),
    "googlenet": ("Inception", 69.778),
    "inception_v3": ("Inception", 77.294),
    "timm/inception_v4.tf_in1k": ("Inception", 80.156),
    "timm/inception_resnet_v2.tf_in1k": ("Inception", 80.462),
    "resnet50.IMAGENET1K_V1": ("ResNet", 76.130),
    "resnet101.IMAGENET1K_V1": ("ResNet", 77.374),
    "resnet152.IMAGENET1K_V1": ("ResNet", 78.312),
    "densenet121": ("DenseNet", 74.434),
    "densenet169": ("DenseNet", 75.600),
    "densenet201": ("DenseNet", 76.896),
    "timm/nasnetalarge.tf_in1k": ("NASNet", 82.626),
}
"""The networks that are ranked: family, and published accuracy on ImageNet's validation images in %.

Those that packages carry, and those of Kornblith et al. 2019 that torchvision or timm has with weights of
their first recipe. The accuracies are torchvision's, beside its weights, and timm's, in its table
results/results-imagenet.csv.
"""

FETCHED = tuple(name for name in NETWORKS if name not in (BACKBONE, *LARGER))
"""Those of them that no package carries: they are measured where their weights are in the cache."""

WIDTHS = (32, 64, 128)
"""Channels of the blocks of the small network that is trained from scratch."""

_PICTURES: dict[str, Image.Image] = {}


@dataclass(frozen=True)
class Material:
    """A data set as the claims use it.

    Attributes:
        says: what its images are, in plain words.
        column: "similar" or "different" from ImageNet's photographs, by which the matrix goes; "" for sets
            that are measured beside them.
        classes: how many of its classes are used, the first ones.
        judges: how many images of each class of its test split judge; all of them unless given.
        clusters: whether all images of a class vary together, because they show one photograph.
        augment: as in `Recipe`, the augmentation that leaves the class as it is.
        cells: the wafer, "mono" or "poly", whose cells of "elpv-defects" it is; another set unless given.
    """

    says: str
    column: str
    classes: int
    judges: int | None = None
    clusters: bool = False
    augment: bool | Literal["shift"] = True
    cells: Literal["", "mono", "poly"] = ""


MATERIALS = {
    "hymenoptera": Material("photographs of ants and bees", "similar", classes=2),
    "cifar-10": Material(
        "photographs of ten kinds of animals and vehicles, 32 pixels wide", "similar", 10, 50
    ),
    "elpv-defects": Material("grey pictures of working and of broken solar cells", "different", classes=2),
    "mnist-5k": Material("handwritten digits, 28 pixels wide", "different", 10, 50, augment="shift"),
    "dtd": Material("photographs of ten kinds of texture", "", classes=10),
    "scenes": Material(
        "grey crops of 13 photographs, in which the photograph is the class: a stand-in without a network",
        "",
        classes=13,
        clusters=True,
    ),
    "digits": Material("handwritten digits, 8 pixels wide", "", classes=10),
    "elpv-mono": Material("the solar cells that are one crystal", "", classes=2, cells="mono"),
    "elpv-poly": Material("the solar cells that are many crystals", "", classes=2, cells="poly"),
}
"""The one place that says which data sets are similar to ImageNet; `domain_distance` measures it."""

NEAR = tuple(name for name, own in MATERIALS.items() if own.column == "similar")
FAR = tuple(name for name, own in MATERIALS.items() if own.column == "different")


@cache
def load_dataset(name: str) -> data.DatasetSplits:
    """Return a data set as the claims use it, loaded once: `train` to learn from, `val` to judge.

    A folder of its name in the cache folder's `images`, with a folder for each class, is read in the place of
    what `data.load` would download. To learn from there are the images of its train and val splits; judges
    are drawn from its test split once and for all, and nothing is ever chosen on them: whatever a protocol
    chooses, it chooses within its training images.
    """
    own, folder = MATERIALS[name], runtime.cache_dir("images") / name
    whole = data.load("elpv-defects" if own.cells else folder if folder.is_dir() else name)
    known, wafers = whole.train.join(whole.val), _load_wafers() if own.cells else {}
    train, judges = (
        replace(
            split.select(
                [
                    i
                    for i, (k, picture) in enumerate(zip(split.labels, split.hashes, strict=True))
                    if k < own.classes and wafers.get(picture, "") == own.cells
                ]
            ),
            classes=classes,
        )
        for classes in [whole.train.classes[: own.classes]]
        for split in (known, whole.test)
    )
    if own.judges:
        judges = judges.subsample(own.judges, seed=0)
    return replace(whole, classes=list(train.classes), train=train, val=judges, test=judges.select([]))


@cache
def _load_wafers() -> dict[str, str]:
    """Return the wafer, "mono" or "poly", by the hash of a solar cell's picture."""
    whole = data.load("elpv-wafers")
    return {
        picture: whole.classes[k]
        for split in (whole.train, whole.val, whole.test)
        for picture, k in zip(split.hashes, split.labels, strict=True)
    }


@dataclass(eq=False)
class Shrunk:
    """A split whose pictures are read once in a process, and shrunk to a short side of `SHORT` pixels.

    Networks see `SIZE` pixels of them: what is lost is what they would not see.
    """

    split: data.Split

    def __post_init__(self) -> None:
        self.labels, self.classes = self.split.labels, self.split.classes
        self.fingerprint = f"{self.split.fingerprint}, short side {SHORT}"

    def __len__(self) -> int:
        return len(self.split)

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int, /) -> tuple[Image.Image, int]:
        key = self.split.hashes[i]
        if key not in _PICTURES:
            picture, _ = self.split[i]
            scale = SHORT / min(picture.size)
            size = round(picture.width * scale), round(picture.height * scale)
            _PICTURES[key] = picture.resize(size, Image.Resampling.BICUBIC) if scale < 1 else picture
        return _PICTURES[key], self.labels[i]

    def select(self, indices: Sequence[int]) -> "Shrunk":
        """Return a view of some of the images, by their positions."""
        return Shrunk(self.split.select(list(indices)))

    def relabelled(self, labels: list[int]) -> "Shrunk":
        """Return the same images under other class indices."""
        return Shrunk(replace(self.split, labels=labels))


@cache
def load_judges(name: str) -> Shrunk:
    """Return the images of a data set that judge, the same for all draws."""
    return Shrunk(load_dataset(name).val)


@lru_cache(maxsize=16)
def draw_sample(name: str, images: int, seed: int) -> tuple[Shrunk, Shrunk]:
    """Return images to learn from, drawn by `seed`, and the judges of a data set.

    There are `images` of each class, or as many as the smallest class has.
    """
    known = load_dataset(name).train
    return Shrunk(known.subsample(min(images, *known.counts.values()), seed=seed)), load_judges(name)


@lru_cache(maxsize=12)
def load_network(backbone: str, size: int = SIZE, num_classes: int | None = None, seed: int = 0) -> nn.Module:
    """Return a network: a name for ImageNet's weights, "random" for the default one as it is drawn by `seed`.

    One per process, since finding a network's stages takes longer than a short training: whoever trains it
    puts the weights back first (`reset_network`).
    """
    pretrained = backbone != "random"
    model = models.load(backbone if pretrained else BACKBONE, pretrained, input_size=size, seed=seed)
    return model if num_classes is None else surgery.replace_head(model, num_classes)


@cache
def pretrained_weights(num_classes: int) -> dict[str, torch.Tensor]:
    """Return the pretrained weights, and a head, that every training begins with."""
    return {k: v.clone() for k, v in load_network(BACKBONE, SIZE, num_classes).state_dict().items()}


def reset_network(num_classes: int, seed: int) -> nn.Module:
    """Return the pretrained network as it was loaded, unfrozen, in eval mode, with a head drawn by `seed`."""
    start = pretrained_weights(num_classes)
    model = surgery.unfreeze(load_network(BACKBONE, SIZE, num_classes), "*").eval()
    model.load_state_dict(start)
    head = find_head(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * head.in_features**-0.5)
        head.bias.zero_()
    return model


def small_network(num_classes: int, seed: int) -> nn.Module:
    """Return a network of three blocks for images of 96 pixels, small enough for a few hundred of them.

    Args:
        num_classes: number of classes.
        seed: what its weights are drawn from.

    Example:
        >>> from tlutils import claims, models
        >>> models.info(claims.small_network(10, seed=0)).input_size
        (3, 96, 96)
    """
    blocks: list[nn.Module] = [nn.AvgPool2d(2)]
    with runtime.seeded(seed):
        for before, width in pairwise((3, *WIDTHS)):
            conv = nn.Conv2d(before, width, 3, padding=1, bias=False)
            blocks.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)))
        model = nn.Sequential(
            *blocks, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * WIDTHS[-1], num_classes)
        )
    return models.describe(
        model, input_size=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3, crop_pct=0.875
    )


def find_head(model: nn.Module) -> nn.Linear:
    """Return the last layer of a network."""
    (head,) = surgery.head_layers(model).values()
    assert isinstance(head, nn.Linear)
    return head


def read_features(split: Shrunk, *, backbone: str, at: str, seed: int = 0) -> np.ndarray:
    """Return a description of each image as rows (N, D): what leaves a stage of a backbone, or its pixels.

    Features of all `STAGES` are extracted at once, and kept. "pixels" are grey thumbnails of 32 × 32.
    """
    if backbone == "pixels":
        thumbnails = [np.asarray(image.convert("L").resize((32, 32)), dtype=float) for image, _ in split]
        return np.stack(thumbnails).reshape(len(split), -1)
    if at not in STAGES:
        raise unknown("stage", at, STAGES)
    stages = (at,) if backbone in FETCHED else STAGES  # other families have other stages
    return np.asarray(_extract(split, backbone, stages, seed if backbone == "random" else 0)[at])


@lru_cache(maxsize=16)  # the runs at one stage after the other ask for the same
def _extract(split: Shrunk, backbone: str, at: tuple[str, ...], seed: int) -> features.FeatureStore:
    return features.extract(load_network(backbone, seed=seed), split, at=at, precision="float32")


def final_features(model: nn.Module, x: torch.Tensor, *, batch: int = 64) -> np.ndarray:
    """Return what a network, in eval mode, gives its head for each of the prepared images x, rows (N, D)."""
    with evaluating(model) as bare, torch.no_grad():
        read = surgery.outputs(bare, at="pool")
        return torch.cat([read(part)["pool"] for part in x.split(batch)]).numpy()


Change = Callable[[Image.Image, int], Image.Image]
"""What happens to an image, given its number, before a network sees it."""


def prepare_images(model: nn.Module, split: Shrunk, change: Change | None = None) -> torch.Tensor:
    """Return the images of a split, changed and prepared for a network, (N, 3, SIZE, SIZE)."""
    return _prepare_images(data.transform_for(model), split, change)


@lru_cache(maxsize=6)  # the same images judge one run after the other
def _prepare_images(prepare: data.Preprocess, split: Shrunk, change: Change | None) -> torch.Tensor:
    images = (image for image, _ in split)
    return torch.stack([prepare(change(image, i) if change else image) for i, image in enumerate(images)])


def predict(model: nn.Module, x: torch.Tensor, *, batch: int = 64) -> np.ndarray:
    """Return the class index (N,) that a network, in eval mode, gives each of the prepared images x."""
    parts = x.to(memory_format=torch.channels_last).split(batch)  # depthwise convolutions are quicker so
    with evaluating(model) as bare, torch.no_grad():
        return torch.cat([logits_of(bare(part)).argmax(1) for part in parts]).numpy()


def judge_by(labels: Any, predicted: np.ndarray) -> dict[str, Any]:
    """Return `hits`, a text of 0 and 1 for each judging image, and `score`, the balanced accuracy."""
    hits = np.asarray(labels) == predicted
    return {
        "hits": "".join(map(str, hits.astype(int))),
        "score": metrics.balanced_accuracy(labels, predicted),
    }
