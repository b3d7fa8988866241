"""Activations of all tiles on a batch of images, each the mean over the neurons of the tile's objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from featlight.config.regions import MapSize
from featlight.config.tile import Term
from featlight.objectives.directions import Directions
from featlight.objectives.masks import region_mask
from featlight.objectives.objective import operand_of

MOST_NUMBERS = 1 << 24  # values of the maps that are searched in one operation


@dataclass(frozen=True)
class TileQuery:
    """Neurons that a tile's objective selects. Tiles with equal queries have equal activations.

    Args:
        terms: terms of the tile.
        first_maps: (output, map size in the first octave) of each output with a region other than `map`.
    """

    terms: tuple[Term, ...]
    first_maps: tuple[tuple[str, MapSize], ...]

    @classmethod
    def from_terms(cls, terms: Sequence[Term], maps: Mapping[str, MapSize]) -> "TileQuery":
        """Build the query of a tile.

        Args:
            terms: terms of the tile.
            maps: map size in the first octave, by output.
        """
        firsts = {term.output: maps[term.output] for term in terms if term.region != "map"}
        return cls(tuple(terms), tuple(sorted(firsts.items())))


@dataclass
class _Group:
    """Terms of different tiles that select the same positions of one output.

    Args:
        slot: index of the terms in their tiles.
        term: one of the terms.
        first_map: map size that the region refers to; None for the whole map.
        tiles: index of each term's tile.
        terms: all terms.
    """

    slot: int
    term: Term
    first_map: MapSize | None
    tiles: list[int] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)


class Activations:
    """Activations of many tiles.

    Args:
        queries: query of each tile.
        device: device of the network.
        directions: directions whose rows the terms name; None without such terms.
    """

    def __init__(
        self, queries: Sequence[TileQuery], device: torch.device, directions: Directions | None = None
    ) -> None:
        self._count, self._device = len(queries), device
        groups: dict[tuple[object, ...], _Group] = {}
        for tile, query in enumerate(queries):
            firsts = dict(query.first_maps)
            for slot, term in enumerate(query.terms):
                key = (slot, term.output, term.region, term.index, firsts.get(term.output), term.measure.name)
                first_map = None if term.region == "map" else firsts[term.output]
                group = groups.setdefault(key, _Group(slot, term, first_map))
                group.tiles.append(tile)
                group.terms.append(term)
        self._groups = [
            (group, torch.tensor(group.tiles, device=device), operand_of(group.terms, directions, device))
            for group in groups.values()
        ]

    def __call__(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return the mean over the neurons of each tile's objective, (N, T), float64.

        The bits of a tile do not depend on the other tiles: each sum covers all features of an output or one
        direction.

        Args:
            outputs: outputs of the network by name, (N, C, H, W).
        """
        n = len(next(iter(outputs.values())))
        sums = torch.zeros(n, self._count, dtype=torch.float64, device=self._device)
        counts = torch.zeros(self._count, dtype=torch.float64, device=self._device)
        for group, tiles, operand in self._groups:
            z, positions = _selected(group, outputs[group.term.output])  # (N, C, h, w)
            measure = group.term.measure
            sums[:, tiles] += measure.totals(z, operand).double()  # (N, K)
            counts[tiles] += positions * measure.values_per_position(z.shape[1])
        return sums / counts

    def places(self, outputs: Mapping[str, Tensor], images: Tensor, tiles: Tensor) -> Tensor:
        """Return row and column of the strongest neuron of pairs of image and tile, by the first term, (M, 2).

        Args:
            outputs: outputs of the network by name, (N, C, H, W).
            images: index of each pair's image in the batch, (M,).
            tiles: index of each pair's tile, (M,).
        """
        places = torch.zeros(len(tiles), 2, dtype=torch.int64, device=self._device)
        for group, own_tiles, operand in self._groups:
            if group.slot > 0:
                continue
            output = outputs[group.term.output]  # (N, C, H, W)
            member = torch.full((self._count,), -1, device=self._device)  # index in the group, by tile
            member[own_tiles] = torch.arange(len(own_tiles), device=self._device)
            pairs = (member[tiles] >= 0).nonzero()[:, 0]
            mask, width = _mask(group, output), output.shape[3]
            measure = group.term.measure
            step = max(1, MOST_NUMBERS // output[0, 0 if measure.reads_one_feature else slice(None)].numel())
            for part in torch.split(pairs, step):
                own = None if operand is None else operand[member[tiles[part]]]
                z = measure.maps(output, images[part], own)  # (K, H, W)
                first = _first_largest((z if mask is None else torch.where(mask, z, -torch.inf)).flatten(1))
                places[part] = torch.stack([first // width, first % width], 1)
        return places


def _first_largest(z: Tensor) -> Tensor:
    """Return the index of the largest value of each row, the first of equal ones on every device. (K, P) to (K,)."""
    steps = torch.arange(z.shape[1], device=z.device)
    return torch.where(z == z.amax(1, keepdim=True), steps, z.shape[1] - 1).amin(1)


def _selected(group: _Group, output: Tensor) -> tuple[Tensor, int]:
    """Crop an output to the group's neurons, with 0 at other positions; also return the number of positions."""
    mask = _mask(group, output)
    if mask is None:
        return output, output.shape[2] * output.shape[3]
    rows, columns = (slice(int(at.min()), int(at.max()) + 1) for at in mask.nonzero().T)
    return torch.where(mask[rows, columns], output[:, :, rows, columns], 0), int(mask.sum())


def _mask(group: _Group, output: Tensor) -> Tensor | None:
    if group.first_map is None:
        return None
    return region_mask(group.term, group.first_map, (output.shape[2], output.shape[3])).to(output.device)
