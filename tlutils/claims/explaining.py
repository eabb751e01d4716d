"""Protocols that look into a network: first filters, saliency maps, and how far images are from ImageNet."""

from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from .. import data, explain, transferability
from ..inference import evaluating, logits_of
from .materials import BACKBONE, load_dataset, load_network

OBJECTS = ("cat", "coffee", "motorcycle", "rocket")
"""Photographs of things that ImageNet has a class for."""

GROUNDS = ("brick", "grass", "gravel")
CANVAS, SIDE = 128, 56  # pixels: of a composed picture, and of the object in it


def gabor_likeness(*, backbone: str, seed: int) -> dict[str, Any]:
    """How Gabor-like the first filters are: `similarity`, the mean share of energy that one explains."""
    fit = explain.fit_gabors(explain.filters(load_network(backbone, 224, seed=seed)))
    return {"similarity": float(fit.share.mean())}


def pointing_game(*, method: str, pictures: int, seed: int) -> dict[str, Any]:
    """How often a map's strongest pixel is on an object pasted at random on a texture: `hits`, and `chance`.

    The class that is explained is what the network sees in the object alone. `method` "random" is a map of
    noise.
    """
    model = load_network(BACKBONE, CANVAS)
    rng = np.random.default_rng([seed, 2])
    composed = [compose(OBJECTS[k % len(OBJECTS)], rng) for k in range(pictures)]
    prepare = data.transform_for(model)
    with evaluating(model), torch.no_grad():
        alone = torch.stack([prepare(load_photo(OBJECTS[k % len(OBJECTS)])) for k in range(pictures)])
        seen = logits_of(model(alone)).argmax(1)
    x = torch.stack([to_tensor(model, image) for image, _ in composed])
    if method == "random":
        maps = torch.from_numpy(rng.random((pictures, CANVAS, CANVAS)))
    else:
        maps = getattr(explain, method)(model, x, seen)
    rate = explain.pointing_game(maps, [box for _, box in composed])
    return {"hits": rate.rate, "chance": (SIDE / CANVAS) ** 2}


def cascading_randomization(*, method: str, pictures: int, seed: int) -> dict[str, Any]:
    """How alike a saliency map stays when all weights are replaced: `similarity`, from -1 to 1."""
    model = load_network(BACKBONE, CANVAS)
    rng = np.random.default_rng([seed, 3])
    x = torch.stack([to_tensor(model, compose(OBJECTS[k % len(OBJECTS)], rng)[0]) for k in range(pictures)])
    stages = explain.cascading_randomization(model, x, getattr(explain, method), seed=seed)
    return {"similarity": float(list(stages.values())[-1].mean())}


def domain_distance(*, dataset: str, images: int, seed: int) -> dict[str, Any]:
    """How far a data set's images are from ImageNet's, in the network's own features: `distance`.

    "photographs" are the colour photographs that scenes are cut from, "noise" is noise: the ends of a scale.
    """
    pictures = draw_images(dataset, images, seed)
    return {"distance": transferability.domain_distance(load_network(BACKBONE, 96), pictures).value}


def draw_images(name: str, images: int, seed: int) -> list[tuple[Image.Image, int]]:
    """Return images of a data set with their labels, or of the two ends of the scale of distances.

    Args:
        name: a data set, "photographs" (parts of the colour photographs that scenes are cut from), or
            "noise".
        images: how many.
        seed: what they are drawn by.

    Example:
        >>> from tlutils import claims
        >>> [image.size for image, _ in claims.draw_images("noise", 2, seed=0)]
        [(96, 96), (96, 96)]
    """
    rng = np.random.default_rng([seed, 4])
    if name == "noise":
        return [
            (Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)), 0) for _ in range(images)
        ]
    if name == "photographs":
        return [
            (crop_square(load_photo(label), rng), 0) for label in rng.choice(list(data.PHOTOGRAPHS), images)
        ]
    split = load_dataset(name).train
    return [split[int(i)] for i in rng.choice(len(split), images, replace=False)]


def crop_square(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a random square of a photograph, of half its height or more."""
    side = int(min(image.size) * rng.uniform(0.5, 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def compose(thing: str, rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Return an object on a texture at a random place, and its box (top, left, bottom, right)."""
    ground = load_photo(str(rng.choice(GROUNDS))).resize((CANVAS, CANVAS)).copy()
    top, left = (int(rng.integers(0, CANVAS - SIDE + 1)) for _ in range(2))
    ground.paste(load_photo(thing).resize((SIDE, SIDE)), (left, top))
    return ground, (top, left, top + SIDE, left + SIDE)


@cache
def load_photo(label: str) -> Image.Image:
    """Return the middle square of a photograph that scikit-image or scikit-learn carries."""
    whole = data.load_photograph(label)
    side = min(whole.size)
    left, top = ((length - side) // 2 for length in whole.size)
    return whole.crop((left, top, left + side, top + side))


def to_tensor(model: torch.nn.Module, image: Image.Image) -> torch.Tensor:
    """Return a picture of the network's own size as its input, nothing cropped away: boxes stay true."""
    info = data.transform_for(model)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (info.mean, info.std))
    return (pixels - mean) / std
