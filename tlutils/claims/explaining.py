"""Protocols that look into a network: first filters, saliency maps, and how far images are from ImageNet."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from .. import data, explain, transferability
from ..errors import LearnerError
from ..inference import evaluating, logits_of
from .materials import BACKBONE, MATERIALS, SIZE, draw_sample, load_dataset, load_network, prepare_images
from .training import Settings, train_strategy

GROUNDS = ("brick", "grass", "gravel")
CANVAS, SIDE = 128, 56  # pixels: of a composed picture, and of the object in it
PHOTOGRAPHS = 20


def gabor_likeness(*, backbone: str, seed: int) -> dict[str, Any]:
    """How Gabor-like the first filters are: `similarity`, the mean share of energy that one explains."""
    fit = explain.fit_gabors(explain.filters(load_network(backbone, 224, seed=seed)))
    return {"similarity": float(fit.share.mean())}


def pointing_game(*, method: str, seed: int) -> dict[str, Any]:
    """Whether a map's strongest pixel is on a photograph pasted on a texture: `hits`, one of each photograph.

    There are 20 photographs of ImageNet's classes, each at a place drawn by `seed`; the class that is
    explained is the one that the network sees in the photograph alone. Methods: "saliency"; the controls
    "random weights", the same of a network that was never trained, "edges", the brightness gradient of the
    picture (Sobel), and "noise". Pointing game: Zhang et al. 2018 (arXiv:1608.00507).
    """
    rng = np.random.default_rng([seed, 2])
    model = load_network("random" if method == "random weights" else BACKBONE, CANVAS, seed=seed)
    things = [load_thing(number) for number in range(PHOTOGRAPHS)]
    composed = [compose(thing, rng) for thing in things]
    x = torch.stack([to_tensor(model, image) for image, _ in composed])
    if method in ("saliency", "random weights"):
        alone = torch.stack([to_tensor(model, thing.resize((CANVAS, CANVAS))) for thing in things])
        with evaluating(model), torch.no_grad():
            seen = logits_of(model(alone)).argmax(1)
        maps = explain.saliency(model, x, seen)
    elif method == "edges":
        grey = np.stack([np.asarray(image.convert("L"), dtype=float) for image, _ in composed])
        maps = torch.from_numpy(np.hypot(ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2)))
    else:
        maps = torch.from_numpy(rng.random((PHOTOGRAPHS, CANVAS, CANVAS)))
    rate = explain.pointing_game(maps, [box for _, box in composed])
    return {"hits": "".join(str(int(hit)) for hit in rate.hits)}


TOP = 4
"""How many stages, counted from the head, are the top: the half whose features name classes."""


def cascading_randomization(*, method: str, seed: int) -> dict[str, Any]:
    """How alike a saliency map stays while the *top* stages' weights are replaced: `similarity`, -1 to 1.

    The mean over the states of the cascade in which 1 to `TOP` stages, the head first, are random: Adebayo et
    al. 2018 find that guided backpropagation does not change with the weights of the higher layers. With all
    stages random both kinds of map are destroyed.
    """
    model = load_network(BACKBONE, CANVAS)
    rng = np.random.default_rng([seed, 3])
    chosen = rng.choice(PHOTOGRAPHS, 4, replace=False)
    x = torch.stack([to_tensor(model, compose(load_thing(int(k)), rng)[0]) for k in chosen])
    stages = explain.cascading_randomization(model, x, getattr(explain, method), seed=seed)
    return {"similarity": float(torch.stack(list(stages.values())[:TOP]).mean())}


def data_randomization(*, seed: int) -> dict[str, Any]:
    """How alike two maps are, of a network that learned digits and one that learned random labels.

    `saliency` and `guided_backprop` are the rank correlations of these maps, -1 to 1: the second half of the
    test of Adebayo et al. 2018 (section 4). A map that looks the same shows the picture, not what was
    learned. Both networks fit their training images.
    """
    from scipy import stats

    known, judges = draw_sample("mnist-5k", 20, seed)
    settings = Settings(lr=1e-3, steps=150, freeze_batchnorm=False, network="small")
    true, _ = train_strategy(known, "scratch", settings, seed)
    shuffled = known.relabelled(np.random.default_rng([seed, 5]).permutation(known.labels).tolist())
    false, _ = train_strategy(shuffled, "scratch", settings, seed)
    x = prepare_images(true, judges.select(range(0, len(judges), 25)))
    found = {}
    for method in (explain.saliency, explain.guided_backprop):
        own, other = (method(model, x).abs().flatten(1).numpy() for model in (true, false))
        pairs = zip(own, other, strict=True)
        found[method.__name__] = float(np.mean([stats.spearmanr(a, b).statistic for a, b in pairs]))
    return found


def domain_distance(*, dataset: str, images: int, seed: int) -> dict[str, Any]:
    """How far a data set's images are from ImageNet's, in the network's own features: `distance`.

    "photographs" are the colour photographs that scenes are cut from, "noise" is noise: the ends of a scale.
    """
    pictures = draw_images(dataset, images, seed)
    return {"distance": transferability.domain_distance(load_network(BACKBONE, SIZE), pictures).value}


def draw_images(name: str, images: int, seed: int) -> list[tuple[Image.Image, int]]:
    """Return images of a data set with their labels, or of the two ends of the scale of distances.

    Args:
        name: a data set, a folder, "photographs" (parts of the colour photographs that scenes are cut from),
            or "noise".
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
    split = (load_dataset(name) if name in MATERIALS else data.load(name)).train
    return [split[int(i)] for i in rng.choice(len(split), images, replace=False)]


def crop_square(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a random square of a photograph, of half its height or more."""
    side = int(min(image.size) * rng.uniform(0.5, 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def compose(thing: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Return a picture on a texture at a random place, and its box (left, top, right, bottom)."""
    ground = load_photo(str(rng.choice(GROUNDS))).resize((CANVAS, CANVAS)).copy()
    top, left = (int(rng.integers(0, CANVAS - SIDE + 1)) for _ in range(2))
    ground.paste(thing.resize((SIDE, SIDE)), (left, top))
    return ground, (left, top, left + SIDE, top + SIDE)


@cache
def load_thing(number: int) -> Image.Image:
    """Return one of the 20 photographs of ImageNet's classes that the package `foolbox` carries."""
    found = find_spec("foolbox")
    if found is None or not found.submodule_search_locations:
        raise LearnerError("The photographs of this protocol come with `foolbox`: pip install foolbox.")
    (path,) = (Path(found.submodule_search_locations[0]) / "data").glob(f"imagenet_{number:02}_*.jpg")
    return data.load_image(path)


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
