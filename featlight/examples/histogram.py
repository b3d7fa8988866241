"""Histograms of each tile's activations over all images.

Bins are a quarter of an octave (a factor of 2) wide and equal for all tiles and datasets, so they suit any layer's
units without a first pass over the images, and the counts of several workers can be added.
"""

from functools import cache

import torch
from torch import Tensor

PER_OCTAVE = 4  # bins
LOWEST, HIGHEST = -8, 8  # base-2 logarithms of the smallest and the largest edge
ONE_SIDE = PER_OCTAVE * (HIGHEST - LOWEST)
BINS = 2 * ONE_SIDE + 1  # negative, around 0, positive; the outermost bins are unbounded


@cache
def edges() -> Tensor:
    """Return the edges between bins, ascending, (BINS - 1,), float64, on the CPU."""
    steps = torch.arange(ONE_SIDE, dtype=torch.float64, device="cpu") / PER_OCTAVE + LOWEST
    above = 2.0**steps
    return torch.cat([-above.flip(0), above])


def empty(tiles: int, device: torch.device) -> Tensor:
    """Return zero counts, (tiles, BINS), int32."""
    return torch.zeros(tiles, BINS, dtype=torch.int32, device=device)


def count(histogram: Tensor, values: Tensor, tiles: Tensor) -> None:
    """Add the finite values of a batch to a histogram, in place.

    Args:
        histogram: counts, (T, BINS).
        values: activations, (B, N), float64.
        tiles: row of each column of `values` in the histogram, (N,).
    """
    bins = torch.bucketize(values.T.contiguous(), edges().to(values.device), right=True)  # (N, B)
    finite = values.T.isfinite().to(histogram.dtype)
    histogram.index_add_(0, tiles, empty(len(tiles), values.device).scatter_add_(1, bins, finite))
