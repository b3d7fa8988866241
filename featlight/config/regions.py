"""Regions: the neurons of a layer's map that a term selects, in every octave. No torch.

A region is a class here and its place in `REGIONS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

MapSize = tuple[int, int]  # height, width, in neurons
Index = int | tuple[int, int] | None
Box = tuple[slice, slice]  # rows, columns
LARGEST_INDEX = 100_000_000  # more than the neurons of any map


class Region(ABC):
    """A choice of neurons by an index, which refers to the map of the first octave."""

    name: ClassVar[str]
    description: ClassVar[str]  # in --help
    needs: ClassVar[str]  # the index, in an error line
    suffix: ClassVar[str]  # pattern of what `file_suffix` returns

    @abstractmethod
    def is_index(self, index: Any) -> bool:
        """Return whether a value is an index of this region, on a map of some size."""

    @abstractmethod
    def indices(self, size: MapSize) -> Iterable[Index]:
        """Return every index on a map, in the order of the tiles of `index: all`."""

    @abstractmethod
    def label(self, index: Any) -> str:
        """Return the end of a tile's label, such as ` row 8`."""

    @abstractmethod
    def file_suffix(self, index: Any) -> str:
        """Return the end of a tile's file name, such as `-row8`."""

    @abstractmethod
    def boxes(self, index: Any, first: MapSize, now: MapSize) -> list[Box]:
        """Return the selected rectangles of a map.

        Args:
            index: index on the first octave's map.
            first: map size of the first octave.
            now: map size of the current octave.
        """

    def is_on(self, index: Any, size: MapSize) -> bool:
        """Return whether a map has the index."""
        return index in self.indices(size)


class MapRegion(Region):
    """All neurons."""

    name = "map"
    description = "the feature's whole map"
    needs = "no index"
    suffix = ""

    def is_index(self, index: Any) -> bool:
        return index is None

    def indices(self, size: MapSize) -> Iterable[Index]:
        return (None,)

    def label(self, index: Any) -> str:
        return ""

    def file_suffix(self, index: Any) -> str:
        return ""

    def boxes(self, index: Any, first: MapSize, now: MapSize) -> list[Box]:
        return [(slice(None), slice(None))]


class RowRegion(Region):
    """One row."""

    name = "row"
    description = "one row (index R)"
    needs = "a row"
    suffix = r"-row\d+"

    def is_index(self, index: Any) -> bool:
        return _is_count(index)

    def indices(self, size: MapSize) -> Iterable[Index]:
        return range(size[0])

    def label(self, index: Any) -> str:
        return f" row {index}"

    def file_suffix(self, index: Any) -> str:
        return f"-row{index}"

    def boxes(self, index: Any, first: MapSize, now: MapSize) -> list[Box]:
        return [(_carried(index, first[0], now[0]), slice(None))]


class NeuronRegion(Region):
    """One neuron."""

    name = "neuron"
    description = "one neuron (R,C)"
    needs = "[row, column]"
    suffix = r"-n\d+x\d+"

    def is_index(self, index: Any) -> bool:
        return isinstance(index, tuple) and len(index) == 2 and all(map(_is_count, index))

    def indices(self, size: MapSize) -> Iterable[Index]:
        return ((row, column) for row in range(size[0]) for column in range(size[1]))

    def is_on(self, index: Any, size: MapSize) -> bool:
        return bool(index[0] < size[0] and index[1] < size[1])

    def label(self, index: Any) -> str:
        return " ({}, {})".format(*index)

    def file_suffix(self, index: Any) -> str:
        return "-n{}x{}".format(*index)

    def boxes(self, index: Any, first: MapSize, now: MapSize) -> list[Box]:
        row, column = (_carried(*place) for place in zip(index, first, now, strict=True))
        return [(row, column)]


class PrefixRegion(Region):
    """The first neurons in reading order, up to the last overlap of the index's neuron with the current map."""

    name = "prefix"
    description = "a prefix, the first neurons in reading order (N, the last of them)"
    needs = "a neuron's number"
    suffix = r"-p\d{5,}"

    def is_index(self, index: Any) -> bool:
        return _is_count(index)

    def indices(self, size: MapSize) -> Iterable[Index]:
        return range(size[0] * size[1])

    def label(self, index: Any) -> str:
        return f" to {index}"

    def file_suffix(self, index: Any) -> str:
        return f"-p{index:05d}"

    def boxes(self, index: Any, first: MapSize, now: MapSize) -> list[Box]:
        place = zip(divmod(index, first[1]), first, now, strict=True)
        row, column = (-(-(position + 1) * new // old) - 1 for position, old, new in place)
        return [(slice(row), slice(None)), (slice(row, row + 1), slice(column + 1))]


REGIONS: dict[str, Region] = {
    region.name: region for region in (MapRegion(), RowRegion(), NeuronRegion(), PrefixRegion())
}


def check_index(region: str, index: Any) -> None:
    """Raise ValueError if the index does not fit the region."""
    if not REGIONS[region].is_index(index):
        given = list(index) if isinstance(index, tuple) else index
        raise ValueError(f"index: {given!r} given; region {region} needs {REGIONS[region].needs}, counted from 0")


def _carried(position: int, first: int, now: int) -> slice:
    """Map a row (or column) of the first octave's map, `first` neurons high, to a map of `now` neurons."""
    carried = (2 * position + 1) * now // (2 * first)
    return slice(carried, carried + 1)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_INDEX
