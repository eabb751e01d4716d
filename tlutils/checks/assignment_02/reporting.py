"""Checks of an interval, of a verdict on two methods, and of the experiment that is reported."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ..common import Mistake, answer, is_close, require

BAND = 0.75  # accuracy on val of the probe on pretrained features; benchmarks/assignments.py measures it


def check_interval(interval: Callable[[Any], Any], *, seed: int = 0) -> None:
    """Print that a function gives a mean with its 95% interval, or raise the mistake.

    Args:
        interval: The learner's `function(values)`, which returns mean, low and high.
        seed: The values of the check are drawn from it.

    Raises:
        Mistake: If the width of the interval is another.

    Example:
        >>> from tlutils.checks import assignment_02
        >>> def too_wide(values):
        ...     return values.mean(), values.mean() - 1.96 * values.std(), values.mean() + 1.96 * values.std()
        >>> assignment_02.check_interval(too_wide)
        Traceback (most recent call last):
        tlutils.checks.Mistake: That is the spread of single images, which does not shrink when there are
        more of
        them. The standard error of a mean is the standard deviation divided by the root of n.
    """
    rng = np.random.default_rng(seed)
    values = (rng.random(90 + seed % 7) < 0.7).astype(float)
    found = answer(interval, values.copy(), todo="Return three numbers: mean, low, high.")
    if not isinstance(found, tuple | list | np.ndarray) or len(found) != 3:
        raise Mistake("Return three numbers: mean, low, high.")
    numbers = np.array([float(value) for value in found])
    mean, std, n = values.mean(), values.std(ddof=1), len(values)
    reach = numbers[2] - numbers[0]

    def reaches(wanted: float) -> bool:
        return bool(abs(reach - wanted) < 0.03 * wanted)

    require(
        {
            "The numbers are in percent: leave them between 0 and 1.": is_close(
                numbers[0], torch.tensor(100 * mean), 1e-4
            ),
            "The first number is not the mean.": not is_close(numbers[0], torch.tensor(mean), 1e-4),
            "low lies above high: subtract for low, add for high.": numbers[1] > numbers[2],
            "That is the spread of single images, which does not shrink when there are more of them. The "
            "standard "
            "error of a mean is the standard deviation divided by the root of n.": reaches(1.96 * std)
            or reaches(std),
            "Divided by n: the standard error is the standard deviation divided by the *root* of n.": reaches(
                1.96 * std / n
            ),
            "That is one standard error, which covers two thirds. 1.96 of them cover 95%.": reaches(
                std / n**0.5
            ),
            "That is the variance in place of the standard deviation.": reaches(1.96 * std**2 / n**0.5),
            "1.96 is for 95%: 1.64 covers 90%, and 2.58 covers 99%.": reaches(1.645 * std / n**0.5)
            or reaches(2.576 * std / n**0.5),
            "Twice as far: the interval reaches 1.96 standard errors to each side, 3.92 from end to "
            "end.": reaches(3.92 * std / n**0.5),
            "The interval does not lie around the mean.": not np.isclose(
                numbers[1] + numbers[2], 2 * mean, atol=1e-3
            ),
            "high is not the mean plus 1.96 standard errors.": not reaches(1.96 * std / n**0.5),
        },
        praise="the mean, and 1.96 standard errors to each side.",
    )


def _pairs(seed: int) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Return (rights of one, of the other, verdict): a tie, and differences that only pairing shows."""
    rng = np.random.default_rng(seed)
    n = 120
    base = np.arange(n) < 72 + seed % 9
    better = base.copy()
    better[80 : 90 + seed % 3] = True  # ten images more, and none fewer
    doubtful = base.copy()
    doubtful[80:87], doubtful[:4] = True, False  # seven gained, four lost
    order = rng.permutation(n)
    one, more, other = (x[order].astype(float) for x in (base, better, doubtful))
    return [(more, one, "better"), (one, more, "worse"), (other, one, "a tie"), (one, one, "a tie")]


def check_verdict(verdict: Callable[[Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function compares two methods on the same images, or raise the mistake.

    Args:
        verdict: The learner's `function(one, other)` of 1 for right and 0 for wrong, image by image; returns
            "better", "worse" or "a tie".
        seed: The answers of the check are drawn from it.

    Raises:
        Mistake: If a verdict is another.

    Example:
        >>> from tlutils.checks import assignment_02
        >>> assignment_02.check_verdict(lambda one, other: "better" if one.mean() > other.mean() else "worse")
        Traceback (most recent call last):
        tlutils.checks.Mistake: A difference of exactly nothing is a tie.
    """
    pairs = _pairs(seed)
    said = [answer(verdict, one.copy(), other.copy(), todo="Return a word.") for one, other, _ in pairs]
    wanted = [word for _, _, word in pairs]
    unknown = [word for word in said if word not in ("better", "worse", "a tie")]
    require(
        {
            f"{unknown[0] if unknown else ''!r} is not a verdict: better, worse, or a tie.": bool(unknown),
            "The first method is judged, by its difference to the other: yours is the other way round.": said[
                :2
            ]
            == ["worse", "better"],
            "A difference of exactly nothing is a tie.": said[3] != "a tie",
            "Seven images gained and four lost are what chance gives: the interval of the difference holds "
            "0, which is "
            "a tie.": said[2] != "a tie",
            "Ten images gained and none lost are more than chance, and two separate intervals do not show "
            "it. Both "
            "methods saw the *same* images: take the interval of the differences, image by image.": said[:2]
            == ["a tie", "a tie"],
            "The verdicts do not follow from the interval of the differences.": said != wanted,
        },
        praise="image by image, and a tie where the interval holds 0.",
    )


def check_experiment(
    results: Mapping[str, Any], features: Mapping[str, Any], y_train: Any, y_val: Any
) -> None:
    """Print that an experiment has its controls and its numbers can be measured again, or raise the mistake.

    Args:
        results: For "pretrained", "random" and "pixels", 1 for each validation image that was right, 0 for
            others.
        features: For each of these, its training and validation features.
        y_train: Labels of the training images.
        y_val: Labels of the validation images.

    Raises:
        Mistake: If a control is missing, or the numbers are not those of such features.

    Example:
        >>> from tlutils.checks import assignment_02
        >>> assignment_02.check_experiment({"pretrained": [1, 1]}, {}, [0, 1], [0, 1])
        Traceback (most recent call last):
        tlutils.checks.Mistake: A control is missing: pixels, random. Without it nobody knows what the
        pretrained
        weights are worth.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    missing = {"pretrained", "random", "pixels"} - set(results)
    if missing:
        raise Mistake(
            f"A control is missing: {', '.join(sorted(missing))}. Without it nobody knows what the "
            "pretrained weights "
            "are worth."
        )
    for name, rights in results.items():
        if np.shape(rights) != (len(y_val),) or not set(np.unique(rights)) <= {0, 1}:
            raise Mistake(f"{name}: {len(y_val)} validation images give as many answers, each 0 or 1.")
    train, val = features["pretrained"]
    other = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    again = float(other.fit(train, np.array(y_train)).score(val, np.array(y_val)))
    value = float(np.mean(results["pretrained"]))
    if abs(again - value) > 0.12:
        raise Mistake(
            f"The probe on pretrained features is right on {value:.2f} of the images; another one on the "
            "same features "
            f"on {again:.2f}. Is each probe fit to its own features, and asked about its own?"
        )
    if value < BAND:
        raise Mistake(
            f"A probe on pretrained features reaches {BAND} here, and yours {value:.2f}. Are the features "
            "those of "
            "eval mode, and train's mean and standard deviation used for both sets?"
        )
    print("Right: all controls are there, and measured again the result is the same.")
