"""Areas of a tile: the area that its objective changed, and the areas in which its features are active."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featlight.analysis.image_metrics import Area, activity_overlap, affected_area
from featlight.config.image_shape import both_sides, shown_channels
from featlight.config.named_starts import NAMED_STARTS, has_own_start
from featlight.config.recipe import Recipe
from featlight.config.tile import Tile, feature_tile
from featlight.errors import FeatlightError
from featlight.param.image import to_bytes
from featlight.param.registry import parameterization_of, starting_parameters
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.contents import read_picture, read_tensors
from featlight.store.paths import PICTURE_BYTES
from featlight.store.store import Store

HEAT_GRID = 32  # cells per side: an outline around single pixels would be invisible

Feature = tuple[str, int | None]  # layer and feature; None for all features


class MarkedAreas(NamedTuple):
    """Areas to outline in a tile.

    Args:
        heats: one map per area, as `draw_heat` takes it.
        numbers: numbers of the figure's table, by column.
    """

    heats: list[list[list[float]]]
    numbers: dict[str, float]


def tile_pixels(store: Store, file: str) -> Tensor:
    """Return the pixels of a tile, (1, 3, H, W), float64 in [0, 1]."""
    picture = np.array(read_picture(store.folder, store.root / file))  # (H, W, 3)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 255


def without_objective(plan: Plan, planned: PlannedTile) -> Tensor | None:
    """Return the tile that would result without an objective: its start after the same octaves and blurs.

    Returns:
        (1, 3, H, W), float64 in [0, 1], in steps of 1/255; None if the start is an image, which no plan holds.
    """
    settings = plan.settings[planned.variant]
    if settings.init not in NAMED_STARTS:
        return None
    tile = planned.tile if has_own_start(settings.init, planned.tile.face) else None  # None: one start for all tiles
    channels = plan.network.in_channels
    shown = tuple(shown_channels(settings.show_channels, channels))
    return _without_objective(settings.recipe, settings.init, settings.seed, tile, channels, shown)


@lru_cache(maxsize=4)
def _without_objective(
    recipe: Recipe, init: str, seed: int, tile: Tile | None, channels: int, shown: tuple[int, ...]
) -> Tensor:
    own = parameterization_of(recipe, channels)
    size = both_sides(recipe.first_size)
    image = starting_parameters(own, init, size, seed, [tile or feature_tile("any", 0)])  # (1, C, H, W)
    for step in recipe.steps():
        image, size = own.resized(image, size, step.size), step.size
        if step.sigma is not None:
            image = own.smoothed(image, step.sigma, size)
    return to_bytes(own.image(image, size), shown).permute(0, 3, 1, 2).double() / 255


def changed_area(store: Store, plan: Plan, planned: PlannedTile) -> Area | None:
    """Return the area that a tile's objective changed; None if its start is unknown."""
    start = without_objective(plan, planned)
    return None if start is None else affected_area(tile_pixels(store, planned.file), start)


def mark_changed(store: Store, plan: Plan, planned: PlannedTile) -> MarkedAreas | None:
    """Mark the area that a tile's objective changed, with its share of the tile and its box in pixels."""
    area = changed_area(store, plan, planned)
    if area is None:
        return None
    sides = zip(("top", "left", "bottom", "right"), area.box[0].tolist(), strict=True)
    return MarkedAreas([coarse_heat(area.mask)], {"area": area.share.item(), **dict(sides)})


def coarse_heat(mask: Tensor) -> list[list[float]]:
    """Return the share of each cell of a coarse grid that a mask (1, S, S) covers."""
    grid = F.adaptive_avg_pool2d(mask.float(), min(HEAT_GRID, mask.shape[-1]))[0]
    heat: list[list[float]] = grid.tolist()
    return heat


def mark_active(store: Store, planned: PlannedTile, features: Sequence[Feature]) -> MarkedAreas | None:
    """Mark the areas in which the features of a tile are active: above half of the maximum.

    Args:
        store: store of the run.
        planned: the tile.
        features: features of the whole figure; a feature that is not in the tile gets an empty heat.

    Returns:
        None if the run has not kept the tile's maps.
    """
    path = store.map_path(planned.file)
    if not store.folder.has(path):
        return None
    maps = read_tensors(store.folder, path, PICTURE_BYTES)  # (H, W) each
    if any(getattr(maps.get(str(number)), "ndim", None) != 2 for number in range(len(planned.tile.terms))):
        raise FeatlightError(f"{path}: a map of a term of its tile is missing; delete this file and the tile")
    map_of = {
        (term.layer, term.feature): torch.tensor(maps[str(number)])[None].double()  # (1, H, W)
        for number, term in enumerate(planned.tile.terms)
    }
    heats, numbers = [], {}
    for feature in features:
        map_ = map_of.get(feature, torch.zeros(1, 1, 1))  # (1, H, W)
        peak = map_.amax().clamp(min=1e-30)
        heats.append((map_[0] / peak).tolist())
        if feature in map_of:
            numbers[f"active {feature_label(feature)}"] = activity_overlap(map_, map_).first.item()
    if len(map_of) == 2:
        numbers["active both"] = activity_overlap(*map_of.values()).both.item()
    return MarkedAreas(heats, numbers)


def feature_label(feature: Feature) -> str:
    """Return the label of a feature in captions and columns, such as `Mixed_6a 199`."""
    return f"{feature[0]} {'all' if feature[1] is None else feature[1]}"
