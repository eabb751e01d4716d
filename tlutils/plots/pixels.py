"""What is drawn as an image: pictures, whatever holds them, and maps, whatever their range."""

from typing import Any

import numpy as np
from PIL import Image


def as_picture(image: Any) -> np.ndarray:
    """Return a picture as (H, W, 3), or (H, W) where it is grey, in [0, 1].

    PIL images and whole numbers count to 255; fractions are in [0, 1] already.
    """
    if isinstance(image, Image.Image):
        image = image if image.mode == "L" else image.convert("RGB")
    array = as_array(image)
    return array / 255 if array.dtype.kind in "iu" else array.astype(float)


def as_array(image: Any) -> np.ndarray:
    """Return an image or map as (H, W, 3) or (H, W); tensors (C, H, W) of 1 or 3 channels are turned."""
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def contrast(values: Any, *, signed: bool = False) -> np.ndarray:
    """Return a map (H, W) scaled to [0, 1], outliers cut; `signed` puts zero at one half."""
    array = as_array(values).astype(float)
    if signed:
        high = np.percentile(np.abs(array), 99.5) or 1.0
        return np.clip(0.5 + array / (2 * high), 0, 1)
    low, high = np.percentile(array, [1, 99.5])
    return np.clip((array - low) / ((high - low) or 1.0), 0, 1)
