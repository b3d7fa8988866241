"""How often each tile was answered how strongly: counts in bins that are the same for all tiles and all data sets.

Bins are a quarter of a doubling wide, so that they suit any layer's units without a look at the images first; counts
are whole numbers, which several workers add up to the same.
"""

from functools import cache

import torch
from torch import Tensor

PER_OCTAVE = 4  # bins of each doubling
LOWEST, HIGHEST = -8, 8  # logarithms to base 2 of the smallest edge and the largest
ONE_SIDE = PER_OCTAVE * (HIGHEST - LOWEST)
BINS = 2 * ONE_SIDE + 1  # below 0, about 0, above 0; the outermost hold all that is further out


@cache
def edges() -> Tensor:
    """Between the bins, ascending, (BINS - 1,), float64, on the CPU."""
    steps = torch.arange(ONE_SIDE, dtype=torch.float64, device="cpu") / PER_OCTAVE + LOWEST
    above = 2.0**steps
    return torch.cat([-above.flip(0), above])


def empty(tiles: int, device: torch.device) -> Tensor:
    """(tiles, BINS), int32."""
    return torch.zeros(tiles, BINS, dtype=torch.int32, device=device)


def count(histogram: Tensor, values: Tensor, tiles: Tensor) -> None:
    """Add a batch; what is not finite counts nowhere.

    Args:
        histogram: (T, BINS), changed in place.
        values: (B, N), float64.
        tiles: (N,), whose values these are.
    """
    bins = torch.bucketize(values.T.contiguous(), edges().to(values.device), right=True)  # (N, B)
    finite = values.T.isfinite().to(histogram.dtype)
    histogram.index_add_(0, tiles, empty(len(tiles), values.device).scatter_add_(1, bins, finite))
