"""Checks of embeddings, of their scaling, and of a penalty chosen by cross-validation."""

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ... import runtime
from ..common import Mistake, answer, is_close, require


class _Backbone(nn.Module):
    """Images to features, through a BatchNorm; notes each pass, and whether it kept what a gradient needs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, width, 3, stride=2), nn.BatchNorm2d(width)
        self.gradients: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.gradients.append(torch.is_grad_enabled())
        return self.bn(self.conv(x)).relu().mean((2, 3))


def check_embed(embed: Callable[[Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function gives the features of all images, or raise the mistake.

    Args:
        embed: The learner's `function(backbone, batches)`, which returns a NumPy array (images, features).
        seed: The network and the images of the check are drawn from it.

    Raises:
        Mistake: If features depend on the batch, are missing, or are in another form.

    Example:
        >>> import torch
        >>> from tlutils.checks import assignment_02
        >>> def in_training_mode(backbone, batches):
        ...     with torch.no_grad():
        ...         return torch.cat([backbone(images) for images in batches]).numpy()
        >>> assignment_02.check_embed(in_training_mode)
        Traceback (most recent call last):
        tlutils.checks.Mistake: The features were computed in training mode: BatchNorm normalises each image
        by its batch, so that they depend on the other images in it. backbone.eval() is missing.
    """
    with runtime.seeded(seed):
        width = 5 + seed % 4
        backbone = _Backbone(width).train()
        backbone(torch.randn(16, 3, 9, 9) + 1)  # statistics that are not those of a new layer
        backbone.gradients.clear()
        batches = [torch.randn(n, 3, 9, 9) for n in (4, 4, 3)]
        other, start = copy.deepcopy(backbone), copy.deepcopy(backbone).eval()
        found = answer(embed, backbone, batches, todo="Return a NumPy array, a row for each image.")
        with torch.no_grad():
            right = torch.cat([start(images) for images in batches])
            moving = torch.cat([other(images) for images in batches])
            last = start(batches[-1])
        drifted = not torch.equal(start.bn.running_mean, backbone.bn.running_mean)  # type: ignore[arg-type]
        shape = tuple(np.shape(found)) if isinstance(found, np.ndarray | Tensor) else None  # type: ignore[arg-type]
        scaled = right / right.norm(dim=1, keepdim=True)
        require(
            {
                "The features were computed in training mode: BatchNorm normalises each image by its batch, "
                "so that "
                "they depend on the other images in it. backbone.eval() is missing.": drifted
                or is_close(found, moving),
                "Each pass keeps what a gradient would need: torch.no_grad() saves the memory.": any(
                    backbone.gradients
                ),
                f"A {type(found).__name__} came back. Return a NumPy array: "
                "torch.cat(...).numpy().": not isinstance(found, np.ndarray),
                "Those are the features of the last batch alone: collect them all.": is_close(found, last),
                "Those are the means of whole batches: a row belongs to an image.": shape == (3, width),
                "Rows are images and columns are features; these are the other way round.": shape
                == (width, 11),
                "Features were averaged away: a row has a number for each feature.": shape
                in [(11,), (11, 1)],
                "The rows have length 1. Normalise where you compare, not where you compute.": is_close(
                    found, scaled
                ),
                "The features went through a softmax, which is for logits.": is_close(
                    found, right.softmax(1)
                ),
                f"{len(right)} images give {len(right)} rows, and there are {shape and shape[0]}.": (
                    shape is not None and shape[0] != len(right)
                ),
                "Row i is not the features of image i: keep the order.": is_close(
                    torch.as_tensor(found).sum() if isinstance(found, np.ndarray) else None, right.sum()
                )
                and not is_close(found, right),
                "The numbers are not what the backbone gives for these images.": not is_close(found, right),
            },
            praise="a row for each image, and no image knows of the others.",
        )


def check_standardise(standardise: Callable[[Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function standardises features by the training ones, or raise the mistake.

    Args:
        standardise: The learner's `function(train, val)`, which returns both arrays, standardised.
        seed: The features of the check are drawn from it.

    Raises:
        Mistake: If another mean or spread was used.

    Example:
        >>> from tlutils.checks import assignment_02
        >>> def each_by_its_own(train, val):
        ...     return tuple((x - x.mean(0)) / x.std(0) for x in (train, val))
        >>> assignment_02.check_standardise(each_by_its_own)
        Traceback (most recent call last):
        tlutils.checks.Mistake: The validation features were scaled by their own mean and standard deviation:
        one
        image alone could not be, and the two sets no longer mean the same. Use those of train.
    """
    rng = np.random.default_rng(seed)
    train, val = rng.normal(2, [1, 3, 9, 0.5], (12, 4)), rng.normal(4, [2, 1, 3, 1.5], (7, 4))
    given = train.copy(), val.copy()
    found = answer(standardise, train, val, todo="Return two arrays: train and val, standardised.")
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Mistake("Return two arrays: train and val, standardised.")
    (a, b), mean, std = found, given[0].mean(0), given[0].std(0)
    both = np.concatenate(given)

    def gives(center: Any, scale: Any) -> bool:
        return is_close(b, torch.tensor((given[1] - center) / scale), 1e-4)

    def right(ddof: int) -> bool:
        spread = given[0].std(0, ddof=ddof)
        return gives(mean, spread) and is_close(a, torch.tensor((given[0] - mean) / spread), 1e-4)

    rows = given[1].mean(1, keepdims=True), given[1].std(1, keepdims=True)
    require(
        {
            "The arrays that arrived were changed: work on copies, others use them, too.": not (
                np.array_equal(train, given[0]) and np.array_equal(val, given[1])
            ),
            "The validation features were scaled by their own mean and standard deviation: one image alone "
            "could not "
            "be, and the two sets no longer mean the same. Use those of train.": gives(
                given[1].mean(0), given[1].std(0)
            )
            or gives(given[1].mean(0), given[1].std(0, ddof=1)),
            "The mean and standard deviation come from train and val together: what is measured with has "
            "already been looked at. Use those of train.": gives(both.mean(0), both.std(0)),
            "Each image was scaled by itself: axis 0 runs over the images, and each *feature* gets a "
            "mean.": gives(*rows),
            "One mean for all features: each has its own scale. axis=0 is missing.": gives(
                given[0].mean(), given[0].std()
            ),
            "Divided by the variance: the standard deviation is its root.": gives(mean, std**2),
            "The mean is not subtracted.": gives(0, std),
            "The mean is subtracted, and the spread is left: divide by the standard deviation.": gives(
                mean, 1
            ),
            "That is scaling to the range of 0 to 1: one outlier squeezes all others.": gives(
                given[0].min(0), np.ptp(given[0], axis=0)
            ),
            "The validation features are right, and the training features are not: scale both alike.": (
                gives(mean, std) and not right(0)
            ),
            "The numbers are not standardised features.": not (right(0) or right(1)),
        },
        praise="one mean and one standard deviation for each feature, all from train.",
    )


class _Fits:
    """A `fit(x, y, penalty)` whose answers are set beforehand, and that notes which rows it saw."""

    # penalty -> probability of the right class for the four images of a held-out fold
    HELD: ClassVar[dict[float, tuple[float, ...]]] = {
        0.01: (0.52, 0.52, 0.51, 0.53),  # often right, never sure
        0.1: (0.9, 0.9, 0.9, 0.45),  # the best by log loss
        1.0: (0.97, 0.97, 0.97, 0.02),  # sure, and now and then very wrong
        10.0: (0.999, 0.4, 0.001, 0.01),
    }
    FIRST = (0.99, 0.99, 0.99, 0.99)  # held out in the first fold by penalty 1.0
    KNOWN: ClassVar[dict[float, float]] = {0.01: 0.55, 0.1: 0.91, 1.0: 0.98, 10.0: 0.9999}

    def __init__(self) -> None:
        self.fitted: list[set[int]] = []
        self.asked: list[set[int]] = []

    def __call__(self, x: Any, y: Any, penalty: float) -> Callable[[Any], np.ndarray]:
        rows = {int(row) for row in x[:, 0]}
        self.fitted.append(rows)

        def predict_proba(new: Any) -> np.ndarray:
            asked = [int(row) for row in new[:, 0]]
            self.asked.append(set(asked))
            chances = []
            for place, row in enumerate(asked):
                held = self.HELD[penalty]
                if penalty == 1.0 and asked[0] == 0:
                    held = self.FIRST
                p = self.KNOWN[penalty] if row in rows else held[place % 4]
                chances.append([1 - p, p] if new[place, 1] else [p, 1 - p])
            return np.array(chances)

        return predict_proba


def check_choose_penalty(choose_penalty: Callable[[Any, Any, Any, Any, int], Any], *, seed: int = 0) -> None:
    """Print that a function chooses a penalty by cross-validation, or raise the mistake.

    Args:
        choose_penalty: The learner's `function(x, y, penalties, fit, folds)`, which returns one of the
            penalties.
            `fit(x, y, penalty)` returns a function that gives probabilities (images, classes).
        seed: The order of the penalties is drawn from it.

    Raises:
        Mistake: If images that a fit has seen are scored, or another penalty is chosen.

    Example:
        >>> from tlutils.checks import assignment_02
        >>> def on_train(x, y, penalties, fit, folds):
        ...     scores = [fit(x, y, p)(x)[range(len(y)), y].mean() for p in penalties]
        ...     return penalties[scores.index(max(scores))]
        >>> assignment_02.check_choose_penalty(on_train)
        Traceback (most recent call last):
        tlutils.checks.Mistake: A fit was scored on images that it had seen, and the weakest penalty always
        wins
        there. Hold a fold out of the fit, and score on it alone.
    """
    folds, fits = 3, _Fits()
    rng = np.random.default_rng(seed)
    y = np.sort(rng.integers(0, 2, 12))
    y[:2], y[-2:] = 0, 1
    x = np.stack([np.arange(12), y], 1).astype(float)
    penalties = list(rng.permutation(list(fits.HELD)))
    todo = "Return one of the penalties."
    found = answer(choose_penalty, x, y, list(penalties), fits, folds, todo=todo)
    scored = [asked & fitted for fitted, asked in zip(fits.fitted, fits.asked, strict=False)]
    wanted = [set(range(k, 12, folds)) for k in range(folds)]
    loss = {p: float(-np.log(fits.HELD[p]).mean()) for p in penalties}
    value = float(found) if isinstance(found, int | float | np.number) else None
    require(
        {
            "It never fits: call fit(x, y, penalty).": not fits.fitted,
            "It never asks a fit about images: the function that fit gives does.": not fits.asked,
            "A fit was scored on images that it had seen, and the weakest penalty always wins there. Hold a "
            "fold out "
            "of the fit, and score on it alone.": any(scored),
            f"Each penalty needs {folds} fits, one for each fold that is held out; here were "
            f"{len(fits.fitted)} for "
            f"{len(penalties)} penalties.": len(fits.fitted) != folds * len(penalties),
            "The folds are runs of neighbouring rows, and these are sorted by class: fold k holds rows k, k "
            "+ folds, "
            "k + 2 folds and so on.": not all(asked in wanted for asked in fits.asked),
            "A fit got only a part of the rows that are not held out.": any(
                len(rows) != 8 for rows in fits.fitted
            ),
            "That is not a penalty of the list: is it its place, or its loss?": value not in penalties,
            "Chosen by the largest loss: the smallest is best. A log of probabilities is negative; the loss "
            "is minus "
            "that.": value == max(loss, key=lambda p: loss[p]),
            "Chosen by accuracy, which counts a sure mistake like a doubtful one: the exercise asks for the "
            "log loss.": (value == 0.01),
            "Chosen by one fold, or by the mean probability, or by the best fold: take the mean log loss "
            "over all "
            "held-out images.": value != 0.1,
        },
        praise="each image was judged by fits that had never seen it.",
    )
