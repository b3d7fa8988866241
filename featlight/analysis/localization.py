"""Where in a tile something is: the area that its objective has changed, and where its features are active."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featlight.analysis.image_metrics import Area, activity_overlap, affected_area
from featlight.config.inputs.channels import shown_channels
from featlight.config.inputs.sizes import both_sides
from featlight.config.recipe import NAMED_STARTS, Recipe
from featlight.config.tile import Tile, feature_tile
from featlight.errors import FeatlightError
from featlight.param.image import to_bytes
from featlight.param.registry import parameterization_of
from featlight.param.starts import starting_parameters
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.contents import read_picture, read_tensors
from featlight.store.paths import PICTURE_BYTES
from featlight.store.store import Store

HEAT_GRID = 32  # cells a side: an outline around single pixels would show nothing

Feature = tuple[str, int | None]  # layer and number; None for all of them


class Marked(NamedTuple):
    heats: list[list[list[float]]]  # as `draw_heat` takes them
    numbers: dict[str, float]  # by column of the figure's table


def pixels(store: Store, file: str) -> Tensor:
    """A tile as it is shown, (1, 3, H, W), float64 in [0, 1]."""
    picture = np.array(read_picture(store.folder, store.root / file))  # (H, W, 3)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 255


def undisturbed(plan: Plan, planned: PlannedTile) -> Tensor | None:
    """What a tile would show without its objective: its start, taken through the same octaves and blurs.

    Returns:
        (1, 3, H, W), float64 in [0, 1], in steps of 1/255; None where the start was an image, which no plan holds.
    """
    settings = plan.settings[planned.variant]
    if settings.init not in NAMED_STARTS:
        return None
    has_own = settings.init == "noise-per-feature" or planned.tile.face is not None
    tile = planned.tile if has_own else None  # all other starts are the same for all
    channels = plan.network.in_channels
    shown = tuple(shown_channels(settings.show_channels, channels))
    return _undisturbed(settings.recipe, settings.init, settings.seed, tile, channels, shown)


@lru_cache(maxsize=4)
def _undisturbed(
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
    """The area that a tile's objective has changed; None where its start is not known."""
    start = undisturbed(plan, planned)
    return None if start is None else affected_area(pixels(store, planned.file), start)


def changed(store: Store, plan: Plan, planned: PlannedTile) -> Marked | None:
    """The same as an outline, its share of the tile and the box around its middle, in pixels."""
    area = changed_area(store, plan, planned)
    if area is None:
        return None
    sides = zip(("top", "left", "bottom", "right"), area.box[0].tolist(), strict=True)
    return Marked([heat_of(area.mask)], {"area": area.share.item(), **dict(sides)})


def heat_of(mask: Tensor) -> list[list[float]]:
    """A mask (1, S, S) as a map to outline: how much of each cell of a coarse grid it holds."""
    grid = F.adaptive_avg_pool2d(mask.float(), min(HEAT_GRID, mask.shape[-1]))[0]
    heat: list[list[float]] = grid.tolist()
    return heat


def active(store: Store, planned: PlannedTile, features: Sequence[Feature]) -> Marked | None:
    """Where each feature of a tile's terms is active in its image, over half of its own maximum.

    Args:
        store: of the run, which has kept the maps.
        planned: the tile.
        features: of the whole figure; a heat for each, empty where the tile has no such term.

    Returns:
        None where the maps are not there.
    """
    path = store.map_path(planned.file)
    if not store.folder.has(path):
        return None
    maps = read_tensors(store.folder, path, PICTURE_BYTES)  # (H, W) each
    if any(getattr(maps.get(str(number)), "ndim", None) != 2 for number in range(len(planned.tile.terms))):
        raise FeatlightError(f"{path}: it holds no map for each term of its tile; delete it and the tile")
    found = {
        (term.layer, term.feature): torch.tensor(maps[str(number)])[None].double()  # (1, H, W)
        for number, term in enumerate(planned.tile.terms)
    }
    heats, numbers = [], {}
    for feature in features:
        map_ = found.get(feature, torch.zeros(1, 1, 1))  # (1, H, W)
        peak = map_.amax().clamp(min=1e-30)
        heats.append((map_[0] / peak).tolist())
        if feature in found:
            numbers[f"active {label(feature)}"] = activity_overlap(map_, map_).first.item()
    if len(found) == 2:
        numbers["active both"] = activity_overlap(*found.values()).both.item()
    return Marked(heats, numbers)


def label(feature: Feature) -> str:
    """`Mixed_6a 199`, as captions and columns say it."""
    return f"{feature[0]} {'all' if feature[1] is None else feature[1]}"
