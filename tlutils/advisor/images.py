"""What an engineer would want to know of a folder of images before anything is trained on it."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from IPython.utils.capture import capture_output

from .. import data, runtime
from ..intervals import Estimate, wilson_interval
from ..probe import cross_val_predict, find_label_issues
from .race import LEVEL

KINDS = {
    "dark": "are very dark",
    "light": "are very bright",
    "blurry": "are blurred",
    "low_information": "show next to nothing",
    "odd_size": "have another size than most",
    "odd_aspect_ratio": "are very long or very wide",
    "grayscale": "are grey, and others are not",
}
"""What cleanvision looks for, and how it is said here."""

BORDER, SIDE = 3, 24
"""The border that a shortcut is looked for in, and the side of the thumbnail that it is of, in pixels."""


@dataclass(frozen=True)
class ImageFinding:
    """Something to know of the images.

    Attributes:
        code: a short, stable name, such as "few images".
        message: what it is, and what to do.
        paths: the images, the clearest cases first.
    """

    code: str
    message: str
    paths: list[Path] = field(default_factory=list)


def audit_images(known: data.Split, problems: Sequence[data.Problem]) -> list[ImageFinding]:
    """Return what is doubtful in images and classes, before any network has seen them.

    Args:
        known: the images.
        problems: what `data.load` noted.
    """
    return [*_counts(known), *_noted(problems), *_quality(known), *_shortcuts(known)]


def _counts(known: data.Split) -> list[ImageFinding]:
    found, counts = [], known.counts
    if known.few:
        listed = ", ".join(f"{name!r} has {n}" for name, n in known.few.items())
        found.append(
            ImageFinding(
                "few images",
                f"{listed}: fewer than {data.FEW_IMAGES}. Collect more of these first; what is measured says "
                "little of them.",
            )
        )
    if known.largest_and_smallest:
        most, least = known.largest_and_smallest
        found.append(
            ImageFinding(
                "imbalance",
                f"{most!r} has {counts[most]} images and {least!r} {counts[least]}. Classes are weighted "
                "alike when training, and the score is the balanced accuracy: every class counts the same.",
            )
        )
    copies = [group for group, n in Counter(known.groups).items() if n > 1]
    if copies:
        first = [known.paths[known.groups.index(group)] for group in copies]
        found.append(
            ImageFinding(
                "copies",
                f"Groups of images that are copies of one picture, or were declared to belong together: "
                f"{len(copies)}. None lies on two sides of a split or of a fold.",
                first,
            )
        )
    return found


def _noted(problems: Sequence[data.Problem]) -> list[ImageFinding]:
    by_kind: dict[str, list[data.Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    return [
        ImageFinding(kind, f"{len(own)} noted when loading. First: {own[0].message}", [p.path for p in own])
        for kind, own in by_kind.items()
    ]


def _quality(known: data.Split) -> list[ImageFinding]:
    """Return what cleanvision finds."""
    if find_spec("cleanvision") is None:
        return [
            ImageFinding(
                "not checked",
                "Dark, blurred, odd-sized and empty images were not looked for: that takes cleanvision, "
                "pip install 'tlutils[advisor]'.",
            )
        ]
    # It has progress bars of its own, on stderr and, in a notebook, as a widget.
    with warnings.catch_warnings(), capture_output(stdout=False):
        warnings.simplefilter("ignore")  # of libraries that it imports
        from cleanvision import Imagelab

        files = all(path.is_file() for path in known.paths)  # and not within tar files
        paths = [str(path) for path in known.paths] if files else None
        lab = Imagelab(filepaths=paths, torchvision_dataset=None if files else known)
        lab.find_issues({kind: {} for kind in KINDS}, n_jobs=1, verbose=False)
    found = []
    for kind, words in KINDS.items():
        own = lab.issues[lab.issues[f"is_{kind}_issue"]].sort_values(f"{kind}_score")
        if kind == "grayscale" and len(own) in (0, len(known)):  # all alike
            continue
        if len(own):
            found.append(
                ImageFinding(
                    kind.replace("_", " "),
                    f"{len(own)} of {len(known)} images {words}. Look at them: are they what you want to "
                    "recognise later?",
                    [Path(place) if files else known.paths[place] for place in own.index],
                )
            )
    return found


def _shortcuts(known: data.Split) -> list[ImageFinding]:
    """Return what tells the classes apart without the thing in the middle: the border, or size and colour."""
    labels, groups = np.asarray(known.labels), np.unique(known.groups, return_inverse=True)[1]
    borders, looks = [], []
    for image, _ in runtime.progress(known, desc="shortcuts", total=len(known)):
        small = np.asarray(image.resize((SIDE, SIDE)), dtype=float)
        edge = np.concatenate([small[:BORDER].ravel(), small[-BORDER:].ravel()])
        sides = small[BORDER:-BORDER, [*range(BORDER), *range(SIDE - BORDER, SIDE)]].ravel()
        borders.append(np.concatenate([edge, sides]))
        pixels = small.reshape(-1, 3)
        looks.append([*np.log(image.size), *pixels.mean(0), *pixels.std(0)])
    found = []
    for x, what, advice in (
        (borders, "the border of the images, an eighth of the side wide,", "one background per class?"),
        (looks, "size, colour and contrast alone", "one camera or one source per class?"),
    ):
        score = _cross_validated(np.array(x), labels, groups)
        chance = 1 / len(np.unique(labels))
        if score.low > chance + (1 - chance) / 2:
            found.append(
                ImageFinding(
                    "shortcut",
                    f"A linear classifier that sees {what} has a balanced accuracy of {score} "
                    f"({chance:.2f} is chance): {advice} Then a network may learn that, and fail elsewhere. "
                    "Take pictures of every class in the same places.",
                )
            )
    return found


def _cross_validated(x: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Estimate:
    chances = cross_val_predict(x, labels, groups=groups, penalties=[3.0, 0.3])
    hits = np.where(np.isnan(chances).any(axis=1), np.nan, chances.argmax(axis=1) == labels)
    judged = ~np.isnan(hits)
    if not judged.any():
        return Estimate(np.nan, np.nan, np.nan)
    return wilson_interval(hits[judged], labels[judged], groups=groups[judged], level=LEVEL)


def suspect_labels(known: data.Split, probabilities: np.ndarray) -> list[ImageFinding]:
    """Return the images whose label a classifier that has not learned from them contradicts.

    Args:
        known: the images.
        probabilities: (N, C), NaN for images that were never held out.
    """
    suspects = find_label_issues(np.asarray(known.labels), probabilities)
    if not suspects:
        return []
    shown = "; ".join(
        f"{known.paths[found.row].name} is in {known.classes[found.label]!r} and looks like "
        f"{known.classes[found.suggested]!r}"
        for found in suspects[:3]
    )
    return [
        ImageFinding(
            "suspect labels",
            f"{len(suspects)} of {len(known)} labels are contradicted by a probe that never saw them: "
            f"{shown}. Look at these first; some are hard and not wrong.",
            [known.paths[found.row] for found in suspects],
        )
    ]


def inferred(known: data.Split) -> str:
    """Return a sentence on what was found in the folder: classes and counts.

    Args:
        known: the images that advice is given on.
    """
    counts = known.counts
    shown = ", ".join(f"{name} {n}" for name, n in list(counts.items())[:8])
    return (
        f"{len(known)} images of {len(counts)} classes ({shown}{', …' if len(counts) > 8 else ''}), those of "
        "train and val together; the test images stay closed."
    )
