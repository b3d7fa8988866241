"""Regions: the neurons of a map that a term selects, in every octave."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from featlight.config.tile import Term

MapSize = tuple[int, int]  # height, width, in neurons


def carry(position: int, first: int, now: int) -> int:
    """Map a row (or column) of the first octave's map, `first` neurons high, to a map of `now` neurons."""
    return (2 * position + 1) * now // (2 * first)


def carry_last(position: int, first: int, now: int) -> int:
    """Map the last row (or column) of a prefix: to the last one that overlaps the first octave's neuron."""
    return -(-(position + 1) * now // first) - 1


def has_place(maps: Mapping[str, MapSize], layers: Iterable[str]) -> bool:
    """Return whether features have positions: whether a layer's map is larger than 1 x 1."""
    return any(maps[layer] != (1, 1) for layer in layers)


def region_mask(term: Term, first: MapSize, now: MapSize) -> Tensor:
    """Return the mask of the neurons that a term selects.

    Args:
        term: term, whose index refers to the first octave's map.
        first: map size of the first octave.
        now: map size of the current octave.

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
