"""Who goes where: train, validation and test, by seed, balanced over the classes, sharing no picture."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from ..errors import LearnerError

NAMES = ("train", "val", "test")

SHARES = {"val": 0.2, "test": 0.2}
"""Share of each class that goes to validation and to test; the rest is for training."""


def partition(
    strata: Sequence[Hashable],
    groups: Sequence[Hashable],
    *,
    seed: int,
    wanted: Sequence[str] = ("val", "test"),
    too_few: str = "error",
) -> list[str]:
    """Return "train", "val" or "test" for each image, so that no group is on two sides.

    `strata` are the classes (or finer kinds) that every split shall hold in the same shares, named by what
    `str` gives; `groups` says which images are one picture. `wanted` are the splits to carve out of train.
    Within a stratum the groups with most copies stay in train, so that the images a result is measured on
    count once. The outcome depends on the seed and the order of the images alone. Raises LearnerError for a
    stratum with fewer groups than splits; with `too_few="train"` its images stay in train.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    by_stratum: dict[Hashable, list[list[int]]] = defaultdict(list)
    for indices in members.values():
        # A picture that stands under two labels is dealt out once, with the label it bears most often.
        by_stratum[Counter(strata[i] for i in indices).most_common(1)[0][0]].append(indices)

    sides = ["train"] * len(strata)
    sizes = Counter(strata)
    for number, stratum in enumerate(dict.fromkeys(strata)):
        own = by_stratum[stratum]
        if len(own) <= len(wanted):
            if too_few == "train":
                continue
            raise _too_few(stratum, sizes[stratum], len(own), wanted)
        order = np.random.default_rng([seed, number]).permutation(len(own))
        queue = sorted((own[i] for i in order), key=len)
        total = sum(map(len, queue))
        for side in wanted:
            target, taken = SHARES[side] * total, 0
            # Each later split, and train, still gets a picture of its own.
            spare = len(queue) - (len(wanted) - wanted.index(side))
            while queue and (taken == 0 or (taken + len(queue[0]) / 2 <= target and spare > 0)):
                for i in queue[0]:
                    sides[i] = side
                taken += len(queue.pop(0))
                spare -= 1
    return sides


def _too_few(stratum: Hashable, images: int, pictures: int, wanted: Sequence[str]) -> LearnerError:
    count = f"{images} image{'s' * (images != 1)}"
    if pictures < images:
        count += f" (copies of {pictures} picture{'s' * (pictures != 1)}, or also found in another class)"
    return LearnerError(
        f"Class {str(stratum)!r} has {count}: too few for train, {' and '.join(wanted)}, which need "
        f"{len(wanted) + 1} different pictures of every class. Add images, leave the class out, or pass "
        'too_few="train" to keep them all in train, where no result is measured on them.'
    )
