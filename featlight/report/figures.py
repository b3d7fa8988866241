"""The figures of a run, drawn from its tiles, each with its numbers in a table."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from featlight.analysis.image_metrics import similarity
from featlight.analysis.localization import Marked, active, changed, label, pixels
from featlight.drawing.animation import encode_animation, octave_frames
from featlight.drawing.atlas import encode_png
from featlight.drawing.outline import OUTLINES, draw_heat
from featlight.drawing.rows import Row, draw_rows
from featlight.drawing.sheet import Cell
from featlight.param.image import resize
from featlight.plan.plan import Plan, Planned
from featlight.report.growth import added_neurons, draw_added, frames, growths
from featlight.store.store import Record, Store

GROWTH_MS, OCTAVE_MS, HOLD_MS = 120, 700, 1500
FORMATS: tuple[Literal["WEBP"], Literal["GIF"]] = ("WEBP", "GIF")
FROM_RECORDS = ("activation_start", "activation_end", "total_variation", "high_frequency_share")

Numbers = dict[str, dict[str, float]]  # by file and column


def draw_figure(store: Store, plan: Plan, cells: Mapping[str, Cell], records: Mapping[str, Record]) -> list[str]:
    """Draw the figure that a plan asks for, and write its table.

    Args:
        store: of the run.
        plan: of the run, with a figure.
        cells: by file, as the atlas shows them.
        records: by file.

    Returns:
        Paths of what was written, from the run directory.
    """
    assert plan.figure is not None
    kind = plan.figure.kind
    numbers: Numbers = {}
    match kind:
        case "growth":
            written = _growth(store, plan, cells, records, numbers)
        case "octaves":
            written = _octaves(store, plan)
        case _:
            written = _grid(store, plan, cells, records, numbers)
    name = f"figures/{kind}.csv"
    store.write_output(name, _table(store, plan, records, numbers).encode())
    return [*written, name]


def _rows(plan: Plan) -> dict[str, list[Planned]]:
    """The tiles of each row of a grid, by the row's name."""
    assert plan.figure is not None
    name: Callable[[Planned], str] = {
        "layer": lambda planned: "" if planned.tile.is_named else planned.tile.terms[0].layer,
        "variant": lambda planned: planned.variant,
        "tile": lambda planned: planned.tile.label,
    }[plan.figure.rows]
    rows: dict[str, list[Planned]] = {}
    for planned in plan.tiles:
        rows.setdefault(name(planned), []).append(planned)
    return rows


def _grid(
    store: Store, plan: Plan, cells: Mapping[str, Cell], records: Mapping[str, Record], numbers: Numbers
) -> list[str]:
    """Rows of tiles; where places are asked for, below each the same tiles with outlines around them."""
    assert plan.figure is not None
    kind, title = plan.figure.kind, _title(plan, plan.network.model)
    rows = _rows(plan)
    across = "variant" if plan.figure.rows == "tile" else "label"
    labels = [[p.variant if across == "variant" else p.tile.label for p in tiles] for tiles in rows.values()]
    alike = all(row == labels[0] for row in labels) and any(labels[0])
    places = _places(store, plan, records)
    drawn = []
    for name, tiles in rows.items():
        drawn.append(Row(name, [cells[planned.file] for planned in tiles]))
        if kind != "grid":
            drawn.append(Row("", [_outlined(cells[p.file], places.get(p.file)) for p in tiles], note=_NOTES[kind]))
    numbers.update({file: place.numbers for file, place in places.items()})
    picture = draw_rows(
        drawn,
        title=title,
        subtitle=f"{plan.network.weights} · {plan.created}",
        footer=_legend(plan) if kind == "activity" else "",
        columns=labels[0] if alike else None,
    )
    store.write_output(f"figures/{kind}.png", encode_png(picture, {"Title": title}))
    return [f"figures/{kind}.png"]


_NOTES = {"areas": "what it changed", "activity": "where active"}


def _features(plan: Plan) -> list[tuple[str, int | None]]:
    """Every feature that a plan's tiles look for, in order."""
    return list(dict.fromkeys((term.layer, term.feature) for p in plan.tiles for term in p.tile.terms))


def _legend(plan: Plan) -> str:
    named = zip(OUTLINES, _features(plan), strict=False)
    colors = ", ".join(f"{color} for {label(feature)}" for color, feature in named)
    return f"Outlined is where a feature is active, above half of its maximum in that image: {colors}."


def _places(store: Store, plan: Plan, records: Mapping[str, Record]) -> dict[str, Marked]:
    """By file, for those tiles that are there and that the figure asks the places of."""
    assert plan.figure is not None
    kind, features, found = plan.figure.kind, _features(plan)[: len(OUTLINES)], {}
    for planned in plan.tiles:
        if records.get(planned.file, {}).get("status", "failed") == "failed":
            continue
        match kind:
            case "areas":
                place = changed(store, plan, planned)
            case "activity":
                place = active(store, planned, features)
            case _:
                place = None
        if place is not None:
            found[planned.file] = place
    return found


def _outlined(cell: Cell, place: Marked | None) -> Cell:
    if cell.open is None or place is None:
        return Cell("", None, cell.mark or "missing: not known")
    opened = cell.open
    return Cell("", lambda: draw_heat(opened(), *place.heats), cell.mark)


def _growth(
    store: Store, plan: Plan, cells: Mapping[str, Cell], records: Mapping[str, Record], numbers: Numbers
) -> list[str]:
    """An animation for each growing feature, and a sheet of its steps where the neurons were made alone, too."""
    assert plan.figure is not None
    written = []
    for growth in growths(plan):
        title = _title(plan, f"{growth.layer} {growth.feature}")
        written += _animate(store, f"growth-{growth.name}", frames(growth, cells, title=title, mark=plan.figure.mark))
        added = added_neurons(store, plan, growth, records)
        if added:
            name = f"figures/added-{growth.name}.png"
            title = f"{growth.layer} {growth.feature}: where each added neuron's change falls"
            store.write_output(name, encode_png(draw_added(added, growth, title=title), {"Title": title}))
            written.append(name)
            numbers.update({step.planned.file: {"change_outside": step.outside} for step in added})
    return written


def _octaves(store: Store, plan: Plan) -> list[str]:
    """One animation for each tile, an octave in each frame."""
    written = []
    for planned in plan.tiles:
        sizes = [octave.size for octave in plan.settings[planned.variant].recipe.octaves]
        paths = [store.octave_path(planned.file, number) for number in range(1, len(sizes) + 1)]
        if all(path.is_file() for path in paths):
            ends = [Cell("", lambda path=path: Image.open(path)) for path in paths]  # type: ignore[misc]
            pictures = list(octave_frames(ends, sizes, title=_title(plan, planned.tile.name)))
            name = "-".join(filter(None, ["octaves", planned.variant, planned.tile.name.replace("/", "-")]))
            written += _animate(store, name, pictures, OCTAVE_MS)
    return written


def _animate(store: Store, name: str, pictures: Sequence[Image.Image], milliseconds: int = GROWTH_MS) -> list[str]:
    """The same frames as WebP, and as GIF for what shows nothing else."""
    written = []
    for format in FORMATS:
        file = f"figures/{name}.{format.lower()}"
        content = encode_animation(pictures, milliseconds=milliseconds, format=format, hold_last_ms=HOLD_MS)
        store.write_output(file, content)
        written.append(file)
    return written


def _table(store: Store, plan: Plan, records: Mapping[str, Record], numbers: Numbers) -> str:
    """A line for each tile: size, activations, how rough it is, how alike the same tile of the first variant.

    Tiles of several sizes are compared at the smaller one. Roughness is of the tile as it is: compare at one size.
    """
    lines = io.StringIO()
    own = list(dict.fromkeys(column for found in numbers.values() for column in found))
    columns = ["tile", "variant", "status", "size", *FROM_RECORDS, "similarity", *own]
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    writer.writeheader()
    first: dict[str, Tensor] = {}
    for planned in plan.tiles:
        record = records.get(planned.file)
        if record is None or record["status"] == "failed":
            continue
        image = pixels(store, planned.file)  # (1, 3, S, S)
        row: dict[str, Any] = {"tile": planned.tile.name, "variant": planned.variant, "status": record["status"]}
        row |= {key: record.get(key) for key in FROM_RECORDS}
        row["size"] = image.shape[-1]
        reference = first.setdefault(planned.tile.name, image)
        if reference is not image:
            row["similarity"] = f"{_similarity(reference, image):.4f}"
        row |= {column: f"{value:.6g}" for column, value in numbers.get(planned.file, {}).items()}
        writer.writerow(row)
    return lines.getvalue()


def _similarity(first: Tensor, second: Tensor) -> float:
    size = min(first.shape[-1], second.shape[-1])
    return similarity(resize(first, size, antialias=True), resize(second, size, antialias=True)).item()


def _title(plan: Plan, otherwise: str) -> str:
    assert plan.figure is not None
    return plan.figure.title or otherwise
