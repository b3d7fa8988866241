"""Growth of a feature neuron by neuron: frames of its animation, and the change that each added neuron makes."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from featlight.analysis.image_metrics import change_outside
from featlight.analysis.localization import changed_area, coarse_heat, tile_pixels, without_objective
from featlight.config.settings import Settings
from featlight.config.tile import Term, file_name
from featlight.drawing.animation import growth_frames
from featlight.drawing.atlas import draw_grid
from featlight.drawing.outline import draw_heat
from featlight.drawing.sheet import Cell
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.snapshot import Snapshot

SHEET_TILE = 128  # px; a map of 17 x 17 gives a sheet of about 2300 px


class Growth(NamedTuple):
    """Tiles of one feature's prefixes in one variant, in reading order."""

    variant: str
    layer: str
    feature: int | None
    map_size: tuple[int, int]
    tiles: list[tuple[int, PlannedTile]]  # last neuron of the prefix, and its tile

    @property
    def name(self) -> str:
        """Name of its files, such as `Mixed_6b-654`; a variant's name comes first."""
        feature = "all" if self.feature is None else str(self.feature)
        return "-".join(filter(None, [self.variant, file_name(self.layer), feature]))


def growths(plan: Plan) -> list[Growth]:
    """Return the growth of every feature that has prefix tiles in a plan."""
    result: dict[tuple[str, str, int | None], Growth] = {}
    for planned in plan.tiles:
        term = planned.tile.terms[0]
        if term.region == "prefix" and isinstance(term.index, int) and not planned.tile.is_named:
            key = (planned.variant, term.layer, term.feature)
            growth = result.setdefault(key, Growth(*key, _map_size(plan, planned.variant, term), []))
            growth.tiles.append((term.index, planned))
    for growth in result.values():
        growth.tiles.sort(key=lambda pair: pair[0])
    return list(result.values())


def frames(growth: Growth, cells: Mapping[str, Cell], *, title: str, mark: bool) -> list[Image.Image]:
    """Draw one frame for each prefix."""
    positions = [divmod(last, growth.map_size[1]) for last, _ in growth.tiles]
    prefix_cells = [cells[planned.file] for _, planned in growth.tiles]
    return list(growth_frames(prefix_cells, positions, growth.map_size, title=title, mark=mark))


class Added(NamedTuple):
    """Change of the image when one neuron is added.

    Args:
        planned: tile of the prefix that ends with this neuron.
        change: absolute change summed over channels, (S, S).
        area: mask of the area that the neuron's own tile affects, (1, S, S), bool.
        outside: share of the squared change outside of that area.
    """

    planned: PlannedTile
    change: Tensor
    area: Tensor
    outside: float


def added_neurons(snapshot: Snapshot, growth: Growth) -> list[Added]:
    """Return every step of a growth whose neuron also has a tile of its own that is not dead."""
    store, plan = snapshot.store, snapshot.plan
    alone = _alone(plan, growth)
    before: Tensor | None = without_objective(plan, growth.tiles[0][1]) if growth.tiles[0][0] == 0 else None
    steps = []
    expected = 0
    for last, planned in growth.tiles:
        if last != expected:
            before = None
        expected = last + 1
        if planned.file not in snapshot.there:
            before = None
            continue
        after = tile_pixels(store, planned.file)
        neuron = alone.get(divmod(last, growth.map_size[1]))
        if before is not None and neuron is not None and neuron.file in snapshot.there:
            area = changed_area(store, plan, neuron)
            if area is not None and area.mask.any() and area.mask.shape[-2:] == after.shape[-2:]:
                share = change_outside(before, after, area.mask).item()
                steps.append(Added(planned, (after - before).abs().sum(1)[0], area.mask, share))
        before = after
    return steps


def _alone(plan: Plan, growth: Growth) -> dict[tuple[int, int], PlannedTile]:
    """Return the feature's single-neuron tiles with the same settings, by position."""
    settings = _whole_map(plan.settings[growth.variant])
    result = {}
    for planned in plan.tiles:
        term = planned.tile.terms[0]
        if (
            (term.layer, term.feature, term.region) == (growth.layer, growth.feature, "neuron")
            and isinstance(term.index, tuple)
            and not planned.tile.is_named
            and _whole_map(plan.settings[planned.variant]) == settings
        ):
            result[term.index] = planned
    return result


def _whole_map(settings: Settings) -> Settings:
    """Return the settings without their region."""
    return settings.model_copy(update={"region": "map", "index": None})


def draw_added(added: list[Added], growth: Growth, *, title: str) -> Image.Image:
    """Draw a panel for each added neuron: the change in dark, and an outline around the area of its own tile."""

    def cell(step: Added) -> Cell:
        def show() -> Image.Image:
            bright = step.change / torch.quantile(step.change.flatten()[:: 1 + step.change.numel() // 100_000], 0.995)
            gray = (255 * (1 - bright.clamp(0, 1))).round().to(torch.uint8).numpy()
            return draw_heat(Image.fromarray(np.stack([gray] * 3, -1)), coarse_heat(step.area), fade=False)

        return Cell(f"{step.planned.label} · {step.outside:.0%}", show)

    shares = torch.tensor([step.outside for step in added])
    return draw_grid(
        [cell(step) for step in added],
        title=title,
        subtitle="Change by each added neuron (dark), area that it affects alone (outlined), and share of the squared "
        f"change outside of that area: median {shares.median():.0%} of {len(added)}.",
        columns=growth.map_size[1],
        tile=SHEET_TILE,
    )


def _map_size(plan: Plan, variant: str, term: Term) -> tuple[int, int]:
    """Return the size of the activation map in the first octave, to which positions refer."""
    shape = plan.shape(variant, term.output)
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
