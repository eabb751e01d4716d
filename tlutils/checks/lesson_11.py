"""Checks of lesson 11: frames grouped by camera, a tie, what an interval asks for, images that are unlike."""

from collections.abc import Callable, Hashable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .common import attempt, judge, judge_effects

FRAMES = [
    Path("photographs", label, f"{day}_{camera}_{frame:04}.jpg")
    for label, day, camera, frame in product(
        ("intact", "cracked"), ("2024-05-01", "2024-05-02"), ("hall", "gate", "roof", "yard"), (7, 23)
    )
]
"""Frames of four cameras: every camera, day and frame number occurs under both classes."""


def _parts(path: Path) -> tuple[str, str, str]:
    """Return day, camera and frame number, as the file's name has them."""
    day, camera, frame = path.stem.split("_")
    return day, camera, frame


def check_groups(camera_of: Callable[[Path], Hashable] | None) -> None:
    """Print whether a function puts frames of one camera into one group, or what it groups by instead.

    Args:
        camera_of: The learner's `camera_of(path)`; it returns a key, the same for all frames of a camera.

    Example:
        >>> from tlutils.checks import lesson_11
        >>> lesson_11.check_groups(lambda path: path.parent.name)
        This groups by class: each split would get whole classes. Group by camera, across the classes.
    """
    todo = "Return a text, the same for all frames of one camera: the second word of the file's name."
    keys: list[Any] = []
    for path in FRAMES:
        found = attempt(camera_of, path, todo=todo)
        if found is None:
            return
        try:
            hash(found)
        except TypeError:
            print(f"A {type(found).__name__} arrived, which cannot be a key. {todo}")
            return
        keys.append(found)

    def groups_by(rule: Callable[[Path], Hashable]) -> bool:
        """Return whether the keys make the same groups as a rule does."""
        pairs = set(zip(keys, map(rule, FRAMES), strict=True))
        return len(pairs) == len(set(keys)) == len(set(map(rule, FRAMES)))

    right = groups_by(lambda path: _parts(path)[1])
    within = "the camera's frames under another class, or of another day, would lie in another split."
    judge_effects(
        {
            "Everything is one group: then there is nothing to split.": len(set(keys)) == 1,
            "This groups by class: each split would get whole classes. Group by camera, across the "
            "classes.": groups_by(lambda path: path.parent.name),
            "Every frame is a group of its own, as if no groups were given: frames of one camera land on all "
            "sides.": len(set(keys)) == len(FRAMES),
            "This groups by day: a camera films every day, so it would be on all sides.": groups_by(
                lambda path: _parts(path)[0]
            ),
            "This groups by frame number, which has nothing to do with where a frame comes from.": groups_by(
                lambda path: _parts(path)[2]
            ),
            f"This groups by camera and class: {within}": groups_by(
                lambda path: (path.parent.name, _parts(path)[1])
            ),
            f"This groups by camera and day: {within}": groups_by(lambda path: _parts(path)[:2]),
            "This groups by camera and frame number: neighbouring frames, which are almost copies, would be "
            "on all sides.": groups_by(lambda path: _parts(path)[1:]),
            "The class is not part of a frame's name: two frames with one name get different keys.": any(
                key != other
                for key, path in zip(keys, FRAMES, strict=True)
                for other, rival in zip(keys, FRAMES, strict=True)
                if path.name == rival.name
            ),
            f"Not yet: these are {len(set(keys))} groups, and 4 cameras filmed. {todo}": not right,
        },
        praise="no camera is on two sides, so the test asks what happens at a camera that nobody has seen.",
    )


def _hits(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return hits of two classifiers on the same images: how many both, one of them and neither got right."""
    counts = (both, first, second, neither)
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


PAIRS = [
    _hits(60, 14, 2, 24),
    _hits(60, 2, 14, 24),
    _hits(70, 9, 6, 15),
    _hits(20, 30, 21, 9),
    _hits(70, 6, 9, 15),
    _hits(480, 38, 16, 66),
    _hits(6, 2, 1, 3),
    _hits(40, 0, 0, 10),
    _hits(30, 20, 3, 7),
]
"""Paired hits: clear and unclear, few and many; of some the single intervals overlap and the pairs differ."""


def _verdict(first: np.ndarray, second: np.ndarray, rule: str = "paired") -> str:
    """Return "first", "second" or "a tie", by the interval of the mean difference or a wrong rule."""
    n, difference = len(first), first.astype(float) - second
    errors = {
        "paired": difference.std(ddof=1) / n**0.5,
        "unpaired": float(np.hypot(first.std(ddof=1), second.std(ddof=1))) / n**0.5,
        "overlap": float(first.std(ddof=1) + second.std(ddof=1)) / n**0.5,
        "spread": difference.std(ddof=1),
        "narrow": difference.std(ddof=1) / n**0.5 / 1.96,
        "values": 0.0,
    }
    mean, half = difference.mean(), 1.96 * errors[rule]
    if abs(mean) <= half:
        return "a tie"
    return "first" if mean > 0 else "second"


def check_tie(verdict: Callable[[np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether a function decides from paired hits who is ahead, or which other rule it follows.

    Args:
        verdict: The learner's `verdict(first, second)`; it returns "first", "second" or "a tie".

    Example:
        >>> from tlutils.checks import lesson_11
        >>> lesson_11.check_tie(lambda first, second: "first" if first.mean() > second.mean() else "second")
        Whoever has more hits wins here, however few images decide it. A tie is an answer, too.
    """
    todo = 'Return "first", "second" or "a tie".'
    answers = []
    for first, second in PAIRS:
        found = attempt(verdict, first.copy(), second.copy(), todo=todo)
        if found is None:
            return
        if not isinstance(found, str) or found not in ("first", "second", "a tie"):
            print(f"Not yet: {found!r} arrived. {todo}")
            return
        answers.append(found)

    def follows(rule: str) -> bool:
        return answers == [_verdict(*pair, rule) for pair in PAIRS]

    exchange = {"first": "second", "second": "first", "a tie": "a tie"}
    judge_effects(
        {
            "Everything is a tie here. Some of these pairs are clear.": set(answers) == {"a tie"},
            "Whoever has more hits wins here, however few images decide it. A tie is an answer, too.": all(
                own == _verdict(*pair, "values")
                for own, pair in zip(answers, PAIRS, strict=True)
                if pair[0].mean() != pair[1].mean()
            ),
            "first and second are exchanged.": [exchange[own] for own in answers]
            == [_verdict(*pair) for pair in PAIRS],
            "The hits of each were taken by themselves: what is hard for both, or easy for both, then counts "
            "as noise. Take the difference image by image, and the interval of its mean.": follows("unpaired")
            or follows("overlap"),
            "The standard deviation is that of single images. That of their mean is smaller: divide it by "
            "the root of their number.": follows("spread"),
            "The interval has one standard error to each side. For 95 % take 1.96 of them.": follows(
                "narrow"
            ),
            "Not yet. Take first - second for each image; is 0 within 1.96 standard errors of its "
            "mean?": not follows("paired"),
        },
        praise="what both get right or both get wrong says nothing of who is better, and drops out.",
    )


SCORES = [
    (0.91, 0.97, 0.9),
    (0.84, 0.96, 0.9),
    (0.88, 0.96, 0.9),
    (0.70, 0.86, 0.9),
    (0.52, 0.89, 0.9),
    (0.61, 0.99, 0.6),
    (0.70, 0.92, 0.8),
    (0.70, 0.74, 0.72),
    (0.78, 0.82, 0.95),
]
"""Ends of intervals and the accuracy that is wanted: narrow and wide, on each side of it and around it."""

SHIP, MORE, CHANGE = "ship", "collect more", "change something"


def _next_step(low: float, high: float, wanted: float) -> str:
    """Return what an interval asks for."""
    return SHIP if low >= wanted else CHANGE if high < wanted else MORE


def check_next_step(next_step: Callable[[float, float, float], Any] | None) -> None:
    """Print whether a function reads from an interval what to do next, or what it looks at instead.

    Args:
        next_step: The learner's `next_step(low, high, wanted)`; it returns "ship", "collect more" or "change
            something".

    Example:
        >>> from tlutils.checks import lesson_11
        >>> lesson_11.check_next_step(
        ...     lambda low, high, wanted: "ship" if (low + high) / 2 >= wanted else "collect more"
        ... )
        The middle of the interval decides here. The truth may be anywhere in it: ask where its ends are.
    """
    todo = f'Return "{SHIP}", "{MORE}" or "{CHANGE}".'
    answers = []
    for case in SCORES:
        found = attempt(next_step, *case, todo=todo)
        if found is None:
            return
        if not isinstance(found, str) or found not in (SHIP, MORE, CHANGE):
            print(f"Not yet: {found!r} arrived. {todo}")
            return
        answers.append(found)
    shipped, more = ([own == word for own in answers] for word in (SHIP, MORE))
    right = [_next_step(*case) for case in SCORES]
    judge_effects(
        {
            "The middle of the interval decides here. The truth may be anywhere in it: ask where its ends "
            "are.": shipped == [(low + high) / 2 >= wanted for low, high, wanted in SCORES],
            "This ships as soon as the upper end reaches what is wanted. That is the best case: ask for the "
            "lower end.": shipped == [high >= wanted for _, high, wanted in SCORES],
            "The width alone decides about more images. A wide interval on one side of what is wanted is "
            "clear, and a narrow one around it is not.": any(
                more == [high - low > width for low, high, _ in SCORES]
                for width in (0.05, 0.07, 0.1, 0.15, 0.2)
            ),
            f'"{MORE}" and "{CHANGE}" are exchanged: where the whole interval is below what is wanted, more '
            "images measure the same disappointment more exactly.": [
                {MORE: CHANGE, CHANGE: MORE}.get(own, own) for own in answers
            ]
            == right,
            f'Nothing says "{CHANGE}": where the whole interval is below what is wanted, it is known that '
            "this is not enough.": CHANGE not in answers,
            f'Nothing says "{MORE}": where what is wanted is inside the interval, nobody knows yet.': MORE
            not in answers,
            "Not yet. Is what is wanted below the interval, inside it, or above it?": answers != right,
        },
        praise="it is known to be enough, known not to be, or not known.",
    )


def _embeddings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings of known, held-out and new images of two classes: (60, 2), (40, 2), (9, 2)."""
    rng, centres = np.random.default_rng(0), np.array([[0.0, 0.0], [12.0, 0.0]])
    known, held_out = (np.repeat(centres, n, 0) + rng.normal(size=(2 * n, 2)) for n in (30, 20))
    new = [[12, 0.5], [6, 0], [0, 9], [12, -5], [0.5, 0.5], [11, 0], [-4.5, 0], [3.4, 0]]
    return known, held_out, np.concatenate([known[:1] + 0.001, new])


def _nearest(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how far the nearest of the known rows is, for each row."""
    return np.asarray(np.linalg.norm(rows[:, None] - known, axis=2).min(1))


def check_unlike(unlike: Callable[[np.ndarray, np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether a function finds the images that are unlike the known ones, or which mistake it makes.

    Args:
        unlike: The learner's `unlike(known, held_out, new)`, embeddings (n, d), (m, d) and (k, d); it returns
            True or False for each new image, (k,).

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_11
        >>> lesson_11.check_unlike(lambda known, held_out, new: np.ones(len(new), bool))
        Every image is unlike here. Is the border that of images that were learned from? Each of them lies at
        distance 0 from itself: take the held-out ones.
    """
    known, held_out, new = _embeddings()
    todo = "Return True or False for each new image, (k,): is its nearest known image too far?"
    found = attempt(unlike, known.copy(), held_out.copy(), new.copy(), todo=todo)
    away, usual = _nearest(new, known), _nearest(held_out, known)
    middle = known.mean(0)
    from_middle = [np.linalg.norm(rows - middle, axis=1) for rows in (new, held_out)]
    on_average = [np.linalg.norm(rows[:, None] - known, axis=2).mean(1) for rows in (new, held_out)]
    right = away > np.quantile(usual, 0.95)
    judge(
        found,
        torch.as_tensor(right),
        {
            "Every image is unlike here. Is the border that of images that were learned from? Each of them "
            "lies at distance 0 from itself: take the held-out ones.": torch.ones(len(new)),
            "True and False are exchanged: an image is unlike when it is farther away.": torch.as_tensor(
                ~right
            ),
            "These are distances. Compare each with the border, and return True or False.": torch.as_tensor(
                away
            ),
            "The border was taken among the new images: then one in twenty of them is unlike, whatever they "
            "show. Take it from the held-out ones.": torch.as_tensor(away > np.quantile(away, 0.95)),
            "These are distances to the middle of all known images, or their average: between the classes no "
            "image lies, and yet that is near. Take the nearest known image.": (
                torch.as_tensor(from_middle[0] > np.quantile(from_middle[1], 0.95)),
                torch.as_tensor(on_average[0] > np.quantile(on_average[1], 0.95)),
            ),
            "The border is the smallest twentieth of the held-out distances. Nineteen in twenty should be "
            "below it.": torch.as_tensor(away > np.quantile(usual, 0.05)),
            "The border is the middle of the held-out distances: every second usual image would be called "
            "unlike.": torch.as_tensor(away > np.median(usual)),
        },
        praise="far from all that was learned, and the border says how often a usual image is called so.",
    )
