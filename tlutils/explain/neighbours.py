"""Which images are similar, for a network and for you? Nearest neighbours and maps of images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import LearnerError
from ..features import check_rows


def as_features(values: ArrayLike | Tensor) -> np.ndarray:
    """Return features or pixels (N, …) as a matrix (N, D); LearnerError if it is empty or not finite."""
    array = values if isinstance(values, Tensor) else np.asarray(values)
    return check_rows(array.reshape(len(array), -1) if array.ndim > 2 and len(array) else array)


def nearest(
    features: ArrayLike | Tensor,
    queries: ArrayLike | Tensor | None = None,
    *,
    n_neighbors: int = 5,
    metric: str = "euclidean",
) -> tuple[np.ndarray, np.ndarray]:
    """Return (distances, indices), both (Q, n_neighbors), of what is nearest to each query, nearest first.

    Args:
        features: Features (N, D), or images (N, C, H, W) for distances between pixels.
        queries: Features (Q, D) or images of the same kind. Without them every row of `features` is a query,
            and is not its own neighbour.
        n_neighbors: How many neighbours are found for each query.
        metric: As in scikit-learn's `NearestNeighbors`: "euclidean", "cosine", …

    Raises:
        LearnerError: If features and queries have different lengths, are not finite, or there are too few.

    Example:
        >>> from tlutils import explain
        >>> explain.nearest([[0.0], [1.0], [5.0]], n_neighbors=1)[1].ravel().tolist()
        [1, 0, 1]
    """
    from sklearn.neighbors import NearestNeighbors

    known = as_features(features)
    asking = None if queries is None else as_features(queries)
    if asking is not None and asking.shape[1] != known.shape[1]:
        raise LearnerError(
            f"Queries have {asking.shape[1]} values each and the features {known.shape[1]}. Take both from "
            "the same stage, at the same image size."
        )
    most = len(known) - (asking is None)
    if not 1 <= n_neighbors <= most:
        raise LearnerError(
            f"n_neighbors={n_neighbors}. With {len(known)} images there can be 1 to {most} neighbours."
        )
    found: tuple[np.ndarray, np.ndarray]
    found = NearestNeighbors(n_neighbors=n_neighbors, metric=metric).fit(known).kneighbors(asking)
    return found


@dataclass(frozen=True)
class EmbeddingMap:
    """Where each image is in the plane, and in a grid with one image per cell.

    Attributes:
        points: Places in the plane (N, 2), in [0, 1].
        cells: (row, column) in the grid (N, 2).
        shape: How many rows and columns the grid has.
    """

    points: np.ndarray
    cells: np.ndarray
    shape: tuple[int, int]

    def mosaic(self, images: Tensor) -> Tensor:
        """Return one picture (C, rows·h, columns·w), white but for each image in its cell.

        Args:
            images: A tensor (N, C, h, w) in [0, 1].

        Raises:
            LearnerError: If there are not as many images as were placed.
        """
        if len(images) != len(self.cells):
            raise LearnerError(f"This map places {len(self.cells)} images, and {len(images)} arrived.")
        channels, height, width = images.shape[1:]
        picture = images.new_ones(channels, self.shape[0] * height, self.shape[1] * width)
        for image, (row, column) in zip(images, self.cells, strict=True):
            picture[:, row * height : (row + 1) * height, column * width : (column + 1) * width] = image
        return picture


def embedding_map(
    features: ArrayLike | Tensor,
    *,
    method: str = "tsne",
    perplexity: float | None = None,
    seed: int = 0,
) -> EmbeddingMap:
    """Return images laid out in the plane by their features, and in a nearly square grid, one in each cell.

    The grid moves the points as little as possible in total (an optimal assignment).

    Args:
        features: Features (N, D), N ≥ 4.
        method: "pca" (the two directions of largest variance) or "tsne" (van der Maaten and Hinton 2008:
            keeps neighbours; distances between far groups mean little).
        perplexity: t-SNE's number of neighbours, 30 unless given, and less for few images.
        seed: Of t-SNE.

    Returns:
        The `points` (N, 2) in [0, 1], the `cells` (N, 2) as (row, column), the grid's `shape`, and
        `mosaic(images)`, which makes one picture of them.

    Raises:
        LearnerError: If there is no such method, or fewer than 4 images.

    Example:
        >>> import numpy as np
        >>> from tlutils import explain
        >>> explain.embedding_map(np.random.rand(9, 5), method="pca").shape
        (3, 3)
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    matrix = as_features(features)
    count = len(matrix)
    if method not in ("pca", "tsne"):
        raise LearnerError(f"method={method!r}. Expected 'pca' or 'tsne'.")
    if count < 4:
        raise LearnerError(f"{count} images arrived. A map needs at least 4.")
    if method == "pca" or matrix.shape[1] < 2:
        flat = PCA(min(2, matrix.shape[1]), random_state=seed).fit_transform(matrix)
        flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    else:
        perplexity = min(30.0, (count - 1) / 3) if perplexity is None else perplexity
        flat = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(matrix)
    span = np.ptp(flat, axis=0)
    points = (flat - flat.min(0)) / np.where(span > 0, span, 1)
    columns = int(np.ceil(np.sqrt(count)))
    rows = int(np.ceil(count / columns))
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    # A point's first coordinate runs along the columns, its second upwards, as on a scatter plot.
    places = np.stack([(grid[:, 1] + 0.5) / columns, 1 - (grid[:, 0] + 0.5) / rows], 1)
    _, chosen = linear_sum_assignment(cdist(points, places, "sqeuclidean"))
    return EmbeddingMap(points, grid[chosen], (rows, columns))
