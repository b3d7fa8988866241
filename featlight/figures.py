"""The figures of a run, drawn from its tiles, each with its numbers in a table."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from featlight.animation import encode_animation, growth_frames, octave_frames
from featlight.atlas import encode_png
from featlight.comparison import Row, draw_rows
from featlight.measure import high_frequency_share, similarity, total_variation
from featlight.plan import Plan, Planned
from featlight.sheet import Cell
from featlight.store import Record, Store
from featlight.tile import Term

GROWTH_MS, OCTAVE_MS, HOLD_MS = 120, 700, 1500
NUMBERS = ("activation_start", "activation_end")


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
    kind = plan.figure["kind"]
    match kind:
        case "grid":
            written = _grid(store, plan, cells)
        case "growth":
            written = _growth(store, plan, cells)
        case _:
            written = _octaves(store, plan)
    name = f"figures/{kind}.csv"
    store.write_output(name, _table(store, plan, records).encode())
    return [*written, name]


def _rows(plan: Plan) -> dict[str, list[Planned]]:
    """The tiles of each row of a grid, by the row's name."""
    assert plan.figure is not None
    name: Callable[[Planned], str] = {
        "layer": lambda planned: "named" if planned.tile.is_named else planned.tile.terms[0].layer,
        "variant": lambda planned: planned.variant,
        "tile": lambda planned: planned.tile.label,
    }[plan.figure["rows"]]
    rows: dict[str, list[Planned]] = {}
    for planned in plan.tiles:
        rows.setdefault(name(planned), []).append(planned)
    return rows


def _grid(store: Store, plan: Plan, cells: Mapping[str, Cell]) -> list[str]:
    assert plan.figure is not None
    rows = _rows(plan)
    across = "variant" if plan.figure["rows"] == "tile" else "label"
    labels = [[p.variant if across == "variant" else p.tile.label for p in tiles] for tiles in rows.values()]
    alike = all(row == labels[0] for row in labels) and any(labels[0])
    picture = draw_rows(
        [Row(name, [cells[planned.file] for planned in tiles]) for name, tiles in rows.items()],
        title=_title(plan, plan.network["model"]),
        subtitle=f"{plan.network['weights']} · {plan.created}",
        columns=labels[0] if alike else None,
    )
    store.write_output("figures/grid.png", encode_png(picture, {"Title": _title(plan, plan.network["model"])}))
    return ["figures/grid.png"]


def _growth(store: Store, plan: Plan, cells: Mapping[str, Cell]) -> list[str]:
    """One animation for each feature whose prefixes the run holds, in reading order."""
    assert plan.figure is not None
    features: dict[tuple[str, str, int | None], list[tuple[int, Planned]]] = {}
    for planned in plan.tiles:
        term = planned.tile.terms[0]
        if term.region == "prefix" and isinstance(term.index, int) and not planned.tile.is_named:
            features.setdefault((planned.variant, term.layer, term.feature), []).append((term.index, planned))
    written = []
    for (variant, layer, feature), found in features.items():
        found.sort(key=lambda pair: pair[0])
        height, width = _map_size(plan, variant, found[0][1].tile.terms[0])
        frames = growth_frames(
            [cells[planned.file] for _, planned in found],
            [divmod(last, width) for last, _ in found],
            (height, width),
            title=_title(plan, f"{layer} {feature}"),
            mark=plan.figure["mark"],
        )
        written += _animate(store, f"growth-{variant}-{layer}-{feature}", list(frames), GROWTH_MS)
    return written


def _octaves(store: Store, plan: Plan) -> list[str]:
    """One animation for each tile, an octave in each frame."""
    written = []
    for planned in plan.tiles:
        sizes = [octave["size"] for octave in plan.fingerprints[planned.variant]["recipe"]["octaves"]]
        paths = [store.octave_path(planned.file, number) for number in range(1, len(sizes) + 1)]
        if all(path.is_file() for path in paths):
            ends = [Cell("", lambda path=path: Image.open(path)) for path in paths]  # type: ignore[misc]
            frames = octave_frames(ends, sizes, title=_title(plan, planned.tile.name))
            name = f"octaves-{planned.variant}-{planned.tile.name.replace('/', '-')}"
            written += _animate(store, name, list(frames), OCTAVE_MS)
    return written


def _animate(store: Store, name: str, frames: Sequence[Image.Image], milliseconds: int) -> list[str]:
    """The same frames as WebP, and as GIF for what shows nothing else."""
    stem = f"figures/{name.replace('--', '-')}"
    store.write_output(
        f"{stem}.webp", encode_animation(frames, milliseconds=milliseconds, format="WEBP", hold_last_ms=HOLD_MS)
    )
    store.write_output(
        f"{stem}.gif", encode_animation(frames, milliseconds=milliseconds, format="GIF", hold_last_ms=HOLD_MS)
    )
    return [f"{stem}.webp", f"{stem}.gif"]


def _table(store: Store, plan: Plan, records: Mapping[str, Record]) -> str:
    """A line for each tile: its activations, how rough it is, and how alike the same tile of the first variant."""
    lines = io.StringIO()
    columns = ["tile", "variant", "status", *NUMBERS, "total_variation", "high_frequency_share", "similarity"]
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    writer.writeheader()
    first: dict[str, Tensor] = {}
    for planned in plan.tiles:
        record = records.get(planned.file)
        if record is None or record["status"] == "failed":
            continue
        image = _pixels(store, planned.file)
        row: dict[str, Any] = {"tile": planned.tile.name, "variant": planned.variant, "status": record["status"]}
        row |= {key: record[key] for key in NUMBERS}
        row["total_variation"] = f"{total_variation(image).item():.5f}"
        row["high_frequency_share"] = f"{high_frequency_share(image).item():.5f}"
        reference = first.setdefault(planned.tile.name, image)
        if reference is not image and reference.shape == image.shape:
            row["similarity"] = f"{similarity(reference, image).item():.4f}"
        writer.writerow(row)
    return lines.getvalue()


def _pixels(store: Store, file: str) -> Tensor:
    """A tile as it is shown, (1, 3, H, W), in [0, 1]."""
    with Image.open(store.root / file, formats=("PNG",)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].double() / 255


def _map_size(plan: Plan, variant: str, term: Term) -> tuple[int, int]:
    """The map that positions count on: the first octave's."""
    size = str(plan.fingerprints[variant]["recipe"]["octaves"][0]["size"])
    shape = plan.layers[size][term.layer]
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def _title(plan: Plan, otherwise: str) -> str:
    assert plan.figure is not None
    return plan.figure["title"] or otherwise
