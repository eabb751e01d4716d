"""The preprocessing that the weights themselves state, one for training, caching, prediction and pictures."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

from .. import models
from ..errors import LearnerError
from .images import load_image, to_rgb

log = logging.getLogger(__name__)

AnyImage = Image.Image | np.ndarray | str | Path

CROP_SCALE = (0.5, 1.0)
"""Share of the area that a random training crop keeps. The 0.08 of ImageNet recipes would often crop the only
defect out of a picture."""

SHIFT = 0.08
"""How far a shifted training picture moves at most, as a share of its side: 2 pixels of a digit of 28."""

SPARE = 2
"""A large JPEG may be decoded at a reduced size, but never to less than this many times the side that it is
then resized to. On photographs of 3 to 12 megapixels, pixels change by 0.2 to 0.4 of 255 on average."""

LARGEST = 4
"""The resized picture has at most this many times the pixels of the crop. Of a longer strip, only the crop is
computed."""


@dataclass(frozen=True)
class Preprocess:
    """A callable: any image in, a float32 tensor (C, H, W) out. Pickles, and compares by value.

    The picture is resized to cover size / crop_pct, cropped in the middle, and normalised. With `train`, a
    random part of it is resized instead and half of the pictures are mirrored; with "shift", it only moves a
    little, because a mirrored digit is no longer a digit. Both are drawn from torch's global generator;
    without, the same picture always gives the same tensor.

    Attributes:
        size: (height, width) in pixels.
        crop_pct: share of the resized picture's side that the crop keeps, from 0.01 to 1.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
        mean: of each channel, subtracted from values in [0, 1].
        std: of each channel, by which they are divided.
        crop_mode: "center"; "squash" gives up the aspect instead of cropping, "border" pads.
        train: whether to crop and mirror at random; "shift" moves the picture at random instead.
        grey_bits: how many bits of a 16-bit grey picture are used; see `load_image`. What a `Split` gives
            is decoded already, by its own `grey_bits`.

    Raises:
        LearnerError: a value that no model's description can state (see `models.check_facts`), or another
            `train`.
    """

    size: tuple[int, int]
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: str = "center"
    train: bool | Literal["shift"] = False
    grey_bits: int = 16

    def __post_init__(self) -> None:
        stated = ("crop_pct", "interpolation", "mean", "std", "crop_mode", "grey_bits")
        size = {"input_size": (len(self.mean), *self.size)}
        models.check_facts(size | {name: getattr(self, name) for name in stated})
        if self.train not in (False, True, "shift"):
            raise LearnerError(f"train is {self.train!r}; expected True, False or 'shift'.")
        if not isinstance(self.train, str):  # 1 and NumPy's True are True
            object.__setattr__(self, "train", bool(self.train))

    @property
    def min_side(self) -> int:
        """The shorter side of a picture, in pixels, that is enough to be resized from; see `read_for`."""
        side = max(self.size) / self.crop_pct
        if self.train is True:  # the flattest crop of the smallest share
            side = max(self.size) / math.sqrt(CROP_SCALE[0] * 3 / 4)
        return math.ceil(SPARE * side)

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width in pixels that a picture is resized to cover, of which the crop is the middle."""
        return models.sides_before_crop(self.size, self.crop_pct)

    @property
    def most_pixels(self) -> int:
        """How many pixels a resized picture has at most; of a longer strip only the crop is made."""
        return LARGEST * math.prod(self.size)

    def __call__(self, image: AnyImage) -> torch.Tensor:
        if isinstance(image, str | Path):
            picture = load_image(image, grey_bits=self.grey_bits, min_side=self.min_side)
        else:
            picture = to_pil_image(image, grey_bits=self.grey_bits)
        if len(self.mean) == 1:
            picture = picture.convert("L")
        crop = self._random_crop(picture) if self.train is True else self._whole(picture)
        if self.train == "shift":
            crop = self._shifted(crop)
        return F.normalize(F.to_tensor(crop), self.mean, self.std, inplace=True)

    def _random_crop(self, picture: Image.Image) -> Image.Image:
        box = RandomResizedCrop.get_params(picture, list(CROP_SCALE), [3 / 4, 4 / 3])
        crop = F.resized_crop(picture, *box, list(self.size), InterpolationMode(self.interpolation))
        return F.hflip(crop) if torch.rand(1).item() < 0.5 else crop

    def _shifted(self, crop: Image.Image) -> Image.Image:
        """Return the picture moved at random; what comes into view repeats its edge."""
        edges = [round(SHIFT * side) for side in crop.size]
        left, top = (int(torch.randint(2 * edge + 1, ())) for edge in edges)
        wide = F.pad(crop, edges, padding_mode="edge")
        return F.crop(wide, top, left, crop.height, crop.width)

    def _whole(self, picture: Image.Image) -> Image.Image:
        """Return the picture resized and cropped in the middle as timm and torchvision do."""
        height, width = self.resized
        ratios = picture.height / height, picture.width / width
        if self.crop_mode == "squash":
            resized = [height, width]
        elif self.crop_mode == "border":
            resized = [max(1, round(side / max(ratios))) for side in (picture.height, picture.width)]
        elif height == width:
            resized = [int(height * side / min(picture.size)) for side in (picture.height, picture.width)]
        else:
            resized = [round(side / min(ratios)) for side in (picture.height, picture.width)]
        if math.prod(resized) > self.most_pixels:
            return self._crop_of_long(picture, resized)
        picture = F.resize(picture, resized, InterpolationMode(self.interpolation))
        if self.crop_mode == "border":
            picture = self._on_mean(picture)
        return F.center_crop(picture, list(self.size))

    def _crop_of_long(self, picture: Image.Image, resized: list[int]) -> Image.Image:
        """Return the middle of the picture at the size `resized`, of which the rest is never made."""
        top, left = (round((side - crop) / 2) for side, crop in zip(resized, self.size, strict=True))
        y, x = picture.height / resized[0], picture.width / resized[1]
        box = left * x, top * y, (left + self.size[1]) * x, (top + self.size[0]) * y
        return picture.resize(self.size[::-1], Image.Resampling[self.interpolation.upper()], box=box)

    def _on_mean(self, picture: Image.Image) -> Image.Image:
        """Return the picture in the middle of a ground of the mean colour, at least `size` large."""
        height, width = max(self.size[0], picture.height), max(self.size[1], picture.width)
        fill = tuple(round(255 * value) for value in self.mean)
        ground = Image.new(picture.mode, (width, height), fill if len(fill) == 3 else fill[0])
        ground.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
        return ground


def transform_for(model: nn.Module, *, train: bool | Literal["shift"] = False) -> Preprocess:
    """Return the preprocessing that the model's own weights state; the model stays as it is.

    A warning in the log says so where nobody stated it, and mean and std 0.5 are assumed.

    Args:
        model: its size, crop, interpolation, mean and std come from `models.info(model)`.
        train: a random resized crop, mirrored in half of the cases, replaces the crop in the middle; "shift"
            moves that by up to 8 % of its side instead.

    Raises:
        LearnerError: the model takes neither 3 channels nor 1.

    Example:
        >>> from tlutils import data, models
        >>> model = models.load(models.DEFAULT, pretrained=False, input_size=64)
        >>> data.transform_for(model)(data.load_photograph("cat")).shape
        torch.Size([3, 64, 64])
    """
    info = models.info(model)
    if info.assumed:
        log.warning("%s: %s", info.name, info.assumed)
    channels, height, width = info.input_size
    mean, std = tuple(map(float, info.mean)), tuple(map(float, info.std))
    if len(mean) != channels or channels not in (1, 3):
        raise LearnerError(
            f"{info.name} takes {channels} channels and states {len(mean)} means; pictures have 3 channels, "
            "or 1 when grey. For such a model write a transform: a function from a PIL image to a tensor."
        )
    return Preprocess(
        (height, width),
        float(info.crop_pct),
        info.interpolation,
        mean,
        std,
        crop_mode=info.crop_mode,
        train=train,
        grey_bits=info.grey_bits,
    )


def read_files_as(model: nn.Module, images: object) -> nn.Module:
    """Return the same model, which from now on reads files as a split reads its own.

    What learns from a split calls this: `train.fit`, `probe.install_head` and, by these, `deploy.build`. The
    paths of its images then give what was learned from.

    Args:
        model: any model; how many bits of 16-bit grey pictures are used is noted in its description.
        images: a split. Of images that say nothing of their `grey_bits`, nothing is noted.

    Example:
        >>> from dataclasses import replace
        >>> from tlutils import data, models
        >>> split = replace(data.load("digits").train, grey_bits=12)
        >>> model = models.load("test_resnet", pretrained=False)
        >>> data.transform_for(data.read_files_as(model, split)).grey_bits
        12
    """
    bits = getattr(images, "grey_bits", None)
    if bits is not None and bits != models.info(model).grey_bits:
        models.describe(model, grey_bits=bits)
    return model


def to_pil_image(image: AnyImage, *, grey_bits: int = 16) -> Image.Image:
    """Return an image as an upright RGB PIL image.

    Args:
        image: a PIL image, the path of a file, or an array (H, W) or (H, W, C) with C of 1 (grey), 2 (grey,
            alpha), 3 (RGB) or 4 (RGBA): uint8, bool, or floats in [0, 1], which are rounded to 8 bits.
        grey_bits: how many bits of a 16-bit grey picture are used; see `load_image`.

    Raises:
        LearnerError: it is something else, with what arrived.

    Example:
        >>> import numpy as np
        >>> from tlutils import data
        >>> data.to_pil_image(np.zeros((30, 40))).size
        (40, 30)
    """
    if isinstance(image, Image.Image):
        return to_rgb(image, grey_bits)
    if isinstance(image, str | Path):
        return load_image(image, grey_bits=grey_bits)
    if isinstance(image, np.ndarray):
        return to_rgb(Image.fromarray(_uint8(image)))
    raise LearnerError(
        f"{type(image).__name__} arrived. Expected a PIL image, an array (H, W) or (H, W, C), or a path. "
        "A tensor (C, H, W) becomes such an array by tensor.permute(1, 2, 0).numpy()."
    )


def _uint8(array: np.ndarray) -> np.ndarray:
    """Return an image array as uint8 of a shape that PIL knows."""
    got = f"An array of shape {array.shape} and type {array.dtype} arrived"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        hint = (
            " It looks channels-first: try array.transpose(1, 2, 0)."
            if array.shape[:1] in ((1,), (3,))
            else ""
        )
        raise LearnerError(f"{got}. Expected one image, (H, W) or (H, W, C) with 1 to 4 channels.{hint}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind != "f":
        raise LearnerError(
            f"{got}. Expected uint8 in 0 to 255, or floats in 0 to 1. Convert it by array.astype('uint8')."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise LearnerError(
            f"{got}, with values from {low:g} to {high:g}. Expected floats in 0 to 1, without NaN."
        )
    return np.round(array * 255).astype(np.uint8)
