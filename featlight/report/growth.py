"""How a feature grows, a neuron at a time: an animation, and where each added neuron's change falls."""

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

SHEET_TILE = 128  # px; a map of 17 x 17 makes a sheet of some 2300


class Growth(NamedTuple):
    """The prefixes of one feature in one variant, in reading order."""

    variant: str
    layer: str
    feature: int | None
    map_size: tuple[int, int]
    tiles: list[tuple[int, PlannedTile]]  # the prefix's last neuron, and its tile

    @property
    def name(self) -> str:
        """`Mixed_6b-654`, with the variant before it where the run has some; of its files."""
        feature = "all" if self.feature is None else str(self.feature)
        return "-".join(filter(None, [self.variant, file_name(self.layer), feature]))


def growths(plan: Plan) -> list[Growth]:
    """Every feature of a plan that grows."""
    found: dict[tuple[str, str, int | None], Growth] = {}
    for planned in plan.tiles:
        term = planned.tile.terms[0]
        if term.region == "prefix" and isinstance(term.index, int) and not planned.tile.is_named:
            key = (planned.variant, term.layer, term.feature)
            growth = found.setdefault(key, Growth(*key, _map_size(plan, planned.variant, term), []))
            growth.tiles.append((term.index, planned))
    for growth in found.values():
        growth.tiles.sort(key=lambda pair: pair[0])
    return list(found.values())


def frames(growth: Growth, cells: Mapping[str, Cell], *, title: str, mark: bool) -> list[Image.Image]:
    """One for each prefix."""
    positions = [divmod(last, growth.map_size[1]) for last, _ in growth.tiles]
    own = [cells[planned.file] for _, planned in growth.tiles]
    return list(growth_frames(own, positions, growth.map_size, title=title, mark=mark))


class Added(NamedTuple):
    """What one more neuron has changed."""

    planned: PlannedTile
    change: Tensor  # (S, S), absolute, summed over channels
    area: Tensor  # (1, S, S), bool: what it affects alone
    outside: float  # share of the squared change that is not in that area


def added_neurons(snapshot: Snapshot, growth: Growth) -> list[Added]:
    """Every step of a growth whose neuron the run has made alone, too, and alive."""
    store, plan = snapshot.store, snapshot.plan
    alone = _alone(plan, growth)
    before: Tensor | None = without_objective(plan, growth.tiles[0][1]) if growth.tiles[0][0] == 0 else None
    found = []
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
                found.append(Added(planned, (after - before).abs().sum(1)[0], area.mask, share))
        before = after
    return found


def _alone(plan: Plan, growth: Growth) -> dict[tuple[int, int], PlannedTile]:
    """The growing feature's neurons that the run makes one by one in the same way, by position."""
    own = _whole_map(plan.settings[growth.variant])
    found = {}
    for planned in plan.tiles:
        term = planned.tile.terms[0]
        if (
            (term.layer, term.feature, term.region) == (growth.layer, growth.feature, "neuron")
            and isinstance(term.index, tuple)
            and not planned.tile.is_named
            and _whole_map(plan.settings[planned.variant]) == own
        ):
            found[term.index] = planned
    return found


def _whole_map(settings: Settings) -> Settings:
    """The same settings, whatever region they are of."""
    return settings.model_copy(update={"region": "map", "index": None})


def draw_added(added: list[Added], growth: Growth, *, title: str) -> Image.Image:
    """A panel for each added neuron: its change, dark, and an outline around what it affects alone."""

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
        subtitle="What each added neuron changed (dark), what it affects alone (outlined), and how much of its squared "
        f"change falls outside of that: {shares.median():.0%} in the median of {len(added)}.",
        columns=growth.map_size[1],
        tile=SHEET_TILE,
    )


def _map_size(plan: Plan, variant: str, term: Term) -> tuple[int, int]:
    """The map that positions count on: the first octave's."""
    shape = plan.shape(variant, term.output)
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
