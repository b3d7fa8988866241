"""Which neurons of a map a term chooses, whatever the octave."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from featlight.config.tile import Term

MapSize = tuple[int, int]  # height, width, in neurons


def carry(position: int, first: int, now: int) -> int:
    """A row (or column) of the first octave's map, `first` neurons high, on a map of `now` neurons."""
    return (2 * position + 1) * now // (2 * first)


def carry_last(position: int, first: int, now: int) -> int:
    """The last row (or column) of a prefix, likewise: the last that the first octave's neuron reaches into."""
    return -(-(position + 1) * now // first) - 1


def has_place(maps: Mapping[str, MapSize], layers: Iterable[str]) -> bool:
    """Whether features stand somewhere in an image: whether the map of one of these layers has several positions."""
    return any(maps[layer] != (1, 1) for layer in layers)


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
