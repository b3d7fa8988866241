"""What the tiles of a run answer to a batch of images: each objective's own activation, all tiles in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from featlight.config.tile import Term
from featlight.objectives.directions import Directions, vectors_of
from featlight.objectives.regions import MapSize, region_mask

MOST_NUMBERS = 1 << 24  # of maps that are searched at once


@dataclass(frozen=True)
class TileQuery:
    """What a tile looks for.

    Args:
        terms: of the tile.
        first_maps: by output, the map that positions count on; of outputs whose region is not the whole map.
    """

    terms: tuple[Term, ...]
    first_maps: tuple[tuple[str, MapSize], ...]

    @classmethod
    def of(cls, terms: Sequence[Term], maps: Mapping[str, MapSize]) -> "TileQuery":
        """Alike for all tiles that answer alike.

        Args:
            terms: of the tile.
            maps: by output, its map in the first octave.
        """
        firsts = {term.output: maps[term.output] for term in terms if term.region != "map"}
        return cls(tuple(terms), tuple(sorted(firsts.items())))


@dataclass
class _Group:
    """Terms that look at the same neurons of one output, of tiles that are all different.

    Args:
        slot: the place of the terms in their tiles.
        term: one of them.
        first: the map that its positions count on; None for the whole map.
        tiles: that they belong to, by number.
        features: of each; none where they take all features, or lie along directions.
        terms: of each.
    """

    slot: int
    term: Term
    first: MapSize | None
    tiles: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)


class Activations:
    """The activations of many tiles.

    Args:
        queries: what each tile looks for.
        device: of the network.
        directions: that terms are rows of; None where none is.
    """

    def __init__(
        self, queries: Sequence[TileQuery], device: torch.device, directions: Directions | None = None
    ) -> None:
        self._looked, self._device = queries, device
        groups: dict[tuple[object, ...], _Group] = {}
        for tile, look in enumerate(queries):
            firsts = dict(look.first_maps)
            for slot, term in enumerate(look.terms):
                key = (slot, term.output, term.region, term.index, firsts.get(term.output), term.choice)
                first = None if term.region == "map" else firsts[term.output]
                group = groups.setdefault(key, _Group(slot, term, first))
                group.tiles.append(tile)
                group.terms.append(term)
                group.features += [term.feature] if term.choice == "feature" and term.feature is not None else []
        self._groups = list(groups.values())
        self._places = [torch.tensor(group.tiles, device=device) for group in self._groups]
        self._features = [torch.tensor(group.features, device=device) for group in self._groups]
        self._vectors = [
            torch.from_numpy(vectors_of(group.terms, directions)).to(device)  # (K, C)
            if group.term.choice == "direction"
            else torch.empty(0)
            for group in self._groups
        ]

    def __call__(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The mean of the neurons that each tile's objective chooses, (N, T), float64.

        A tile's bits do not hang on which others there are: sums are over all features of an output, and of one
        direction at a time.

        Args:
            outputs: each output, (N, C, H, W).
        """
        n = len(next(iter(outputs.values())))
        sums = torch.zeros(n, len(self._looked), dtype=torch.float64, device=self._device)
        counts = torch.zeros(len(self._looked), dtype=torch.float64, device=self._device)
        every = zip(self._groups, self._places, self._features, self._vectors, strict=True)
        for group, tiles, features, vectors in every:
            z, neurons = _chosen(group, outputs[group.term.output])  # (N, C, h, w)
            if group.term.choice == "all":
                found, neurons = z.sum((1, 2, 3))[:, None], neurons * z.shape[1]  # (N, 1)
            elif group.term.choice == "direction":
                totals = z.sum((2, 3))  # (N, C)
                found = torch.stack([(totals * vector).sum(1) for vector in vectors.to(z.dtype)], 1)  # (N, K)
            else:
                found = z.sum((2, 3))[:, features]  # (N, K)
            sums[:, tiles] += found.double()
            counts[tiles] += neurons
        return sums / counts

    def places(self, outputs: Mapping[str, Tensor], images: Tensor, tiles: Tensor) -> Tensor:
        """Where some tiles are answered most strongly, by their first terms: row and column on the map, (M, 2).

        Args:
            outputs: each output, (N, C, H, W).
            images: (M,), their places in the batch.
            tiles: (M,), by number.
        """
        found = torch.zeros(len(tiles), 2, dtype=torch.int64, device=self._device)
        every = zip(self._groups, self._places, self._features, self._vectors, strict=True)
        for group, mine, features, vectors in every:
            if group.slot > 0:
                continue
            output = outputs[group.term.output]  # (N, C, H, W)
            place = torch.full((len(self._looked),), -1, device=self._device)
            place[mine] = torch.arange(len(mine), device=self._device)
            chosen = (place[tiles] >= 0).nonzero()[:, 0]
            mask, width = _mask(group, output), output.shape[3]
            step = max(1, MOST_NUMBERS // output[0, 0 if group.term.choice == "feature" else slice(None)].numel())
            for part in [chosen[start : start + step] for start in range(0, len(chosen), step)]:
                if group.term.choice == "direction":
                    own = vectors[place[tiles[part]]].to(output.dtype)  # (K, C)
                    z = (output[images[part]] * own[:, :, None, None]).sum(1)  # (K, H, W)
                elif group.term.choice == "all":
                    z = output[images[part]].mean(1)  # (K, H, W)
                else:
                    z = output[images[part], features[place[tiles[part]]]]  # (K, H, W)
                first = _first_largest((z if mask is None else torch.where(mask, z, -torch.inf)).flatten(1))
                found[part] = torch.stack([first // width, first % width], 1)
        return found


def _first_largest(z: Tensor) -> Tensor:
    """Of each row, where its largest number stands; of equal ones the first, on every device. (K, P) to (K,)."""
    steps = torch.arange(z.shape[1], device=z.device)
    return torch.where(z == z.amax(1, keepdim=True), steps, z.shape[1] - 1).amin(1)


def _chosen(group: _Group, output: Tensor) -> tuple[Tensor, int]:
    """The smallest part of the maps that holds a group's neurons, 0 where there is none, and how many they are."""
    mask = _mask(group, output)
    if mask is None:
        return output, output.shape[2] * output.shape[3]
    rows, columns = (slice(int(at.min()), int(at.max()) + 1) for at in mask.nonzero().T)
    return torch.where(mask[rows, columns], output[:, :, rows, columns], 0), int(mask.sum())


def _mask(group: _Group, output: Tensor) -> Tensor | None:
    if group.first is None:
        return None
    return region_mask(group.term, group.first, (output.shape[2], output.shape[3])).to(output.device)
