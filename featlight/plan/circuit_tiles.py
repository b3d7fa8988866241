"""The tiles whose circuits a figure shows."""

from collections.abc import Sequence

from featlight.config.schema import MOST_CIRCUITS, Figure
from featlight.errors import UsageError, unknown
from featlight.plan.plan import Plan, PlannedTile


def circuit_tiles(plan: Plan, figure: Figure) -> list[PlannedTile]:
    """Return the tiles that a figure of circuits shows: the chosen ones, else the first tiles of the last layer."""
    if figure.tiles is not None:
        return [planned for name in figure.tiles for planned in plan.tiles if name in _names(planned)]
    orders = {variant: list(plan.layers_of(variant)) for variant in plan.settings}
    places = [orders[planned.variant].index(planned.tile.terms[0].output) for planned in plan.tiles]
    last = max(places, default=0)
    return [planned for planned, place in zip(plan.tiles, places, strict=True) if place == last][:MOST_CIRCUITS]


def check_circuit_figure(plan: Plan, figure: Figure) -> None:
    """Check that a run has the tiles and the layers that a figure of circuits names.

    Raises:
        UsageError: a tile or a layer is not in the run.
    """
    names = [name for planned in plan.tiles for name in _names(planned)]
    layers = [term.output for planned in plan.tiles for term in planned.tile.terms]
    _check("tile", figure.tiles or (), names)
    _check("layer", figure.layers or (), layers)


def _check(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"figure.{kind}s: {unknown(kind, name, known, 'in this run')}")


def _names(planned: PlannedTile) -> list[str]:
    """Return the words for a tile: `mixed` for a named tile, else `classifier/292` and `classifier/tiger`."""
    tile = planned.tile
    if tile.is_named:
        return [tile.name]
    words = [tile.label, *([planned.title] if planned.title else [])]
    return [f"{tile.terms[0].layer}/{word}" for word in words]
