"""Which tiles of a layer are alike: the cosine of their vectors of mean activations."""

from typing import Any

import numpy as np

PAIRS = 1 << 20  # kept for a layer: all pairs up to 1,024 tiles, 4 MB as the viewer keeps them
FEWEST = 64  # neighbours of each tile, whatever the layer's size
BLOCK = 1024  # rows at a time, so that no tiles x tiles matrix is held
WIDE, SAMPLED = 16384, 16  # tiles of a layer whose rows are sampled first, every so many


def neighbours_kept(count: int) -> int:
    """How many neighbours of each of so many tiles the viewer keeps."""
    return min(count - 1, max(FEWEST, PAIRS // max(count, 1)))


def unit_rows(vectors: "np.ndarray[Any, Any]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """The rows without NaN, by number, (N,), and each of them at length 1, (N, features) float32: dots are cosines."""
    there = np.flatnonzero(np.isfinite(vectors).all(1))
    rows = vectors[there].astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return there, rows


def nearest_tiles(vectors: "np.ndarray[Any, Any]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Each tile's nearest other tiles, the nearest first.

    Args:
        vectors: mean activations, (tiles, features); a row with NaN has no neighbours and is nobody's.

    Returns:
        Rows of the neighbours, (tiles, K) int64, and their cosines, (tiles, K) float32; -1 and NaN where there is
        none. K is all others up to 1,024 tiles, then fewer, never under 64.
    """
    count = len(vectors)
    kept = neighbours_kept(count)
    rows = np.full((count, kept), -1, np.int64)
    cosines = np.full((count, kept), np.nan, np.float32)
    there, directions = unit_rows(vectors)
    width = min(kept, len(there) - 1)
    if width < 1:
        return rows, cosines
    for start in range(0, len(there), BLOCK):
        block = directions[start : start + BLOCK] @ directions.T  # (block, tiles that are there)
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        best = _above(block, width) if block.shape[1] > WIDE else _partitioned(block, width)
        rows[there[start : start + BLOCK], :width] = there[best]
        cosines[there[start : start + BLOCK], :width] = np.take_along_axis(block, best, 1)
    return rows, cosines


def _partitioned(block: "np.ndarray[Any, Any]", width: int) -> "np.ndarray[Any, Any]":
    """Columns of the largest numbers of each row, the largest first, (rows, width)."""
    if width < block.shape[1] - 1:
        some = np.argpartition(-block, width - 1, axis=1)[:, :width]
    else:
        some = np.broadcast_to(np.arange(block.shape[1]), block.shape)
    order = np.argsort(-np.take_along_axis(block, some, 1), axis=1, kind="stable")[:, :width]
    return np.take_along_axis(some, order, 1)


def _above(block: "np.ndarray[Any, Any]", width: int) -> "np.ndarray[Any, Any]":
    """The same of very long rows, in a third of the time: only what a sample of the row does not rule out is sorted."""
    sample = block[:, :: max(1, min(SAMPLED, block.shape[1] // (2 * width)))]
    least = np.partition(sample, sample.shape[1] - width, axis=1)[:, sample.shape[1] - width]  # (rows,)
    rows, columns = np.nonzero(block >= least[:, None])
    order = np.lexsort((-block[rows, columns], rows))
    first = np.searchsorted(rows, np.arange(len(block)))  # of each row's own among them
    found: np.ndarray[Any, Any] = columns[order[first[:, None] + np.arange(width)]]
    return found
