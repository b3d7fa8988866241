"""Which tiles of a layer are alike: the cosine of their vectors of mean activations."""

from typing import Any

import numpy as np

PAIRS = 1 << 20  # kept for a layer: all pairs up to 1,024 tiles, 4 MB as the viewer keeps them
FEWEST = 64  # neighbours of each tile, whatever the layer's size
BLOCK = 1 << 22  # cosines at a time: no tiles x tiles matrix is held, and what is held stays near the processor
WIDE, GROUP = 16384, 16  # tiles of a layer whose rows are sifted in groups first, and columns of a group at most


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
    size = max(1, BLOCK // len(there))  # rows at a time
    for start in range(0, len(there), size):
        block = directions[start : start + size] @ directions.T  # (size, tiles that are there)
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        best = _above(block, width) if block.shape[1] > WIDE else _partitioned(block, width)
        rows[there[start : start + size], :width] = there[best]
        cosines[there[start : start + size], :width] = np.take_along_axis(block, best, 1)
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
    """The same of very long rows, in a fraction of the time.

    Columns stand in groups. The largest numbers of a row are in as many groups at most: those with the largest maxima.
    """
    rows, columns = block.shape
    of_each = max(1, min(GROUP, columns // (2 * width)))
    groups = columns // of_each  # column c is of group c % groups; what is left over at the end is a candidate anyway
    maxima = block[:, : of_each * groups].reshape(rows, of_each, groups).max(1)
    largest = np.argpartition(-maxima, width - 1, axis=1)[:, :width]
    members = (largest[:, None] + groups * np.arange(of_each)[:, None]).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(of_each * groups, columns), (rows, columns - of_each * groups))
    candidates = np.sort(np.concatenate([members, rest], axis=1), axis=1)
    best = _partitioned(np.take_along_axis(block, candidates, 1), width)
    return np.take_along_axis(candidates, best, 1)
