"""Which images show one and the same picture: equal pixels, or a copy, compressed again or resized."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

THUMB = 32
"""Side in pixels of the grey thumbnails that are compared."""

NEAR = 0.3
"""A copy is at most this share as far away as the picture's 10th neighbour. Measured: photographs compressed
at quality 20 or halved stay well below; of 2,624 solar cells, all much alike, 6 % are taken for copies."""

FARTHEST = 12.0
"""No copy is farther away: root mean square difference of the thumbnails in grey levels, 0 to 255."""

CLOSEST = 1.0
"""Pictures nearer than this look alike to the noise: many copies of one, or frames of a camera that stands
still. The nearest solar cells are at 1.35."""

FLAT = 6.0
"""Thumbnails whose grey levels have a smaller standard deviation hold nothing to compare: there only equal
pixels count."""

MOST = 20_000
"""Among more images than these only equal pixels are looked for: the time grows with the square."""

_BLOCK = 256


class Copies(NamedTuple):
    """Which images show one picture: a group number for each image, and those groups that are doubtful.

    The images of a doubtful group look alike to the noise and are nevertheless taken for different pictures.
    """

    groups: list[int]
    doubtful: list[list[int]]


def find_copies(pixels: Sequence[str], thumbs: np.ndarray, labels: Sequence[str]) -> Copies:
    """Return the groups of images that show one picture.

    `pixels` are hashes of the decoded images; `thumbs` is uint8 (N, 32, 32). Time: one product of (N, 1024)
    with its transpose (seconds for 10,000 images); memory grows with N alone. Mirrored, rotated, recoloured
    and strongly cropped copies are not recognised: who knows of them says so by `group_by` of `load`.
    """
    from scipy.cluster.hierarchy import DisjointSet  # half a second that most need not wait

    groups = DisjointSet(range(len(pixels)))
    first: dict[str, int] = {}
    for i, content in enumerate(pixels):
        groups.merge(first.setdefault(content, i), i)
    # Equal pixels are one point, so that many copies do not hide in each other's neighbourhood.
    unique = np.array(sorted(first.values()), dtype=int)
    doubtful = []
    if len(unique) <= MOST:
        near, alike = _find_near_copies(thumbs[unique])
        for i, j in unique[near]:
            groups.merge(int(i), int(j))
        pictures: dict[str, set[int]] = defaultdict(set)
        for i, label in enumerate(labels):
            pictures[label].add(groups[i])
        for members, isolated in alike:
            found = {groups[i] for i in unique[members]}
            (label, *others) = {labels[i] for i in unique[members]}
            if len(found) < 2:
                continue
            # Copies have one label, nothing else is like them, and their class has other pictures: three at
            # least, one for each split.
            if isolated and not others and len(pictures[label] - found) >= 2:
                pictures[label] -= found - {min(found)}
                for i in found:
                    groups.merge(min(found), i)
            else:
                doubtful.append(sorted(int(i) for i in unique[members]))
    return Copies([groups[i] for i in range(len(pixels))], doubtful)


def _find_near_copies(thumbs: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, bool]]]:
    """Return the pairs of near-copies, (M, 2), and the sets of thumbnails that are alike to the noise.

    A near-copy is much nearer than what else is near (NEAR). Of a set that is alike it is said whether no
    other thumbnail is anywhere near.
    """
    vectors = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    spread = vectors.std(axis=1)
    rows = np.flatnonzero(spread >= FLAT)
    count = len(rows)
    if count < 2:
        return np.zeros((0, 2), int), []
    vectors, limit = vectors[rows], np.minimum(FARTHEST, spread[rows] / 4)
    vectors -= vectors.mean(axis=0)  # small numbers have small rounding errors
    # Of few images, the 3rd neighbour must do: it is still beyond two copies.
    rank = min(count - 1, max(3, min(10, count // 8)))
    squares = (vectors**2).mean(axis=1)
    distance = np.full((count, rank), np.inf, np.float32)
    nearest = np.zeros((count, rank), np.int32)
    for start in range(0, count, _BLOCK):
        block = _distances(vectors[start : start + _BLOCK], vectors, squares)
        own = np.arange(len(block))
        block[own, start + own] = np.inf
        found = np.argpartition(block, rank - 1, axis=1)[:, :rank]
        nearest[start : start + _BLOCK] = found
        distance[start : start + _BLOCK] = np.take_along_axis(block, found, axis=1)
    typical = distance.max(axis=1)
    i, j = np.repeat(np.arange(count), rank), nearest.ravel()
    apart = distance.ravel()
    close = apart <= np.minimum(limit[i], limit[j])
    scale = np.minimum(typical[i], typical[j])
    # Where even the 10th neighbour is alike to the noise, a share of its distance is noise, too.
    near = close & (apart <= NEAR * scale) & (scale >= CLOSEST)
    from scipy.cluster.hierarchy import DisjointSet

    alike = DisjointSet(range(count))
    for a, b in zip(i[close & (apart <= CLOSEST)], j[close & (apart <= CLOSEST)], strict=True):
        alike.merge(int(a), int(b))
    sets = [np.array(sorted(members)) for members in alike.subsets() if len(members) > 1]
    pairs = np.stack([rows[i[near]], rows[j[near]]], axis=1)
    isolated = _isolated(vectors, squares, sets)
    return pairs, [(rows[members], alone) for members, alone in zip(sets, isolated, strict=True)]


def _distances(some: np.ndarray, vectors: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the root mean square difference of each of some vectors to each of all, (M, N).

    `squares` are the mean squares of all.
    """
    found = some @ vectors.T * (-2 / vectors.shape[1])
    found += (some**2).mean(axis=1)[:, None]
    found += squares
    return np.sqrt(np.maximum(found, 0, out=found), out=found)


def _isolated(vectors: np.ndarray, squares: np.ndarray, sets: Sequence[np.ndarray]) -> list[bool]:
    """Return for each set whether all other vectors are far from its middle, beside its own noise."""
    isolated = []
    for start in range(0, len(sets), _BLOCK):
        some = sets[start : start + _BLOCK]
        middles = np.stack([vectors[members].mean(axis=0) for members in some])
        distance = _distances(middles, vectors, squares)
        for k, members in enumerate(some):
            distance[k, members] = np.inf
        isolated += (distance.min(axis=1) > CLOSEST / NEAR).tolist()
    return isolated


def list_copies(groups: Sequence[int]) -> list[list[int]]:
    """Return the groups with more than one member, each as a list of positions."""
    found: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        found[group].append(i)
    return [group for group in found.values() if len(group) > 1]
