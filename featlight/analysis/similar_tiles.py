"""Similar tiles of a layer by their mean activation vectors: nearest neighbors, clusters and an embedding."""

import warnings
from importlib.util import find_spec
from math import ceil, sqrt
from typing import Any, Literal, NamedTuple

import numpy as np

PAIRS = 1 << 20  # kept per layer: all pairs of up to 1,024 tiles; the viewer needs 4 MB for them
FEWEST_NEIGHBORS = 64  # neighbors of each tile in layers of any size
BLOCK = 1 << 22  # cosines per matrix product: a tiles x tiles matrix would not fit the cache, or the memory
SMALL, LARGE = 1e-12, 1e12  # values whose squares, summed over a row, stay in the range of float32
WIDE, GROUP = 16384, 16  # row length above which groups of columns are searched first, and largest group


def neighbors_kept(count: int) -> int:
    """Return the number of neighbors that the viewer keeps for each of so many tiles."""
    return min(count - 1, max(FEWEST_NEIGHBORS, PAIRS // max(count, 1)))


def unit_rows(vectors: "np.ndarray[Any, Any]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Return the indices of the finite rows, (N,), and these rows as unit vectors, (N, features), float32."""
    finite = np.flatnonzero(np.isfinite(vectors).all(1))
    rows = vectors[finite].astype(np.float32)
    largest = np.maximum(rows.max(1, initial=0), -rows.min(1, initial=0))  # (N,)
    extreme = (largest > LARGE) | ((largest > 0) & (largest < SMALL))
    rows[extreme] /= largest[extreme, None]
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return finite, rows


def nearest_tiles(vectors: "np.ndarray[Any, Any]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Return the nearest other tiles of each tile, nearest first.

    Args:
        vectors: mean activations, (tiles, features); a row with NaN has no neighbors and is no neighbor.

    Returns:
        Rows of the neighbors, (tiles, K), int64, padded with -1, and their cosines, (tiles, K), float32, padded with
        NaN. K is `neighbors_kept(tiles)`.
    """
    count = len(vectors)
    kept = neighbors_kept(count)
    rows = np.full((count, kept), -1, np.int64)
    cosines = np.full((count, kept), np.nan, np.float32)
    finite, directions = unit_rows(vectors)
    width = min(kept, len(finite) - 1)
    if width < 1:
        return rows, cosines
    size = max(1, BLOCK // len(finite))  # rows per block
    for start in range(0, len(finite), size):
        block = directions[start : start + size] @ directions.T  # (size, finite rows)
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        best = _largest_by_groups(block, width) if block.shape[1] > WIDE else _largest(block, width)
        rows[finite[start : start + size], :width] = finite[best]
        cosines[finite[start : start + size], :width] = np.take_along_axis(block, best, 1)
    return rows, cosines


def _largest(block: "np.ndarray[Any, Any]", width: int) -> "np.ndarray[Any, Any]":
    """Return the columns of each row's largest values, largest first, (rows, width)."""
    if width < block.shape[1] - 1:
        candidates = np.argpartition(-block, width - 1, axis=1)[:, :width]
    else:
        candidates = np.broadcast_to(np.arange(block.shape[1]), block.shape)
    order = np.argsort(-np.take_along_axis(block, candidates, 1), axis=1, kind="stable")[:, :width]
    return np.take_along_axis(candidates, order, 1)


def _largest_by_groups(block: "np.ndarray[Any, Any]", width: int) -> "np.ndarray[Any, Any]":
    """Return what `_largest` returns, faster for very long rows.

    The `width` largest values of a row lie in the `width` groups of columns with the largest maxima.
    """
    rows, columns = block.shape
    group_size = max(1, min(GROUP, columns // (2 * width)))
    groups = columns // group_size  # column c is in group c % groups; remaining columns are always candidates
    maxima = block[:, : group_size * groups].reshape(rows, group_size, groups).max(1)
    largest = np.argpartition(-maxima, width - 1, axis=1)[:, :width]
    members = (largest[:, None] + groups * np.arange(group_size)[:, None]).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(group_size * groups, columns), (rows, columns - group_size * groups))
    candidates = np.sort(np.concatenate([members, rest], axis=1), axis=1)
    best = _largest(np.take_along_axis(block, candidates, 1), width)
    return np.take_along_axis(candidates, best, 1)


Method = Literal["umap", "pca"]
FEWEST = 4  # distinct rows that a projection needs
UMAP_NEIGHBORS = 15  # UMAP's default
MOST_CLUSTERS = 40  # default limit: more colors cannot be told apart
STARTS, MANY_ROWS = 10, 4096  # k-means takes the best of several starts, or one start above so many rows
MOST_ROUNDS = 100  # of k-means; later rounds move few rows
SEED = 0  # of UMAP and of k-means
CELLS_PER_POINT = 1.7  # of the grid: free cells keep gaps between groups visible
ASPECT_RATIO = 1.5  # of the grid, width to height


class Projection(NamedTuple):
    """Rows projected to the plane.

    Args:
        places: x and y of each row, (N, 2), float64.
        description: method and its parameters.
    """

    places: "np.ndarray[Any, Any]"
    description: str


class GridLayout(NamedTuple):
    """Points assigned to cells of a grid.

    Args:
        columns: number of columns.
        rows: number of rows.
        places: cell of each point in reading order from 0, (N,), int64.
    """

    columns: int
    rows: int
    places: "np.ndarray[Any, Any]"


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return find_spec("umap") is not None


def can_project(rows: "np.ndarray[Any, Any]") -> bool:
    """Whether a projection shows anything: at least four distinct rows of two or more features."""
    return rows.shape[1] > 1 and len(np.unique(rows, axis=0)) >= FEWEST


def project(rows: "np.ndarray[Any, Any]", method: Method) -> Projection:
    """Project rows to the plane.

    Args:
        rows: distinct unit vectors, (N, features).
        method: "pca" shows the two directions of largest variance; "umap" keeps neighbors together.
    """
    return _umap(rows) if method == "umap" else _pca(rows)


def _pca(rows: "np.ndarray[Any, Any]") -> Projection:
    centered = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    by_feature = len(rows) >= rows.shape[1]
    square = centered.T @ centered if by_feature else centered @ centered.T  # the smaller one: same eigenvalues
    values, vectors = np.linalg.eigh(square)  # ascending
    values, vectors = values[:-3:-1], vectors[:, :-3:-1]
    places = centered @ vectors if by_feature else vectors * np.sqrt(np.maximum(values, 0))
    strongest = places[np.abs(places).argmax(0), [0, 1]]
    places *= np.sign(strongest)  # an eigenvector's sign is arbitrary
    return Projection(places, f"PCA, two components with {values.sum() / square.trace():.0%} of the variance")


def _umap(rows: "np.ndarray[Any, Any]") -> Projection:
    neighbors = min(UMAP_NEIGHBORS, len(rows) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP warns that TensorFlow is missing
        from umap import UMAP

        # a seed makes runs repeatable only with one thread
        model = UMAP(n_neighbors=neighbors, metric="cosine", init="pca", random_state=SEED, n_jobs=1)
        places = model.fit_transform(rows).astype(np.float64)
    return Projection(places, f"UMAP, {neighbors} neighbors")


def default_clusters(count: int) -> int:
    """Return the default number of clusters of so many rows: the root of half their number, from 2 to 40."""
    return min(MOST_CLUSTERS, max(2, round(sqrt(count / 2))))


def cluster(rows: "np.ndarray[Any, Any]", count: int) -> "np.ndarray[Any, Any]":
    """Cluster rows by k-means.

    Args:
        rows: unit vectors, (N, features).
        count: number of clusters; the result has fewer if there are fewer distinct rows.

    Returns:
        Number of each row's cluster, from 1 in order of falling size, (N,), int64.
    """
    generator = np.random.default_rng(SEED)
    starts = STARTS if len(rows) <= MANY_ROWS else 1
    _, nearest = min((_k_means(rows, count, generator) for _ in range(starts)), key=lambda result: result[0])
    used, index = np.unique(nearest, return_inverse=True)  # some clusters may be empty
    number = np.empty(len(used), np.int64)
    number[np.argsort(-np.bincount(index), kind="stable")] = np.arange(1, len(used) + 1)
    numbers: np.ndarray[Any, Any] = number[index]
    return numbers


def _k_means(
    rows: "np.ndarray[Any, Any]", count: int, generator: np.random.Generator
) -> "tuple[float, np.ndarray[Any, Any]]":
    """Run Lloyd's algorithm; return the sum of squared distances and the index of each row's mean, (N,), int64."""
    means = _initial_means(rows, count, generator)
    nearest = np.full(len(rows), -1)
    for _ in range(MOST_ROUNDS):
        distances = 1 + (means**2).sum(1) - 2 * rows @ means.T  # (N, means), squared, for unit rows
        before, nearest = nearest, distances.argmin(1)
        if (nearest == before).all():
            break
        order = np.argsort(nearest, kind="stable")
        used, first, sizes = np.unique(nearest[order], return_index=True, return_counts=True)
        means[used] = np.add.reduceat(rows[order], first) / sizes[:, None]
    return float(distances.min(1).sum()), nearest


def _initial_means(rows: "np.ndarray[Any, Any]", count: int, generator: np.random.Generator) -> "np.ndarray[Any, Any]":
    """Draw distinct rows by k-means++: each with a probability proportional to its squared distance to earlier ones."""
    chosen = [int(generator.integers(len(rows)))]
    distances = np.full(len(rows), np.inf)
    while len(chosen) < count:
        distances = np.minimum(distances, ((rows - rows[chosen[-1]]) ** 2).sum(1, dtype=np.float64))
        if not distances.any():
            break  # every distinct row is chosen
        chosen.append(int(generator.choice(len(rows), p=distances / distances.sum())))
    return rows[chosen].copy()


def grid_size(count: int) -> tuple[int, int]:
    """Return columns and rows of the grid for so many points."""
    columns = ceil(sqrt(CELLS_PER_POINT * count * ASPECT_RATIO))
    return columns, ceil(CELLS_PER_POINT * count / columns)


def assign_to_grid(points: "np.ndarray[Any, Any]") -> GridLayout:
    """Assign each point to the nearest free cell; points near the median choose first.

    Args:
        points: x and y, (N, 2); each axis is stretched to the grid.
    """
    columns, rows = grid_size(len(points))
    low, high = points.min(0), points.max(0)
    span = np.where(high > low, high - low, 1.0)
    wanted = (points - low) / span * [columns - 1, rows - 1]
    free = np.ones((rows, columns), bool)
    places = np.empty(len(points), np.int64)
    for i in np.argsort(((wanted - np.median(wanted, 0)) ** 2).sum(1), kind="stable"):
        row, column = _nearest_free(free, wanted[i])
        free[row, column] = False
        places[i] = row * columns + column
    return GridLayout(columns, rows, places)


def _nearest_free(free: "np.ndarray[Any, Any]", wanted: "np.ndarray[Any, Any]") -> tuple[int, int]:
    """Return row and column of the free cell nearest to a point, found in growing windows around it."""
    column, row = wanted
    radius = 1
    while True:
        top, left = max(0, int(row) - radius), max(0, int(column) - radius)
        window = free[top : int(row) + radius + 2, left : int(column) + radius + 2]
        down, across = np.nonzero(window)
        if len(down):
            distance = (down + top - row) ** 2 + (across + left - column) ** 2
            best = int(distance.argmin())
            # no cell outside the window is nearer than its radius
            if distance[best] <= radius**2 or window.size == free.size:
                return int(down[best]) + top, int(across[best]) + left
        radius *= 2
