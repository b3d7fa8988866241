"""The objectives of a batch of images: layer outputs to one loss per image, without a loop over images."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from featlight.tile import Metric, Term, Tile

MapSize = tuple[int, int]  # height, width, in neurons


class Scores(NamedTuple):
    loss: Tensor  # (N,)
    activation: Tensor  # (N,), the mean of the neurons that each image's objective chooses


def l1(distance: Tensor) -> Tensor:
    """Signed sum, as in the article: a neuron beyond the target is still rewarded."""
    return distance.sum((1, 2, 3))


def l2(distance: Tensor) -> Tensor:
    """Five times the Euclidean norm, the article's constant."""
    norm: Tensor = torch.linalg.vector_norm(distance, dim=(1, 2, 3))
    return 5 * norm


def linf(distance: Tensor) -> Tensor:
    """The largest absolute distance, what the article's text says; ties share the gradient evenly."""
    return distance.abs().amax((1, 2, 3))


def linf_rows(distance: Tensor) -> Tensor:
    """The largest row sum of absolute distances, what the article's listing computes (a matrix infinity norm)."""
    return distance.abs().sum(3).amax((1, 2))


# From (N, K, H, W) distances to the target, 0 outside the region, to (N,). A new metric is a line here.
METRIC_FUNCTIONS: dict[Metric, Callable[[Tensor], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "linf": linf,
    "linf-rows": linf_rows,
}


def carry(position: int, first: int, now: int) -> int:
    """A row (or column) of the first octave's map, `first` neurons high, on a map of `now` neurons."""
    return (2 * position + 1) * now // (2 * first)


def carry_last(position: int, first: int, now: int) -> int:
    """The last row (or column) of a prefix, likewise: the last that the first octave's neuron reaches into."""
    return -(-(position + 1) * now // first) - 1


def region_mask(term: Term, first: MapSize, now: MapSize) -> Tensor:
    """Which neurons of a map the term chooses.

    Args:
        term: its index counts on the first octave's map.
        first: the first octave's map.
        now: the map of the octave in hand.

    Returns:
        (H, W), bool.
    """
    mask = torch.zeros(now, dtype=torch.bool)
    match term.region, term.index:
        case "row", int(row):
            mask[carry(row, first[0], now[0])] = True
        case "neuron", (row, column):
            mask[carry(row, first[0], now[0]), carry(column, first[1], now[1])] = True
        case "prefix", int(last):
            row = carry_last(last // first[1], first[0], now[0])
            column = carry_last(last % first[1], first[1], now[1])
            mask[:row] = True
            mask[row, : column + 1] = True
        case _:
            mask[:] = True
    return mask


class Objective:
    """What each image of a batch is to maximise.

    Args:
        tiles: one per image, all of one signature (the same layers in the same order).
        metric: distance between the chosen neurons and the target, applied once per term.
        target: the activation C that is aimed at.
        first_maps: each layer's map in the first octave, which the terms' positions count on.
    """

    def __init__(self, tiles: Sequence[Tile], metric: Metric, target: float, first_maps: Mapping[str, MapSize]) -> None:
        assert len({tile.signature for tile in tiles}) == 1
        self._slots = list(zip(*(tile.terms for tile in tiles), strict=True))  # [term][image]
        self._metric = METRIC_FUNCTIONS[metric]
        self._target = target
        self._first_maps = first_maps
        self._cache: dict[tuple[int, torch.device, MapSize], tuple[Tensor, Tensor, Tensor | None]] = {}

    def __call__(self, outputs: Mapping[str, Tensor]) -> Scores:
        """The loss and the mean activation of each image.

        Args:
            outputs: each layer's output, (N, C, H, W).
        """
        losses: list[Tensor] = []
        sums: list[Tensor] = []
        counts: list[Tensor | int] = []
        for slot, terms in enumerate(self._slots):
            output = outputs[terms[0].layer]  # (N, C, H, W)
            features, weights, mask = self._choice(slot, output)
            if terms[0].feature is None:
                z = output
            else:
                z = output[torch.arange(len(terms), device=output.device), features].unsqueeze(1)  # (N, 1, H, W)
            distance = self._target - z
            if mask is None:
                counts.append(z[0].numel())
            else:
                z, distance = z * mask, torch.where(mask, distance, 0)
                counts.append(mask.sum((1, 2, 3)) * z.shape[1])
            losses.append(weights.to(z.dtype) * self._metric(distance))
            sums.append(z.detach().sum((1, 2, 3)))
        return Scores(sum(losses[1:], losses[0]), sum(sums[1:], sums[0]) / sum(counts))

    def maps(self, outputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The whole map of each term's feature, the mean map where it takes all features.

        Args:
            outputs: each layer's output, (N, C, H, W).

        Returns:
            (N, H, W) for each term.
        """
        found = []
        for terms in self._slots:
            output = outputs[terms[0].layer]  # (N, C, H, W)
            if terms[0].feature is None:
                found.append(output.mean(1))
            else:
                found.append(torch.stack([maps[term.feature or 0] for maps, term in zip(output, terms, strict=True)]))
        return found

    def _choice(self, slot: int, output: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features (N,), weights (N,) and region masks (N, 1, H, W), made once per map size and device."""
        now: MapSize = (output.shape[2], output.shape[3])
        key = (slot, output.device, now)
        if key not in self._cache:
            terms = self._slots[slot]
            features = torch.tensor([term.feature or 0 for term in terms])
            weights = torch.tensor([term.weight for term in terms], dtype=torch.float64)
            mask = None
            if any(term.region != "map" for term in terms):
                first = self._first_maps[terms[0].layer]
                mask = torch.stack([region_mask(term, first, now) for term in terms]).unsqueeze(1).to(output.device)
            self._cache[key] = (features.to(output.device), weights.to(output.device), mask)
        return self._cache[key]
