"""Similar tiles of a layer: cosine similarity of their mean activation vectors."""

from typing import Any

import numpy as np

PAIRS = 1 << 20  # kept per layer: all pairs of up to 1,024 tiles; the viewer needs 4 MB for them
FEWEST = 64  # neighbors of each tile in layers of any size
BLOCK = 1 << 22  # cosines per matrix product: a tiles x tiles matrix would not fit the cache, or the memory
WIDE, GROUP = 16384, 16  # row length above which groups of columns are searched first, and largest group


def neighbors_kept(count: int) -> int:
    """Return the number of neighbors that the viewer keeps for each of so many tiles."""
    return min(count - 1, max(FEWEST, PAIRS // max(count, 1)))


def unit_rows(vectors: "np.ndarray[Any, Any]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Return the indices of the finite rows, (N,), and these rows as unit vectors, (N, features), float32."""
    finite = np.flatnonzero(np.isfinite(vectors).all(1))
    rows = vectors[finite].astype(np.float32)
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
