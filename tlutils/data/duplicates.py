"""Which images show one and the same picture: equal pixels, or a copy, compressed again or resized."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

THUMB = 32
"""Side in pixels of the grey thumbnails that are compared."""

NEAR = 0.3
"""A copy is at most this share as far away as the picture's 10th neighbour. Measured: photographs compressed
at quality 20 or halved stay well below; of 2,624 solar cells, all much alike, 6 % are taken for copies."""

FARTHEST = 12.0
"""No copy is farther away: root mean square difference of the thumbnails in grey levels, 0 to 255."""

CLOSEST = 1.0
"""Pictures nearer than this are copies whatever the others look like; the nearest solar cells are at 1.35."""

FLAT = 6.0
"""Thumbnails whose grey levels have a smaller standard deviation hold nothing to compare: there only equal
pixels count."""

MOST = 20_000
"""Among more images than these only equal pixels are looked for: the cost grows with the square."""

_BLOCK = 1024


def group_copies(pixels: Sequence[str], thumbs: np.ndarray) -> list[int]:
    """Return a group number for each image, equal for images of one picture.

    `pixels` are hashes of the decoded images; `thumbs` is uint8 (N, 32, 32). Cost: one product of (N, 1024)
    with its transpose, in blocks (seconds for 10,000 images). Mirrored, rotated, recoloured and strongly
    cropped copies are not recognised: where a source knows them, pass them as `groups` to `load`.
    """
    groups = DisjointSet(range(len(pixels)))
    first: dict[str, int] = {}
    for i, content in enumerate(pixels):
        groups.merge(first.setdefault(content, i), i)
    # Equal pixels are one point, so that many copies do not hide in each other's neighbourhood.
    unique = np.array(sorted(first.values()), dtype=int)
    if len(unique) <= MOST:
        for i, j in _find_near_copies(thumbs[unique]):
            groups.merge(int(unique[i]), int(unique[j]))
    return [groups[i] for i in range(len(pixels))]


def _find_near_copies(thumbs: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of thumbnails that are near-copies of each other."""
    vectors = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    spread = vectors.std(axis=1)
    rows = np.flatnonzero(spread >= FLAT)
    count = len(rows)
    if count < 2:
        return []
    vectors, spread = vectors[rows], spread[rows]
    squares = (vectors**2).mean(axis=1)
    # Of few images, the 3rd neighbour must do: it is still beyond two copies.
    rank = min(count - 1, max(3, min(10, count // 8)))
    typical = np.zeros(count, np.float32)
    candidates: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        products = vectors[start:stop] @ vectors.T
        distances = squares[start:stop, None] + squares[None] - products * (2 / vectors.shape[1])
        distances[np.arange(stop - start), np.arange(start, stop)] = np.inf
        # Few pictures have anything near, and only those need to know their neighbourhood.
        crowded = np.flatnonzero((distances <= FARTHEST**2).any(axis=1))
        near = np.sqrt(np.maximum(distances[crowded], 0))
        typical[start + crowded] = np.partition(near, rank - 1, axis=1)[:, rank - 1]
        i, j = np.nonzero(near <= np.minimum(FARTHEST, spread[start + crowded, None] / 4))
        candidates.append((start + crowded[i], j, near[i, j]))
    pairs = []
    for i, j, distance in candidates:
        near = (i < j) & (distance <= np.minimum(FARTHEST, spread[j] / 4))
        near &= (distance <= CLOSEST) | (distance <= NEAR * np.minimum(typical[i], typical[j]))
        pairs += list(zip(rows[i[near]].tolist(), rows[j[near]].tolist(), strict=True))
    return pairs


def list_copies(groups: Sequence[int]) -> list[list[int]]:
    """Return the groups with more than one member, each as a list of positions."""
    found: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        found[group].append(i)
    return [group for group in found.values() if len(group) > 1]
