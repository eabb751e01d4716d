"""Who goes where: train, validation and test, by seed, balanced over the classes, sharing no picture."""

import hashlib
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
    known: Sequence[str] = (),
    names: Sequence[str] = (),
) -> list[str]:
    """Return "train", "val" or "test" for each image, so that no group is on two sides.

    `strata` are the classes (or finer kinds) that every split is to have in the same shares, named by what
    `str` gives; `groups` says which images are one picture. `wanted` are the splits to carve out of train.
    Within a stratum the groups with most copies stay in train, so that the images a result is measured on
    count once. The outcome depends on the seed and the order of the images alone, or with `names`, which tell
    images apart, on seed and names: then one image more or less changes little. It depends, too, on `known`:
    where each image is already, or "". Those stay, and new ones are dealt out to bring the shares back; a
    group of several sides goes to the first of train, val, test. Only a stratum without a new group for a
    split that has none is dealt out again. Raises LearnerError for a stratum with fewer groups than splits;
    with `too_few="train"` its images stay in train.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    sizes, pictures = Counter(strata), Counter[Hashable]()
    by_stratum: dict[Hashable, list[list[int]]] = defaultdict(list)
    for indices in members.values():
        held = dict.fromkeys(strata[i] for i in indices)
        pictures.update(list(held))
        # A group with several labels is dealt out once, as one of the rarest, which has least to spare.
        by_stratum[min(held, key=lambda stratum: sizes[stratum])].append(indices)

    sides = ["train"] * len(strata)
    for number, stratum in enumerate(dict.fromkeys(strata)):
        if pictures[stratum] <= len(wanted) and too_few == "error":
            raise _too_few(stratum, sizes[stratum], pictures[stratum], wanted)
        own = by_stratum[stratum]
        if len(own) <= len(wanted):
            continue
        if names:
            own.sort(key=lambda group: _draw(seed, min(names[i] for i in group)))
        else:
            own = [own[i] for i in np.random.default_rng([seed % 2**32, number]).permutation(len(own))]
        queue = sorted(own, key=len)
        if not (known and _deal(queue, wanted, sides, known)):
            _deal(queue, wanted, sides, [""] * len(strata))
    if too_few == "error":
        _check_presence(strata, sides, wanted)
    return sides


def _draw(seed: int, name: str) -> str:
    """Return digits that look random and follow from seed and name alone."""
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogatepass")).hexdigest()


def _deal(queue: list[list[int]], wanted: Sequence[str], sides: list[str], known: Sequence[str]) -> bool:
    """Write into `sides` where the groups of one stratum go; return whether every side got one at least."""
    placed: dict[str, list[list[int]]] = defaultdict(list)
    for group in queue:
        placed[min((known[i] for i in group if known[i]), key=NAMES.index, default="")].append(group)
    fresh, total = placed.pop("", []), sum(map(len, queue))
    for k, side in enumerate(wanted):
        target, taken = SHARES[side] * total, sum(map(len, placed[side]))
        later = sum(not placed[other] for other in ("train", *wanted[k + 1 :]))  # each of them still gets one
        while len(fresh) > later:
            if taken and taken + len(fresh[0]) / 2 > target:
                break
            placed[side].append(fresh.pop(0))
            taken += len(placed[side][-1])
    placed["train"] += fresh
    for side in ("train", *wanted):
        for i in (i for group in placed[side] for i in group):
            sides[i] = side
    return all(placed[side] for side in ("train", *wanted))


def _check_presence(strata: Sequence[Hashable], sides: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise LearnerError where groups that span classes left one of them out of a split."""
    present = set(zip(strata, sides, strict=True))
    for stratum in dict.fromkeys(strata):
        for side in ("train", *wanted):
            if (stratum, side) not in present:
                raise LearnerError(
                    f"The groups leave {side} without an image of class {str(stratum)!r}: all are tied "
                    "to those of other classes. Use smaller groups, or pass too_few='train' to allow a split "
                    "without it."
                )


def _too_few(stratum: Hashable, images: int, pictures: int, wanted: Sequence[str]) -> LearnerError:
    count = f"{images} image{'s' * (images != 1)}"
    if pictures < images:
        count += f", in {pictures} group{'s' * (pictures != 1)} of copies or of images that belong together"
        count += ' (copies="equal" takes only equal pixels for copies)'
    return LearnerError(
        f"Class {str(stratum)!r} has {count}: too few for train, {' and '.join(wanted)}, which need "
        f"{len(wanted) + 1} different pictures of every class. Add images, leave the class out, or pass "
        'too_few="train" to keep them all in train, where no result is measured on them.'
    )
