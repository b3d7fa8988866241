"""The best few images of each tile, kept on the device: memory of tiles x k, whatever the number of images."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

NOBODY = -1


class Entered(NamedTuple):
    """What has newly come among the best of some tile, M pairs: the places of tile and image in the batch, its slot."""

    columns: Tensor
    images: Tensor
    slots: Tensor


@dataclass
class TopK:
    """The best of each tile, best first.

    Args:
        values: (T, k), float64; -inf where there is none.
        images: (T, k), their numbers, int64; -1 where there is none.
        places: (T, k, 2), row and column of the strongest neuron on its map, int64.
    """

    values: Tensor
    images: Tensor
    places: Tensor

    @classmethod
    def empty(cls, tiles: int, k: int, device: torch.device) -> "TopK":
        return cls(
            torch.full((tiles, k), -torch.inf, dtype=torch.float64, device=device),
            torch.full((tiles, k), NOBODY, dtype=torch.int64, device=device),
            torch.zeros(tiles, k, 2, dtype=torch.int64, device=device),
        )

    def update(self, values: Tensor, numbers: Tensor, ranks: Tensor, tiles: Tensor) -> Entered:
        """Take in a batch.

        Args:
            values: (B, N), float64; what is not finite is no answer.
            numbers: (B,), of the images.
            ranks: by number, the image's place in the order of paths: the lower one wins where values are equal.
            tiles: (N,), whose values these are.

        Returns:
            What has come in, whose `places` are to be filled.
        """
        new = torch.where(values.isfinite(), values, -torch.inf).T  # (N, B)
        columns = ((new >= self.values[tiles, -1:]) & (new > -torch.inf)).any(1).nonzero()[:, 0]
        rows = tiles[columns]
        k, n = self.values.shape[1], len(rows)
        candidates = torch.cat([self.images[rows], numbers.expand(n, -1)], 1)  # (R, k + B)
        found = torch.cat([self.values[rows], new[columns]], 1)
        order = best_first(found, candidates, ranks)[:, :k]
        merged = found.gather(1, order)
        came = (order >= k) & (merged > -torch.inf)
        kept = self.places[rows].gather(1, order.clamp_max(k - 1)[:, :, None].expand(-1, -1, 2))
        self.values[rows] = merged
        self.images[rows] = torch.where(merged > -torch.inf, candidates.gather(1, order), NOBODY)
        self.places[rows] = kept
        row, slot = came.nonzero(as_tuple=True)
        return Entered(columns[row], order[row, slot] - k, slot)

    def followed_by(self, other: "TopK") -> "TopK":
        """With the best of further tiles."""
        return TopK(*(torch.cat(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def arrays(self) -> "dict[str, np.ndarray[Any, Any]]":
        """By name, as they are kept."""
        return {key: value.cpu().numpy() for key, value in vars(self).items()}

    def to(self, device: torch.device) -> "TopK":
        return TopK(*(value.to(device) for value in vars(self).values()))


def best_first(values: Tensor, numbers: Tensor, ranks: Tensor) -> Tensor:
    """The order of each row: the largest value first, of equal ones the image of the lower rank. (R, M) to (R, M)."""
    places = torch.where(numbers >= 0, ranks[numbers.clamp_min(0)], len(ranks))
    by_rank = places.argsort(dim=1, stable=True)
    by_value = values.gather(1, by_rank).argsort(dim=1, descending=True, stable=True)
    return by_rank.gather(1, by_value)


def merged(tops: "list[TopK]", k: int, ranks: Tensor) -> TopK:
    """The best among the best of several workers, who have seen different images.

    Args:
        tops: of the workers, on one device, of the same tiles.
        k: how many to keep.
        ranks: as for `TopK.update`.
    """
    values, images, places = (torch.cat([getattr(top, key) for top in tops], 1) for key in vars(tops[0]))
    order = best_first(values, images, ranks)[:, :k]
    return TopK(values.gather(1, order), images.gather(1, order), places.gather(1, order[:, :, None].expand(-1, -1, 2)))
