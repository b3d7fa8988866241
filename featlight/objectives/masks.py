"""The masks of regions."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from featlight.config.regions import REGIONS, MapSize
from featlight.config.tile import Term


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
    for rows, columns in REGIONS[term.region].boxes(term.index, first, now):
        mask[rows, columns] = True
    return mask
