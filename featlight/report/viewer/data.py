"""Data of a run for the viewer, as scripts, because a page opened from disk may not read other files.

`assets/data.js` holds what the page needs at once, in columns. Details of a tile (its curve, neighbors and command)
are in one script for each sheet of 256 tiles, which the viewer loads when a tile is opened. `assets/tiles.js` holds
only the suffix of the tiles' files, which differs in an exported site.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from featlight.analysis.similar_tiles import nearest_tiles
from featlight.config.describe import facts, label, octave_rows
from featlight.config.image_shape import fitted, size_words
from featlight.config.settings import SHARED, Settings
from featlight.console import printable
from featlight.drawing.embedding_plot import cluster_color
from featlight.drawing.sprite_sheet import COLUMNS, PER_SHEET, sprite_side
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.reproduce import command_alone
from featlight.report.sections import Atlas, Section
from featlight.report.viewer.circuits import CircuitLinks
from featlight.store.example_files import Example, TileExamples
from featlight.store.records import TileRecord
from featlight.store.snapshot import Snapshot

ExamplesByTile = Mapping[str, TileExamples]  # by tile file
DATA = "assets/data.js"
TILES = "assets/tiles.js"
FORMAT = 8  # version of the viewer's files; a run drawn with another version is drawn again


def data_script(plan: Plan, groups: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> bytes:
    """Return the script with everything that the page needs at once.

    Args:
        plan: plan of the run.
        groups: `columns` of each atlas, with the paths of its sheets and details.
        figures: paths of pictures, animations and tables in the run directory.
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
    """Return the script with the suffix of the tiles' files, such as ".png"."""
    return _script("files", {"suffix": suffix})


def columns(plan: Plan, atlas: Atlas) -> dict[str, Any]:
    """Return an atlas as lists with one entry for each tile."""
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
    """Return each tile's place and cluster in the similarity map; nothing if there is no map."""
    table = atlas.similarity
    if table is None:
        return {}
    by_file = dict(zip(table.tiles, zip(table.places, table.clusters, strict=True), strict=True))
    positions = [by_file.get(planned.file, (None, None)) for planned in atlas.section.tiles]
    colors = [cluster_color(number) for number in range(1, max(table.clusters) + 1)]
    return {
        "alike": {
            "words": table.words,
            "columns": table.columns,
            "rows": table.rows,
            "places": [place for place, _ in positions],
            "clusters": [cluster for _, cluster in positions],
            "colors": ["#{:02x}{:02x}{:02x}".format(*color) for color in colors],
        }
    }


def example_columns(atlas: Atlas, examples: ExamplesByTile) -> dict[str, Any]:
    """Return the activation of each tile's best example, and its path similarity, if it was measured."""
    best = best_examples(atlas.section, examples)
    values = {"example": [None if example is None else _rounded(example.value) for example in best]}
    answers = [examples.get(planned.file) for planned in atlas.section.tiles]
    paths = [None if answer is None or answer.path is None else _rounded(answer.path) for answer in answers]
    return values if paths.count(None) == len(paths) else values | {"path": paths}


def best_examples(section: Section, examples: ExamplesByTile) -> list[Example | None]:
    """Return the best example of each tile of a section; None for a tile without examples."""
    answers = (examples.get(planned.file) for planned in section.tiles)
    return [next(iter(answer.images), None) if answer else None for answer in answers]


def detail_scripts(
    snapshot: Snapshot, atlas: Atlas, examples: ExamplesByTile, links: CircuitLinks
) -> Iterator[tuple[str, bytes]]:
    """Yield paths in the run directory and contents of the scripts with the details of tiles."""
    section, neighbors, strips = atlas.section, _neighbors(atlas), _octave_pictures(snapshot, atlas)
    for start in range(0, len(section.tiles), PER_SHEET):
        entries = [
            _detail(snapshot.plan, atlas, i)
            | strips[i]
            | neighbors[i]
            | _examples(section.tiles[i], examples)
            | links.details(section.tiles[i])
            for i in range(start, min(start + PER_SHEET, len(section.tiles)))
        ]
        name = f"{section.assets}{start // PER_SHEET:02d}.js"
        yield name, _script("details", {"group": section.name, "start": start, "tiles": entries})


def _settings(settings: Settings) -> dict[str, Any]:
    """Return a variant's settings as text: its own, and those shared by all variants."""
    own = facts(settings)
    shared = {key: own.pop(key) for key in SHARED if key in own}
    return {
        "octaves": [{"size": size_words(octave.size), "steps": octave.steps} for octave in settings.recipe.octaves],
        "table": octave_rows(settings.recipe),
        "own": [(label(key), value) for key, value in own.items() if key != "octaves"],
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


def _octave_pictures(snapshot: Snapshot, atlas: Atlas) -> list[dict[str, list[str]]]:
    """Return the octave pictures of each tile that exist."""
    store = snapshot.store
    strips = [list(store.extra_paths(planned, snapshot.plan, ["octaves"])) for planned in atlas.section.tiles]
    existing = store.folder.sizes(path for strip in strips for path in strip)
    return [
        {"octaves": [path.relative_to(store.root).as_posix() for path in strip if path in existing]} for strip in strips
    ]


def _examples(planned: PlannedTile, examples: ExamplesByTile) -> dict[str, Any]:
    """Return a tile's examples (file, activation and class), the histogram of its activations, and its paths."""
    answer = examples.get(planned.file)
    if answer is None or not answer.images:
        return {}
    values = {"examples": [_example(image) for image in answer.images], "histogram": answer.histogram}
    paths = [(printable(layer), _rounded(value)) for layer, value in answer.paths.items()]
    return values | {"paths": paths} if paths else values


def _example(example: Example) -> list[Any]:
    class_name = [] if example.class_name is None else [printable(example.class_name)]
    return [printable(example.file), _rounded(example.value), *class_name]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _neighbors(atlas: Atlas) -> list[dict[str, str]]:
    """Return the nearest neighbors of each tile and their cosines, packed; nothing without vectors."""
    if atlas.vectors is None:
        return [{} for _ in atlas.section.tiles]
    rows, cosines = nearest_tiles(atlas.vectors)
    place = "<u2" if len(rows) <= 0xFFFF else "<u4"
    packed = []
    for row, cosine in zip(rows, cosines, strict=True):
        valid = row >= 0
        steps = np.rint(cosine[valid] * 127).astype("i1")
        packed.append({"neighbours": _packed(row[valid].astype(place)), "cosines": _packed(steps)})
    return packed


def _packed(values: "np.ndarray[Any, Any]") -> str:
    return base64.b64encode(values.tobytes()).decode()


def _script(call: str, values: Mapping[str, Any], *, parsed: bool = False) -> bytes:
    """Return a script that passes values to the viewer. No text in them can end the script or act as markup.

    Args:
        call: function of the viewer to call.
        values: argument of the call.
        parsed: whether to parse the argument as JSON: for 65,536 tiles, that takes a sixth of the time of a literal.
    """
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))  # ASCII alone
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    if parsed:
        text = text.replace("\\", "\\\\").replace("'", "\\'")
        text = f"JSON.parse('{text}')"
    return f"Featlight.{call}({text});\n".encode()
