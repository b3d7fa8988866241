"""Whether a network's layers, and a run's directions, have what a term looks for. No torch."""

from typing import Protocol

from featlight.config.tile import Term
from featlight.errors import UsageError
from featlight.models.layer_info import Layer


class Rows(Protocol):
    """Directions, many: those of a file, or as a plan remembers them."""

    @property
    def count(self) -> int: ...

    @property
    def features(self) -> int: ...  # numbers of each


def check_term(term: Term, layer: Layer, directions: Rows | None = None) -> None:
    """Raise UsageError where a layer does not have a term's feature or position, or a direction does not fit it."""
    if term.direction is not None:
        _check_direction(term, layer, directions)
    elif term.feature is not None and term.feature >= layer.features:
        raise UsageError(
            f"features: {term.feature} given; layer {layer.name!r} has {layer.features}, 0 to {layer.features - 1}"
        )
    height, width = layer.map_size
    match term.region, term.index:
        case "row", int(row):
            fits = row < height
        case "neuron", (row, column):
            fits = row < height and column < width
        case "prefix", int(last):
            fits = last < height * width
        case _:
            fits = True
    if not fits:
        given = list(term.index) if isinstance(term.index, tuple) else term.index
        raise UsageError(
            f"index: {given} given; the map of layer {layer.name!r} has {height} rows and {width} columns, from 0"
        )


def _check_direction(term: Term, layer: Layer, directions: Rows | None) -> None:
    if term.direction == "row":
        if directions is None:
            raise UsageError("direction: row given, but no directions; a file of them is needed (--directions)")
        numbers = directions.features
        if term.feature is not None and term.feature >= directions.count:
            most = directions.count - 1
            raise UsageError(f"features: {term.feature} given; there are {directions.count} directions, 0 to {most}")
    elif term.direction == "image":
        return
    else:
        numbers = len(term.direction or ())
    if numbers != layer.features:
        raise UsageError(
            f"directions: {numbers} numbers each given; layer {layer.name!r} has {layer.features} features: "
            "(directions, features) is needed"
        )
