"""The k images with the highest activation of each tile, kept on the device: memory does not grow with the images."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

NO_IMAGE = -1


class NewEntries(NamedTuple):
    """Images that a batch adds to the top k, as M pairs: column and image index in the batch, slot in the top k."""

    columns: Tensor
    images: Tensor
    slots: Tensor


@dataclass
class TopK:
    """The top k images of each tile, best first. The field names are on disk.

    Args:
        values: activations, (T, k), float64; -inf in empty slots.
        images: image numbers, (T, k), int64; -1 in empty slots.
        places: row and column of the strongest neuron on its map, (T, k, 2), int64.
    """

    values: Tensor
    images: Tensor
    places: Tensor

    @classmethod
    def empty(cls, tiles: int, k: int, device: torch.device) -> "TopK":
        return cls(
            torch.full((tiles, k), -torch.inf, dtype=torch.float64, device=device),
            torch.full((tiles, k), NO_IMAGE, dtype=torch.int64, device=device),
            torch.zeros(tiles, k, 2, dtype=torch.int64, device=device),
        )

    def update(self, values: Tensor, numbers: Tensor, ranks: Tensor, tiles: Tensor) -> NewEntries:
        """Add a batch.

        Args:
            values: activations, (B, N), float64; values that are not finite are ignored.
            numbers: image numbers, (B,).
            ranks: rank of each image in path order, by image number; the lower rank wins ties.
            tiles: row of each column of `values`, (N,).

        Returns:
            The new entries; the caller fills in their `places`.
        """
        new = torch.where(values.isfinite(), values, -torch.inf).T  # (N, B)
        columns = ((new >= self.values[tiles, -1:]) & (new > -torch.inf)).any(1).nonzero()[:, 0]
        rows = tiles[columns]
        k, n = self.values.shape[1], len(rows)
        candidates = torch.cat([self.images[rows], numbers.expand(n, -1)], 1)  # (R, k + B)
        candidate_values = torch.cat([self.values[rows], new[columns]], 1)  # (R, k + B)
        order = best_first(candidate_values, candidates, ranks)[:, :k]
        best = candidate_values.gather(1, order)
        is_new = (order >= k) & (best > -torch.inf)
        kept = self.places[rows].gather(1, order.clamp_max(k - 1)[:, :, None].expand(-1, -1, 2))
        self.values[rows] = best
        self.images[rows] = torch.where(best > -torch.inf, candidates.gather(1, order), NO_IMAGE)
        self.places[rows] = kept
        row, slot = is_new.nonzero(as_tuple=True)
        return NewEntries(columns[row], order[row, slot] - k, slot)

    def with_rows(self, other: "TopK") -> "TopK":
        """Append the rows of further tiles."""
        return TopK(*(torch.cat(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def arrays(self) -> "dict[str, np.ndarray[Any, Any]]":
        """Return the fields as NumPy arrays by name."""
        return {key: value.cpu().numpy() for key, value in vars(self).items()}

    def to(self, device: torch.device) -> "TopK":
        return TopK(*(value.to(device) for value in vars(self).values()))


def best_first(values: Tensor, numbers: Tensor, ranks: Tensor) -> Tensor:
    """Return each row's order: largest value first, then lowest rank of the image. (R, M) to (R, M)."""
    places = torch.where(numbers >= 0, ranks[numbers.clamp_min(0)], len(ranks))
    by_rank = places.argsort(dim=1, stable=True)
    by_value = values.gather(1, by_rank).argsort(dim=1, descending=True, stable=True)
    return by_rank.gather(1, by_value)


def merged(tops: "list[TopK]", k: int, ranks: Tensor) -> TopK:
    """Merge the top k of workers that scanned different images.

    Args:
        tops: top k of each worker, for the same tiles and on one device.
        k: number of images to keep.
        ranks: rank of each image in path order, by image number.
    """
    values, images, places = (torch.cat([getattr(top, key) for top in tops], 1) for key in vars(tops[0]))
    order = best_first(values, images, ranks)[:, :k]
    return TopK(values.gather(1, order), images.gather(1, order), places.gather(1, order[:, :, None].expand(-1, -1, 2)))
