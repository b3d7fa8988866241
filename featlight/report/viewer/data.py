"""What the viewer's page is told of a run, in scripts: a browser reads no other files from disk.

What the page needs at once is in `assets/data.js`, column by column; what one tile needs (its curve, its neighbours,
its command) is in a script for each sheet of 256 tiles, which the viewer loads when such a tile is opened. How the
tiles' files end stands alone in `assets/tiles.js`, for a site that holds them otherwise.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from featlight.analysis.neighbors import nearest_tiles
from featlight.config.describe import facts, label, octave_rows
from featlight.config.inputs.sizes import fitted, size_words
from featlight.config.settings import SHARED, Settings
from featlight.console import printable
from featlight.drawing.embedding_plot import cluster_color
from featlight.drawing.sprite_sheet import COLUMNS, PER_SHEET, sprite_side
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.reproduce import command_alone
from featlight.report.sections import Atlas, Section
from featlight.store.example_files import Example, TileExamples
from featlight.store.records import TileRecord
from featlight.store.snapshot import Snapshot

ExamplesByTile = Mapping[str, TileExamples]  # by the tile's file
DATA = "assets/data.js"
TILES = "assets/tiles.js"
FORMAT = 7  # of the viewer's files; a run that was drawn with another one is drawn again


def data_script(plan: Plan, groups: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> bytes:
    """What the page needs at once.

    Args:
        plan: of the run.
        groups: of each atlas, its `columns`, with the paths of its sheets and its details.
        figures: paths of pictures, animations and tables from the run directory.
    """
    about = {
        "format": FORMAT,
        "model": plan.network.model,
        "weights": plan.network.weights,
        "checksum": plan.network.sha256,
        "created": plan.created,
        "versions": plan.versions,
        "settings": {variant: _settings(settings) for variant, settings in plan.settings.items()},
        "figures": list(figures),
    }
    return _script("run", about | {"groups": groups}, parsed=True)


def tiles_script(suffix: str) -> bytes:
    """How the tiles' files end, as in ".png"."""
    return _script("files", {"suffix": suffix})


def columns(plan: Plan, atlas: Atlas) -> dict[str, Any]:
    """An atlas as the viewer's grid needs it: one list for each number, a place for each tile."""
    section = atlas.section

    def numbers(key: str) -> list[Any]:
        return [None if record is None else record.get(key) for record in atlas.records]

    return {
        "name": section.name,
        "title": section.title,
        "subtitle": atlas.subtitle,
        "layer": section.layer,
        "variant": section.variant,
        "shape": list(plan.shape(section.variant, section.tiles[0].tile.terms[0].output)) if section.layer else None,
        "atlas": list(atlas.sheets),
        "folder": str(PurePosixPath(section.tiles[0].file).parent),
        "stems": [PurePosixPath(planned.file).stem for planned in section.tiles],
        "labels": [planned.label for planned in section.tiles],
        "features": [planned.tile.terms[0].feature for planned in section.tiles],
        "status": [cell.kind or "ok" for cell in atlas.cells],
        "start": numbers("activation_start"),
        "end": numbers("activation_end"),
        "gradient": numbers("gradient_norm"),
        "aspect": fitted(plan.settings[section.variant].recipe.final_size, sprite_side(len(section.tiles))),
        "side": sprite_side(len(section.tiles)),
        "across": COLUMNS,
        "perSheet": PER_SHEET,
    }


def alike_columns(atlas: Atlas) -> dict[str, Any]:
    """Where each tile stands among those alike, and in which cluster; nothing where nobody has looked."""
    found = atlas.likeness
    if found is None:
        return {}
    stands = dict(zip(found.tiles, zip(found.places, found.clusters, strict=True), strict=True))
    both = [stands.get(planned.file, (None, None)) for planned in atlas.section.tiles]
    colors = [cluster_color(number) for number in range(1, max(found.clusters) + 1)]
    return {
        "alike": {
            "words": found.words,
            "columns": found.columns,
            "rows": found.rows,
            "places": [place for place, _ in both],
            "clusters": [cluster for _, cluster in both],
            "colors": ["#{:02x}{:02x}{:02x}".format(*color) for color in colors],
        }
    }


def example_columns(atlas: Atlas, examples: ExamplesByTile) -> dict[str, Any]:
    """The value of each tile's best example."""
    best = best_examples(atlas.section, examples)
    return {"example": [None if each is None else _six(each.value) for each in best]}


def best_examples(section: Section, examples: ExamplesByTile) -> list[Example | None]:
    """The best example of each tile of a section; None where it has none."""
    found = [each.images if (each := examples.get(planned.file)) else () for planned in section.tiles]
    return [next(iter(images), None) for images in found]


def detail_scripts(snapshot: Snapshot, atlas: Atlas, examples: ExamplesByTile) -> Iterator[tuple[str, bytes]]:
    """The scripts that hold what one tile at a time needs, and their paths from the run directory."""
    section, near, strips = atlas.section, _neighbors(atlas), _strips(snapshot, atlas)
    for start in range(0, len(section.tiles), PER_SHEET):
        part = range(start, min(start + PER_SHEET, len(section.tiles)))
        entries = [
            _detail(snapshot.plan, atlas, i) | strips[i] | near[i] | _examples(section.tiles[i], examples) for i in part
        ]
        name = f"{section.assets}{start // PER_SHEET:02d}.js"
        yield name, _script("details", {"group": section.name, "start": start, "tiles": entries})


def _settings(settings: Settings) -> dict[str, Any]:
    """A variant's settings in words, those that it may have for itself and those of the whole run apart."""
    words = facts(settings)
    shared = {key: words.pop(key) for key in SHARED if key in words}
    return {
        "octaves": [{"size": size_words(octave.size), "steps": octave.steps} for octave in settings.recipe.octaves],
        "table": octave_rows(settings.recipe),
        "own": [(label(key), value) for key, value in words.items() if key != "octaves"],
        "shared": [(label(key), value) for key, value in shared.items() if key not in ("model", "weights")],
    }


def _detail(plan: Plan, atlas: Atlas, i: int) -> dict[str, Any]:
    record: TileRecord | dict[str, Any] = atlas.records[i] or {}
    return {
        "reason": record.get("reason"),
        "seconds": record.get("seconds"),
        "sha256": record.get("sha256"),
        "curve": record.get("curve") or [],
        "command": command_alone(plan, atlas.section.tiles[i]),
    }


def _strips(snapshot: Snapshot, atlas: Atlas) -> list[dict[str, list[str]]]:
    """By tile, the pictures of its octaves' ends that are there; all are looked for at once."""
    store = snapshot.store
    strips = [list(store.extra_paths(planned, snapshot.plan, ["octaves"])) for planned in atlas.section.tiles]
    there = store.folder.sizes(path for strip in strips for path in strip)
    return [
        {"octaves": [path.relative_to(store.root).as_posix() for path in strip if path in there]} for strip in strips
    ]


def _examples(planned: PlannedTile, examples: ExamplesByTile) -> dict[str, Any]:
    """A tile's examples: file, value and class of each, best first; and how often it was answered how strongly."""
    found = examples.get(planned.file)
    if found is None or not found.images:
        return {}
    return {"examples": [_example(each) for each in found.images], "histogram": found.histogram}


def _example(each: Example) -> list[Any]:
    named = [] if each.class_name is None else [printable(each.class_name)]
    return [printable(each.file), _six(each.value), *named]


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _neighbors(atlas: Atlas) -> list[dict[str, str]]:
    """By tile, its neighbours and their cosines, packed; nothing where there are no vectors."""
    if atlas.vectors is None:
        return [{} for _ in atlas.section.tiles]
    rows, cosines = nearest_tiles(atlas.vectors)
    place = "<u2" if len(rows) <= 0xFFFF else "<u4"
    found = []
    for row, cosine in zip(rows, cosines, strict=True):
        there = row >= 0
        packed = np.rint(cosine[there] * 127).astype("i1")
        found.append({"neighbours": _packed(row[there].astype(place)), "cosines": _packed(packed)})
    return found


def _packed(values: "np.ndarray[Any, Any]") -> str:
    return base64.b64encode(values.tobytes()).decode()


def _script(call: str, values: Mapping[str, Any], *, parsed: bool = False) -> bytes:
    """A script that hands values to the viewer; no text in them can end it or be read as markup.

    Args:
        call: what it calls.
        values: for the call.
        parsed: whether the viewer parses them as JSON: of 65,536 tiles in a sixth of the time that a literal takes.
    """
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))  # ASCII alone
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    if parsed:
        text = text.replace("\\", "\\\\").replace("'", "\\'")
        text = f"JSON.parse('{text}')"
    return f"Featlight.{call}({text});\n".encode()
