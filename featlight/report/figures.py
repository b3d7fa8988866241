"""Figures of a run, drawn from its tiles, each with a CSV table of numbers."""

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
from featlight.config.image_shape import image_size, size_words
from featlight.config.schema import Figure
from featlight.console import cell_text
from featlight.drawing.animation import encode_animation, octave_frames
from featlight.drawing.outline import OUTLINES, draw_heat
from featlight.drawing.rows import Row, draw_rows
from featlight.drawing.sheet import Cell
from featlight.image_io import encode_png
from featlight.param.image import resize
from featlight.plan.plan import PlannedTile
from featlight.report.circuit_figures import circuit_pictures, circuit_table
from featlight.report.growth import added_neurons, draw_added, frames, growths
from featlight.store.contents import read_picture
from featlight.store.snapshot import Snapshot

GROWTH_MS, OCTAVE_MS, HOLD_MS = 120, 700, 1500
FORMATS: tuple[Literal["WEBP"], Literal["GIF"]] = ("WEBP", "GIF")
FROM_RECORDS = ("activation_start", "activation_end", "total_variation", "high_frequency_share")
NOTES = {"areas": "what it changed", "activity": "where active"}


def draw_figure(snapshot: Snapshot, cells: Mapping[str, Cell]) -> list[str]:
    """Draw the figure of a plan and write its table.

    Args:
        snapshot: snapshot of a run whose plan has a figure.
        cells: cells of the atlas by tile file.

    Returns:
        Paths of the written files in the run directory.
    """
    assert snapshot.plan.figure is not None
    writer = _FigureWriter(snapshot, snapshot.plan.figure, cells)
    kind = writer.figure.kind
    if kind == "circuit":
        writer.circuit()
        return writer.written
    {"growth": writer.growth, "octaves": writer.octaves}.get(kind, writer.grid)()
    writer.write(f"figures/{kind}.csv", writer.table().encode())
    return writer.written


@dataclass
class _FigureWriter:
    """Writer of a figure's pictures and table."""

    snapshot: Snapshot
    figure: Figure
    cells: Mapping[str, Cell]
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)  # by file and column
    written: list[str] = field(default_factory=list)

    def write(self, name: str, content: bytes) -> None:
        self.snapshot.store.write_output(name, content)
        self.written.append(name)

    def grid(self) -> None:
        """Write rows of tiles; `areas` and `activity` repeat each row with outlined regions."""
        plan, kind = self.snapshot.plan, self.figure.kind
        rows = self._rows()
        column_name: Callable[[PlannedTile], str] = {
            "tile": lambda planned: planned.variant,
            "feature": lambda planned: planned.tile.label.removeprefix(planned.tile.objective_label).strip(),
        }.get(self.figure.rows, _column)
        labels = [[column_name(planned) for planned in tiles] for tiles in rows.values()]
        are_equal = all(row == labels[0] for row in labels) and any(labels[0])
        regions = {} if kind == "grid" else self._regions()
        drawn = []
        for name, tiles in rows.items():
            drawn.append(Row(name, [self.cells[planned.file] for planned in tiles]))
            if kind != "grid":
                outlined = [_outlined(self.cells[planned.file], regions.get(planned.file)) for planned in tiles]
                drawn.append(Row("", outlined, note=NOTES[kind]))
        self.numbers.update({file: region.numbers for file, region in regions.items()})
        title = self._title(plan.network.model)
        picture = draw_rows(
            drawn,
            title=title,
            subtitle=f"{plan.network.weights} · {plan.created}",
            footer=self._legend() if kind == "activity" else "",
            columns=labels[0] if are_equal else None,
        )
        self.write(f"figures/{kind}.png", encode_png(picture, {"Title": title}))

    def growth(self) -> None:
        """Write an animation of each growing feature, and a sheet of the added neurons that have their own tiles."""
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
        """Write an animation of each tile, with one frame for each octave."""
        plan, store = self.snapshot.plan, self.snapshot.store
        for planned in plan.tiles:
            sizes = [octave.size for octave in plan.settings[planned.variant].recipe.octaves]
            paths = list(store.extra_paths(planned, plan, ["octaves"]))
            if store.folder.has(*paths):
                ends = [Cell("", partial(read_picture, store.folder, path)) for path in paths]
                pictures = list(octave_frames(ends, sizes, title=self._title(planned.tile.name)))
                name = "-".join(filter(None, ["octaves", planned.variant, planned.tile.name.replace("/", "-")]))
                self._animate(name, pictures, OCTAVE_MS)

    def circuit(self) -> None:
        """Write a picture of each chosen tile's circuit, and a table of all links, once circuits are found."""
        trees = []
        for name, tree, title, picture in circuit_pictures(self.snapshot, self.figure, self.cells):
            trees.append(tree)
            self.write(f"figures/{name}.png", encode_png(picture, {"Title": title}))
        if trees:
            self.write("figures/circuit.csv", circuit_table(trees).encode())

    def table(self) -> str:
        """Return a CSV row for each tile: size, activations, roughness, similarity to the first variant's tile.

        Tiles of different sizes are compared at the smaller size. Roughness depends on the size of the tile.
        """
        lines = io.StringIO()
        figure_columns = list(dict.fromkeys(column for numbers in self.numbers.values() for column in numbers))
        columns = ["tile", "variant", "status", "size", *FROM_RECORDS, "similarity", *figure_columns]
        writer = csv.DictWriter(lines, columns, lineterminator="\n")
        writer.writeheader()
        first: dict[str, Tensor] = {}
        for planned in self.snapshot.plan.tiles:
            record = self.snapshot.there.get(planned.file)
            if record is None:
                continue
            image = tile_pixels(self.snapshot.store, planned.file)  # (1, 3, S, S)
            row: dict[str, Any] = {"tile": planned.tile.name, "variant": planned.variant, "status": record["status"]}
            row = {column: cell_text(text) for column, text in row.items()}
            row |= {key: record[key] for key in FROM_RECORDS}  # type: ignore[literal-required]
            row["size"] = size_words(image_size(*image.shape[-2:]))
            reference = first.setdefault(planned.tile.name, image)
            if reference is not image:
                row["similarity"] = f"{_similarity(reference, image):.4f}"
            row |= {column: f"{value:.6g}" for column, value in self.numbers.get(planned.file, {}).items()}
            writer.writerow(row)
        return lines.getvalue()

    def _rows(self) -> dict[str, list[PlannedTile]]:
        """Return the tiles of each row of a grid, by the row's name."""
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
        """Return every feature that the tiles excite, in order."""
        terms = [term for planned in self.snapshot.plan.tiles for term in planned.tile.terms]
        return list(dict.fromkeys((term.layer, term.feature) for term in terms))

    def _legend(self) -> str:
        features = zip(OUTLINES, self._features(), strict=False)
        colors = ", ".join(f"{color} for {feature_label(feature)}" for color, feature in features)
        return f"Outlines: the activation is above half of its maximum in that image, {colors}."

    def _regions(self) -> dict[str, MarkedAreas]:
        """Return the regions to outline, by tile file."""
        snapshot, features, regions = self.snapshot, self._features()[: len(OUTLINES)], {}
        for planned in snapshot.plan.tiles:
            if planned.file not in snapshot.there:
                continue
            if self.figure.kind == "areas":
                region = mark_changed(snapshot.store, snapshot.plan, planned)
            else:
                region = mark_active(snapshot.store, planned, features)
            if region is not None:
                regions[planned.file] = region
        return regions

    def _animate(self, name: str, pictures: Sequence[Image.Image], milliseconds: int) -> None:
        """Write an animation as WebP, and as GIF for programs that cannot show WebP."""
        for format in FORMATS:
            content = encode_animation(pictures, milliseconds=milliseconds, format=format, hold_last_ms=HOLD_MS)
            self.write(f"figures/{name}.{format.lower()}", content)

    def _title(self, otherwise: str) -> str:
        return self.figure.title or otherwise


def _column(planned: PlannedTile) -> str:
    """Return the heading of a tile's column: the layer for a tile of all features, else the tile's label."""
    return planned.tile.terms[0].layer if planned.label == "all" and not planned.tile.is_named else planned.label


def _outlined(cell: Cell, region: MarkedAreas | None) -> Cell:
    if cell.open is None or region is None:
        return Cell("", None, cell.mark or "missing: not known")
    open_tile = cell.open
    return Cell("", lambda: draw_heat(open_tile(), *region.heats), cell.mark)


def _similarity(first: Tensor, second: Tensor) -> float:
    sizes = [(image.shape[-2], image.shape[-1]) for image in (first, second)]
    size = min(sizes, key=lambda sides: sides[0] * sides[1])
    return structural_similarity(resize(first, size, antialias=True), resize(second, size, antialias=True)).item()
