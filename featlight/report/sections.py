"""The atlases that a plan's tiles make: which tiles stand in each, and what stands above them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from featlight.config.describe import brief
from featlight.config.tile import file_name
from featlight.drawing.atlas import Cell
from featlight.drawing.sheet import Heading
from featlight.errors import FeatlightError
from featlight.plan.plan import Plan, Planned
from featlight.store.store import Record


@dataclass(frozen=True)
class Section:
    """The tiles of one atlas: those of a layer, or the named ones, in one variant."""

    variant: str
    layer: str  # "" for named tiles
    tiles: Sequence[Planned]

    @property
    def name(self) -> str:
        """Of its files, without suffix."""
        layer = file_name(self.layer) if self.layer else "named"
        return f"{self.variant}/{layer}" if self.variant else layer

    @property
    def title(self) -> str:
        return " ".join(filter(None, [self.layer or "named tiles", self.variant]))


def sections(plan: Plan) -> list[Section]:
    """The atlases that a plan's tiles make, features in ascending order."""
    groups: dict[tuple[str, str], list[Planned]] = {}
    for planned in plan.tiles:
        groups.setdefault(planned.group, []).append(planned)
    return [
        Section(variant, layer, sorted(tiles, key=lambda planned: planned.tile.name) if layer else tiles)
        for (variant, layer), tiles in groups.items()
    ]


def atlas_of(section: Section) -> str:
    """Where its atlas is, in the run directory."""
    return f"atlas/{section.name}.png"


def cell(root: Path, planned: Planned, record: Record | None) -> Cell:
    path = root / planned.file

    def show() -> Image.Image:
        try:
            with Image.open(path, formats=("PNG",)) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError) as error:
            reason = f"damaged ({error}); delete it, and the same command makes it again"
            raise FeatlightError(f"{path}: {reason}") from None

    if record is None or not path.is_file():
        if record is not None and record["status"] == "failed":
            return Cell(planned.tile.label, None, f"failed: {record['reason']}")
        return Cell(planned.tile.label, None, "missing: not made yet")
    if record["status"] == "ok":
        return Cell(planned.tile.label, show)
    return Cell(
        planned.tile.label, show if record["status"] == "dead" else None, f"{record['status']}: {record['reason']}"
    )


def heading(plan: Plan, section: Section) -> Heading:
    """What stands above its tiles: network and layer, and how they were made."""
    title = f"{plan.network.model} {section.title}"
    return Heading(title, "", f"{plan.network.weights} · {subtitle(plan, section)} · {plan.created}", "")


def subtitle(plan: Plan, section: Section) -> str:
    """How many of a layer's features its tiles show, and how these were made."""
    there = len(section.tiles)
    features = plan.shape(section.variant, section.layer)[0] if section.layer else there
    return f"{there} of {features} features · {brief(plan.settings[section.variant])}"
