"""The preprocessing that the weights themselves state: one and the same for training, caching, prediction, pictures."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

from .. import models
from ..errors import LearnerError
from .images import read_image, to_rgb

AnyImage = Image.Image | np.ndarray | str | Path

CROP_SCALE = (0.5, 1.0)
"""Share of the area that a random training crop keeps. Milder than the 0.08 of ImageNet recipes: few images are easily
cropped beyond recognition, and small defects out of the picture."""


@dataclass(frozen=True)
class Preprocess:
    """A callable: any image in, a float32 tensor (C, H, W) out, scaled to [0, 1] and normalised by mean and std.

    `size` is (height, width) in pixels; the picture is first resized to cover size / crop_pct, then cropped in the
    middle. With `train`, a random part of it is resized and half of the pictures are mirrored, drawn from torch's
    global generator. Without, the same picture always gives the same tensor. Pickles, and compares by value.
    """

    size: tuple[int, int]
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: bool = False

    @property
    def fingerprint(self) -> str:
        """16 hex digits that are equal exactly when the transforms are: a key for caches."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def __call__(self, image: AnyImage) -> torch.Tensor:
        picture = as_picture(image)
        if len(self.mean) == 1:
            picture = picture.convert("L")
        crop = self._random_crop(picture) if self.train else self._centre_crop(picture)
        return F.normalize(F.to_tensor(crop), self.mean, self.std)

    def _random_crop(self, picture: Image.Image) -> Image.Image:
        box = RandomResizedCrop.get_params(picture, list(CROP_SCALE), [3 / 4, 4 / 3])
        crop = F.resized_crop(picture, *box, list(self.size), InterpolationMode(self.interpolation))
        return F.hflip(crop) if torch.rand(1).item() < 0.5 else crop

    def _centre_crop(self, picture: Image.Image) -> Image.Image:
        height, width = self.size
        if height == width:
            # The small term keeps 224 / (224 / 232) from becoming 231.
            cover: int | list[int] = math.floor(height / self.crop_pct + 1e-6)
            cover = [cover]
        else:
            scale = max(height / picture.height, width / picture.width) / self.crop_pct
            cover = [math.ceil(picture.height * scale), math.ceil(picture.width * scale)]
        resized = F.resize(picture, cover, InterpolationMode(self.interpolation))
        return F.center_crop(resized, list(self.size))


def transform_for(model: nn.Module, *, train: bool = False) -> Preprocess:
    """Return the preprocessing that the model's own weights state; the model stays as it is.

    Size, crop, interpolation, mean and std come from `models.info(model)`. With `train=True` a random resized crop
    and a mirror image in one half of the cases replace the centre crop; everything else is the same.
    """
    info = models.info(model)
    channels, height, width = info.input_size
    mean, std = tuple(map(float, info.mean)), tuple(map(float, info.std))
    if channels == 1:  # the photograph is grey for the model: one mean for the three that colours have
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    if len(mean) != channels or channels not in (1, 3):
        raise LearnerError(
            f"{info.name} takes {channels} channels and states {len(mean)} means; pictures have 3 channels, or 1 when "
            "grey. Write an own transform, a function from a PIL image to a tensor, for such a model."
        )
    return Preprocess((height, width), float(info.crop_pct), str(info.interpolation), mean, std, train)


def as_picture(image: AnyImage) -> Image.Image:
    """Return a PIL image, an array or the file at a path as an upright RGB PIL image.

    Arrays are (H, W) or (H, W, C) with C of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA): uint8, bool, or floats in
    [0, 1], which are rounded to 8 bits. Raises LearnerError, with what arrived, for anything else.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, np.ndarray):
        return to_rgb(Image.fromarray(_uint8(image)))
    raise LearnerError(
        f"A {type(image).__name__} arrived. Expected a PIL image, a NumPy array (H, W) or (H, W, C), or a path. "
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
