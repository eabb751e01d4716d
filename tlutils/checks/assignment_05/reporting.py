"""Checks of the line that reports on test images, and of a prediction for one new photograph."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ... import data
from ..common import Mistake, answer, require
from .choosing import over_images, over_photographs
from .measuring import Part

LINE = re.compile(r"(\S+): (-?\d+\.\d{3}) \[(-?\d+\.\d{3}), (-?\d+\.\d{3})\] on (\d+) photographs")


def check_report(report: Callable[[str, Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function reports what test images say, opened once, or raise the mistake.

    Args:
        report: The learner's `function(name, predict, test)`, which returns a line.
        seed: The images and predictions of the check are drawn from it.

    Raises:
        Mistake: If the test images are used more than once, or the line says something else.

    Example:
        >>> from tlutils.checks import assignment_05
        >>> assignment_05.check_report(lambda name, predict, test: f"{name}: good")
        Traceback (most recent call last):
        tlutils.checks.Mistake: The test images were not looked at: predict(test.images).
    """
    rng = np.random.default_rng(seed)
    n, classes = 12 + seed % 4, 4
    groups = np.repeat([f"p{k}" for k in range(n)], rng.integers(1, 6, n))
    labels = rng.integers(0, classes, len(groups))
    chances = rng.dirichlet(np.ones(classes), len(groups))
    good = np.isin(groups, [f"p{k}" for k in range(0, n, 2)]) | (rng.random(len(groups)) < 0.4)
    chances[good, labels[good]] += 1
    chances /= chances.sum(1, keepdims=True)
    test = Part(torch.randn(len(groups), 3, 2, 2), labels, groups)
    asked: list[int] = []

    def predict(images: Tensor) -> np.ndarray:
        asked.append(len(images))
        places = [int((test.images == image).flatten(1).all(1).nonzero()[0, 0]) for image in images]
        return np.array(chances[places])

    found = answer(report, "probe", predict, test, todo="Return a line.")
    if not asked:
        raise Mistake("The test images were not looked at: predict(test.images).")
    if not isinstance(found, str) or not (said := LINE.fullmatch(found.strip())):
        raise Mistake(
            f'The line is {found!r}, and was to look like "probe: 0.812 [0.700, 0.924] on 20 photographs", '
            "with three decimals."
        )
    right = (chances.argmax(1) == labels).astype(float)
    numbers = tuple(float(text) for text in said.groups()[1:4])

    def says(wanted: Any) -> bool:
        return bool(np.allclose(numbers, wanted, rtol=0, atol=6e-4))

    mean, low, high = over_photographs(right, groups)
    by_image = over_images(right, groups)
    require(
        {
            f"The test images were opened {len(asked)} times. Whoever looks twice chooses, and what was "
            "chosen is not a report: once, all together.": len(asked) > 1,
            f"{asked[0]} of {len(groups)} test images were looked at.": asked[0] < len(groups),
            f"The line is about {said[1]!r}, and the strategy is called 'probe'.": said[1] != "probe",
            "The numbers are in percent.": says([100 * mean, 100 * low, 100 * high]),
            "The share of images that are *wrong* is reported.": abs(numbers[0] - (1 - mean)) < 6e-4,
            "The interval takes each image for evidence of its own: hand test.groups to `interval`.": says(
                by_image
            ),
            "low lies above high.": numbers[1] > numbers[2],
            "That is one end of the interval in place of the mean.": abs(numbers[0] - low) < 6e-4
            or abs(numbers[0] - high) < 6e-4,
            "The mean probability of the label is not an accuracy: the most probable class counts.": abs(
                numbers[0] - over_photographs(chances[np.arange(len(labels)), labels], groups)[0]
            )
            < 6e-4,
            f"There are {len(groups)} images of {n} photographs, and the line says {said[5]}.": int(said[5])
            != n,
            "The numbers are not accuracy and interval over photographs: argmax over axis 1, equal to the "
            "labels.": not says([mean, low, high]),
        },
        praise="the test images were opened once, and a photograph counts once.",
    )


def check_predict_one(predict_one: Callable[[Any, Any, Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function reads and names one new photograph, or raise the mistake.

    Args:
        predict_one: The learner's `function(path, prepare, predict, classes)`, which returns the name of a
            class and its probability.
        seed: The colours of the check's photographs are drawn from it.

    Raises:
        Mistake: If a photograph is read, prepared or named in another way.

    Example:
        >>> from PIL import Image
        >>> from tlutils.checks import assignment_05
        >>> def of_a_batch(path, prepare, predict, classes):
        ...     chances = predict(prepare(Image.open(path).convert("RGB")))
        ...     return classes[chances.argmax()], chances.max()
        >>> assignment_05.check_predict_one(of_a_batch)
        Traceback (most recent call last):
        tlutils.checks.Mistake: A network wants a batch, (1, 3, height, width), and got (3, 6, 6): [None]
        makes one of one image.
    """
    bright = int(np.random.default_rng(seed).integers(150, 240))
    classes = ["mole", "zebra", "ant"]  # not sorted: a class is called what its place says
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[:, 10:, 0] = bright  # red, on the right
    with tempfile.TemporaryDirectory() as folder:
        for path in _write(Path(folder), pixels):
            _check_one(predict_one, path, classes)
    print("Right: turned as the camera says, in RGB, prepared as in training, and named.")


def _write(folder: Path, pixels: np.ndarray) -> list[Path]:
    """Write one photograph as others do, and return the paths: plain, with alpha, grey, and turned."""
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 3  # the camera was held upside down
    image.save(folder / "plain.png")
    image.convert("RGBA").save(folder / "alpha.png")
    image.convert("L").save(folder / "grey.png")
    image.rotate(180).save(folder / "turned.png", exif=turned)
    return [folder / f"{name}.png" for name in ("plain", "alpha", "grey", "turned")]


def _check_one(predict_one: Callable[..., Any], path: Path, classes: list[str]) -> None:
    """Raise what is wrong with the answer for one photograph."""
    read: list[Any] = []
    asked: list[tuple[int, ...]] = []
    inputs: list[Tensor] = []

    def prepare(image: Any) -> Tensor:
        read.append(image)
        values = np.asarray(image.resize((6, 6)), dtype=np.float32) / 127.5 - 1
        if values.ndim == 2:
            values = values[..., None]
        return torch.tensor(values).permute(2, 0, 1)

    def predict(images: Any) -> np.ndarray:
        asked.append(tuple(images.shape))
        inputs.append(torch.as_tensor(images).clone())
        batch = images if images.ndim == 4 else images[None]
        logits = batch.float().mean((1, 2))[:, [0, 3, 5]] * torch.tensor([1.0, 1.5, -3.0])
        return np.asarray(logits.softmax(1).double())

    found = None
    problem: Mistake | None = None
    try:
        found = answer(
            predict_one, path, prepare, predict, list(classes), todo="Return a class and its probability."
        )
    except Mistake as mistake:
        problem = mistake
    modes = [getattr(image, "mode", "no picture") for image in read]
    if asked and len(asked[0]) == 3:
        raise Mistake(
            f"A network wants a batch, (1, 3, height, width), and got {asked[0]}: [None] makes one of one "
            "image."
        )
    if modes and modes[0] != "RGB":
        raise Mistake(
            f"{path.name} was handed to `prepare` in mode {modes[0]}: photographs are also grey or have an "
            'alpha channel. convert("RGB") makes all alike.'
        )
    if problem:
        raise problem
    given = inputs[0] if inputs else None
    wanted = prepare(data.load_image(path))[None]
    chances = predict(wanted)[0]
    word, chance = found if isinstance(found, tuple | list) and len(found) == 2 else (None, None)
    again = np.exp(chances) / np.exp(chances).sum()
    chance = float(chance) if isinstance(chance, int | float | np.number | Tensor) else -1.0
    best = int(chances.argmax())
    differs = given is None or given.shape != wanted.shape or not torch.allclose(given, wanted, atol=0.05)
    _refuse(
        {
            "`predict` was not asked.": given is None,
            f"Return two things, a class and its probability; {found!r} came back.": word is None,
            "The photograph was not prepared: `prepare` gives it the size and the scale that the network was "
            "trained with.": len(read) < 2,
            "The photograph lies on its side or its head: cameras write into the EXIF how they were held. "
            "ImageOps.exif_transpose turns it.": path.stem == "turned" and differs,
            "What was predicted is another picture than the file's: is it changed after it was read, or are "
            "its channels in another order?": differs,
            f"{word!r} is a number: return the name of the class, classes[number].": isinstance(
                word, int | np.integer
            ),
            f"Place {best} is {classes[best]!r} in `classes`, and {word!r} came back: keep their order.": word
            == sorted(classes)[best]
            and word != classes[best],
            "The class with the smallest probability was taken.": word == classes[int(chances.argmin())],
            f"{word!r} is not the class with the largest probability.": word != classes[best],
            "The softmax was taken twice: `predict` gives probabilities already.": abs(chance - again[best])
            < 1e-4,
            "The probability is in percent: leave it between 0 and 1.": abs(chance - 100 * chances[best])
            < 1e-2,
            "The probability is not that of the class which was named.": abs(chance - chances[best]) > 1e-3,
        }
    )


def _refuse(mistakes: dict[str, bool]) -> None:
    """Raise the first of the mistakes that was made."""
    if made := next((text for text, is_made in mistakes.items() if is_made), None):
        raise Mistake(made)
