"""From one objective to the next in even steps, a picture for each. No torch."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from featlight.config.tile import Tile, file_name
from featlight.errors import UsageError
from featlight.plan.plan import PlannedTile


def between(asked: Sequence[PlannedTile], count: int) -> list[PlannedTile]:
    """Named tiles from each tile to the next: `35-75-66-25` maximises three quarters of 35 and one of 66.

    Args:
        asked: of one variant, in the order of the row.
        count: of pictures from one to the next, both among them; that where two steps meet is made once.

    Raises:
        UsageError: there is nothing to go to.
    """
    if len(asked) < 2:
        raise UsageError(
            f"interpolate: {count} given, and {len(asked)} tile; it goes from one to the next, so give two"
        )
    found = []
    several = len({planned.tile.terms[0].layer for planned in asked}) > 1
    for number, (one, other) in enumerate(pairwise(asked)):
        if one.tile.terms == other.tile.terms:
            raise UsageError(
                f"interpolate: {count} given, from {one.label} to {other.label}, the same; give two that differ"
            )
        for step in range(number > 0, count):
            part = step / (count - 1)
            terms = [replace(term, weight=term.weight * (1 - part)) for term in one.tile.terms]
            terms += [replace(term, weight=term.weight * part) for term in other.tile.terms]
            percent = round(100 * part)
            first, second = (_word(each, with_layer=several) for each in (one, other))
            name = file_name(f"{first}-{100 - percent}-{second}-{percent}")
            found.append(PlannedTile(one.variant, Tile(name, tuple(terms))))
    return found


def _word(planned: PlannedTile, *, with_layer: bool) -> str:
    """A tile's name, or its feature's number and what that is called: `292_tiger`."""
    layer = f"{planned.tile.terms[0].layer}_" if with_layer and not planned.tile.is_named else ""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", layer + planned.label).strip("_")
