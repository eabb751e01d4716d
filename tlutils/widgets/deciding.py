"""An explorer of the decision matrix: a place in it, what tables advise there, and what was measured."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from .. import claims, plots, transferability
from ..errors import LearnerError
from .base import Explorer, option_slider

TABLES = {"lecture": "Recent lecture", "slides": "Older slides", "notes": "Course notes"}
DISTANCES = [round(0.01 * k, 2) for k in range(51)]
IMAGES = [2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000]
LEVELS = ("little", "lots")


def explore_decision_matrix(
    known: claims.Evidence | None = None, *, distance: float = 0.2, images: int = 50
) -> Explorer:
    """Return an explorer of the decision matrix: where your images lie, what the tables advise, what holds.

    The border between similar and different lies halfway between the measured data sets of the two kinds;
    there are lots of images from `claims.MANY` on.

    Args:
        known: The runs that the claims are judged by, of `claims.reproduce`; the committed ones unless given.
        distance: Where to begin: a distance from ImageNet, of `transferability.domain_distance` on 96 pixels.
        images: How many images to begin with, of all classes together.

    Raises:
        LearnerError: If the distance is below 0, there are no images, or runs are missing.

    Example:
        >>> from tlutils import widgets
        >>> explorer = widgets.explore_decision_matrix(distance=0.3, images=50)
        >>> explorer.screen.message[:57]
        'Distance 0.30, 50 images: little (below 200), different.'
    """
    if not (math.isfinite(distance) and distance >= 0 and images >= 1):
        raise LearnerError(
            f"distance={distance}, images={images}. Expected a distance of 0 or more and at least 1 image."
        )
    sets, border, scores, found = _committed() if known is None else _study(known)

    def draw(distance: float, images: int) -> plots.Picture:
        name = min(sets, key=lambda name: abs(sets[name][0] - distance))
        kind = "similar" if distance < border else "different"
        many = claims.is_many(images)
        level, amount = LEVELS[many], f"{claims.MANY} or more" if many else f"below {claims.MANY}"
        own = scores[level, name]
        best = max(own, key=lambda strategy: own[strategy][0])
        rows = [
            (who, v)
            for key, who in TABLES.items()
            for id, v in found.items()
            if id.startswith(f"{key}-{level}-{kind}")
        ]
        near, number = sets[name][0], sets[name][1][level]
        words = [
            f"Distance {distance:.2f}, {images} images: {level} ({amount}), {kind}.",
            *(f"{who}: “{v.claim.says}” Measured: {v.verdict}." for who, v in rows),
            f"Nearest measured: {name}, distance {near:.2f}, {number} images; the best mean there is "
            f"{plots.NAMES[best]}, {own[best][0]:.2f} ({own[best][1]:.2f} to {own[best][2]:.2f}).",
        ]
        if abs(near - distance) > 0.05:
            words.append("No data set was measured near this distance: take this with care.")
        return plots.explorers.matrix_place(
            {key: (far, list(own.values())) for key, (far, own) in sets.items()},
            (distance, images),
            (name, number),
            own,
            [(f"{who}: {v.claim.says} {v.verdict.capitalize()}.", v.verdict) for who, v in rows],
            borders=(border, claims.MANY),
            title=f"{level.capitalize()}, {kind}: what three tables advise, and what was measured",
            alt=" ".join(words),
        )

    note = "where images lie in the decision matrix, what three tables advise there, and what was measured"
    return Explorer(
        "Decision matrix",
        draw,
        note=note,
        distance=option_slider(
            "distance", [(f"{d:.2f}", d) for d in DISTANCES], _nearest(DISTANCES, distance)
        ),
        images=option_slider("images", IMAGES, _nearest(IMAGES, images)),
    )


def _study(known: claims.Evidence) -> tuple[Any, ...]:
    """Return data sets and border, as `_measured` does, what each strategy reached, and verdicts by claim."""
    found = {v.claim.id: v for v in claims.verdicts(known, only=[c.id for c in claims.MATRIX])}
    return *_measured(known.runs), claims.score_strategies(known), found


@functools.cache
def _committed() -> tuple[Any, ...]:
    return _study(claims.evidence())


def _nearest(options: list[Any], value: float) -> Any:
    return min(options, key=lambda option: abs(option - value))


def _measured(runs: pd.DataFrame) -> tuple[dict[str, tuple[float, Mapping[str, int]]], float]:
    """Return each data set's distance and images by level, and the border of similarity."""
    far = runs[runs["protocol"] == "domain_distance"]
    placed = runs["level"].isin(LEVELS) & runs["dataset"].isin((*claims.NEAR, *claims.FAR))
    sized = runs[(runs["protocol"] == "training") & placed]
    if far.empty or set(sized["level"]) != set(LEVELS):
        raise LearnerError(
            "This table lacks runs of domain_distance or of training with little and with lots. Expected the "
            "table of all claims: claims.reproduce(), or claims.evidence()."
        )
    distances = far.groupby("dataset")["distance"].mean()
    numbers = sized.groupby(["dataset", "level"])["labels"].first().astype(int)
    sets: dict[str, tuple[float, Mapping[str, int]]] = {
        name: (float(distances[name]), {level: int(numbers[name, level]) for level in LEVELS})
        for name in dict.fromkeys(sized["dataset"])
    }
    near, far_ones = ([sets[name][0] for name in sets if name in kind] for kind in (claims.NEAR, claims.FAR))
    return sets, transferability.similarity_border(near, far_ones)
