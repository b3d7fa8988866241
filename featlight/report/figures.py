"""The figures of a run, drawn from its tiles, each with its numbers in a table."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from featlight.analysis.image_metrics import structural_similarity
from featlight.analysis.localization import MarkedAreas, feature_label, mark_active, mark_changed, tile_pixels
from featlight.config.inputs.sizes import image_size, size_words
from featlight.config.schema import Figure
from featlight.drawing.animation import encode_animation, octave_frames
from featlight.drawing.outline import OUTLINES, draw_heat
from featlight.drawing.rows import Row, draw_rows
from featlight.drawing.sheet import Cell
from featlight.image_io import encode_png
from featlight.param.image import resize
from featlight.plan.plan import PlannedTile
from featlight.report.growth import added_neurons, draw_added, frames, growths
from featlight.report.tables import cell_text
from featlight.store.contents import read_picture
from featlight.store.snapshot import Snapshot

GROWTH_MS, OCTAVE_MS, HOLD_MS = 120, 700, 1500
FORMATS: tuple[Literal["WEBP"], Literal["GIF"]] = ("WEBP", "GIF")
FROM_RECORDS = ("activation_start", "activation_end", "total_variation", "high_frequency_share")
NOTES = {"areas": "what it changed", "activity": "where active"}


def draw_figure(snapshot: Snapshot, cells: Mapping[str, Cell]) -> list[str]:
    """Draw the figure that a plan asks for, and write its table.

    Args:
        snapshot: of the run, whose plan has a figure.
        cells: by file, as the atlas shows them.

    Returns:
        Paths of what was written, from the run directory.
    """
    assert snapshot.plan.figure is not None
    drawing = _Drawing(snapshot, snapshot.plan.figure, cells)
    match drawing.figure.kind:
        case "growth":
            drawing.growth()
        case "octaves":
            drawing.octaves()
        case _:
            drawing.grid()
    drawing.write(f"figures/{drawing.figure.kind}.csv", drawing.table().encode())
    return drawing.written


@dataclass
class _Drawing:
    """A figure on its way."""

    snapshot: Snapshot
    figure: Figure
    cells: Mapping[str, Cell]
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)  # by file and column
    written: list[str] = field(default_factory=list)

    def write(self, name: str, content: bytes) -> None:
        self.snapshot.store.write_output(name, content)
        self.written.append(name)

    def grid(self) -> None:
        """Rows of tiles; where places are asked for, below each the same tiles with outlines around them."""
        plan, kind = self.snapshot.plan, self.figure.kind
        rows = self._rows()
        words: Callable[[PlannedTile], str] = {
            "tile": lambda planned: planned.variant,
            "feature": lambda planned: planned.tile.label.removeprefix(planned.tile.objective_label).strip(),
        }.get(self.figure.rows, _column)
        labels = [[words(planned) for planned in tiles] for tiles in rows.values()]
        alike = all(row == labels[0] for row in labels) and any(labels[0])
        places = {} if kind == "grid" else self._places()
        drawn = []
        for name, tiles in rows.items():
            drawn.append(Row(name, [self.cells[planned.file] for planned in tiles]))
            if kind != "grid":
                outlined = [_outlined(self.cells[planned.file], places.get(planned.file)) for planned in tiles]
                drawn.append(Row("", outlined, note=NOTES[kind]))
        self.numbers.update({file: place.numbers for file, place in places.items()})
        title = self._title(plan.network.model)
        picture = draw_rows(
            drawn,
            title=title,
            subtitle=f"{plan.network.weights} · {plan.created}",
            footer=self._legend() if kind == "activity" else "",
            columns=labels[0] if alike else None,
        )
        self.write(f"figures/{kind}.png", encode_png(picture, {"Title": title}))

    def growth(self) -> None:
        """An animation for each growing feature, and a sheet of its steps where the neurons were made alone, too."""
        for growth in growths(self.snapshot.plan):
            title = self._title(f"{growth.layer} {growth.feature}")
            shown = frames(growth, self.cells, title=title, mark=self.figure.mark)
            self._animate(f"growth-{growth.name}", shown, GROWTH_MS)
            added = added_neurons(self.snapshot, growth)
            if added:
                title = f"{growth.layer} {growth.feature}: where each added neuron's change falls"
                sheet = encode_png(draw_added(added, growth, title=title), {"Title": title})
                self.write(f"figures/added-{growth.name}.png", sheet)
                self.numbers.update({step.planned.file: {"change_outside": step.outside} for step in added})

    def octaves(self) -> None:
        """One animation for each tile, an octave in each frame."""
        plan, store = self.snapshot.plan, self.snapshot.store
        for planned in plan.tiles:
            sizes = [octave.size for octave in plan.settings[planned.variant].recipe.octaves]
            paths = list(store.extra_paths(planned, plan, ["octaves"]))
            if store.folder.has(*paths):
                ends = [Cell("", partial(read_picture, store.folder, path)) for path in paths]
                pictures = list(octave_frames(ends, sizes, title=self._title(planned.tile.name)))
                name = "-".join(filter(None, ["octaves", planned.variant, planned.tile.name.replace("/", "-")]))
                self._animate(name, pictures, OCTAVE_MS)

    def table(self) -> str:
        """A line for each tile: size, activations, how rough it is, how alike the same tile of the first variant.

        Tiles of several sizes are compared at the smaller one. Roughness is of the tile as it is: compare at one size.
        """
        lines = io.StringIO()
        own = list(dict.fromkeys(column for found in self.numbers.values() for column in found))
        columns = ["tile", "variant", "status", "size", *FROM_RECORDS, "similarity", *own]
        writer = csv.DictWriter(lines, columns, lineterminator="\n")
        writer.writeheader()
        first: dict[str, Tensor] = {}
        for planned in self.snapshot.plan.tiles:
            record = self.snapshot.there.get(planned.file)
            if record is None:
                continue
            image = tile_pixels(self.snapshot.store, planned.file)  # (1, 3, S, S)
            row: dict[str, Any] = {"tile": planned.tile.name, "variant": planned.variant, "status": record["status"]}
            row = {column: cell_text(words) for column, words in row.items()}
            row |= {key: record[key] for key in FROM_RECORDS}  # type: ignore[literal-required]
            row["size"] = size_words(image_size(*image.shape[-2:]))
            reference = first.setdefault(planned.tile.name, image)
            if reference is not image:
                row["similarity"] = f"{_similarity(reference, image):.4f}"
            row |= {column: f"{value:.6g}" for column, value in self.numbers.get(planned.file, {}).items()}
            writer.writerow(row)
        return lines.getvalue()

    def _rows(self) -> dict[str, list[PlannedTile]]:
        """The tiles of each row of a grid, by the row's name."""
        name: Callable[[PlannedTile], str] = {
            "layer": lambda planned: "" if planned.tile.is_named else planned.tile.terms[0].layer,
            "variant": lambda planned: planned.variant,
            "tile": lambda planned: planned.label,
            "feature": lambda planned: f"{planned.tile.objective_label} {planned.title}".rstrip(),
        }[self.figure.rows]
        rows: dict[str, list[PlannedTile]] = {}
        for planned in self.snapshot.plan.tiles:
            rows.setdefault(name(planned), []).append(planned)
        return rows

    def _features(self) -> list[tuple[str, int | None]]:
        """Every feature that the tiles look for, in order."""
        terms = [term for planned in self.snapshot.plan.tiles for term in planned.tile.terms]
        return list(dict.fromkeys((term.layer, term.feature) for term in terms))

    def _legend(self) -> str:
        named = zip(OUTLINES, self._features(), strict=False)
        colors = ", ".join(f"{color} for {feature_label(feature)}" for color, feature in named)
        return f"Outlined is where a feature is active, above half of its maximum in that image: {colors}."

    def _places(self) -> dict[str, MarkedAreas]:
        """By file, for those tiles that are there."""
        snapshot, features, found = self.snapshot, self._features()[: len(OUTLINES)], {}
        for planned in snapshot.plan.tiles:
            if planned.file not in snapshot.there:
                continue
            if self.figure.kind == "areas":
                place = mark_changed(snapshot.store, snapshot.plan, planned)
            else:
                place = mark_active(snapshot.store, planned, features)
            if place is not None:
                found[planned.file] = place
        return found

    def _animate(self, name: str, pictures: Sequence[Image.Image], milliseconds: int) -> None:
        """The same frames as WebP, and as GIF for what shows nothing else."""
        for format in FORMATS:
            content = encode_animation(pictures, milliseconds=milliseconds, format=format, hold_last_ms=HOLD_MS)
            self.write(f"figures/{name}.{format.lower()}", content)

    def _title(self, otherwise: str) -> str:
        return self.figure.title or otherwise


def _column(planned: PlannedTile) -> str:
    """What stands above a tile: its layer where it is of all that has."""
    return planned.tile.terms[0].layer if planned.label == "all" and not planned.tile.is_named else planned.label


def _outlined(cell: Cell, place: MarkedAreas | None) -> Cell:
    if cell.open is None or place is None:
        return Cell("", None, cell.mark or "missing: not known")
    opened = cell.open
    return Cell("", lambda: draw_heat(opened(), *place.heats), cell.mark)


def _similarity(first: Tensor, second: Tensor) -> float:
    sizes = [(each.shape[-2], each.shape[-1]) for each in (first, second)]
    size = min(sizes, key=lambda sides: sides[0] * sides[1])
    return structural_similarity(resize(first, size, antialias=True), resize(second, size, antialias=True)).item()
