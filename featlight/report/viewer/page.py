"""The viewer of a run: a folder of plain files that a browser opens straight from disk, with no server and no network.

What a page needs at once is in `assets/data.js`, column by column; what one tile needs (its curve, its neighbours, its
command) is in a script for each sheet of 256 tiles, which the viewer loads when such a tile is opened.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from featlight.analysis.neighbors import nearest_tiles
from featlight.config.describe import facts, label, octave_rows
from featlight.config.settings import SHARED, Settings
from featlight.drawing.sheet import Cell
from featlight.drawing.sprite_sheet import COLUMNS, PER_SHEET, sprite_sheets, sprite_side
from featlight.plan.plan import Plan, Planned
from featlight.plan.reproduce import command_alone
from featlight.store.store import Record, Store

DATA = "assets/data.js"
FORMAT = 3  # of the viewer's files; a run that was drawn with another one is drawn again
# in the order in which they need each other
SCRIPTS = tuple(
    f"{name}.js"
    for name in ("dom", "model", "layout", "sprites", "plot", "grid", "detail", "sheets", "controls", "app")
)
# `self` is every file to Chromium, no file but the page to others, and the host itself on a static host
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Group:
    """One atlas and the tiles in it.

    Args:
        name: of its files, distinct among the groups.
        title: what people read.
        subtitle: how its tiles were made, in a line.
        layer: "" for named tiles.
        variant: "" where the run has none.
        atlas: paths from the run directory: the whole atlas, then its pages.
        tiles: in the order of the atlas.
        cells: of the tiles.
        vectors: their mean activations, (tiles, features); None where there are none.
    """

    name: str
    title: str
    subtitle: str
    layer: str
    variant: str
    atlas: Sequence[str]
    tiles: Sequence[Planned]
    cells: Sequence[Cell]
    vectors: "np.ndarray[Any, Any] | None"

    @property
    def assets(self) -> str:
        """Where its sheets and scripts are, from the run directory, without number and suffix."""
        return f"assets/tiles/{self.name}/"


def write_viewer(
    store: Store, plan: Plan, groups: Sequence[Group], figures: Sequence[str], records: Mapping[str, Record], state: str
) -> None:
    """Write the viewer of a run, `index.html` last: what it says of the state vouches for all the rest.

    Args:
        store: of the run.
        plan: of the run.
        groups: one for each atlas, in order.
        figures: paths of pictures, animations and tables from the run directory.
        records: by file.
        state: a digest of what is shown, kept in the page.
    """
    code = files("featlight.report.viewer") / "static"
    for name in (*SCRIPTS, "style.css", "icon.svg"):
        store.write_output(f"assets/{name}", (code / name).read_bytes())
    shown = []
    for group in groups:
        sheets = []
        digests = [records.get(p.file, {}).get("sha256") for p in group.tiles]
        for name, jpeg in sprite_sheets(group.cells, digests, group.assets, store.root):
            if jpeg is not None:
                store.write_output(name, jpeg)
            store.note_output(name)
            sheets.append(name)
        details = _write_details(store, plan, group, records)
        shown.append(_columns(group, records) | {"sheets": sheets, "details": details})
    store.write_output(DATA, data_script(_about(plan, figures) | {"groups": shown}))
    page = (code / "index.html").read_text(encoding="utf-8")
    for word, value in _words(plan, groups, figures, state).items():
        page = page.replace(f"{{{{{word}}}}}", value)
    store.write_output("index.html", page.encode())


def data_script(data: Mapping[str, Any]) -> bytes:
    """What the page needs at once, as a script; with `suffix`, of tiles' files that are no PNGs, as in ".webp"."""
    return _script("run", data)


def read_data(root: Path) -> dict[str, Any]:
    """What `data_script` has written in a run directory; nothing where it is not there, or not whole."""
    try:
        text = (root / DATA).read_text(encoding="ascii")
        data: dict[str, Any] = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    except (OSError, ValueError):
        return {}
    return data


def _about(plan: Plan, figures: Sequence[str]) -> dict[str, Any]:
    """What holds for the whole run."""
    return {
        "format": FORMAT,
        "model": plan.network.model,
        "weights": plan.network.weights,
        "checksum": plan.network.sha256,
        "created": plan.created,
        "versions": plan.versions,
        "settings": {variant: _settings(settings) for variant, settings in plan.settings.items()},
        "figures": list(figures),
    }


def _settings(settings: Settings) -> dict[str, Any]:
    """A variant's settings in words, those that it may have for itself and those of the whole run apart."""
    words = facts(settings)
    shared = {key: words.pop(key) for key in SHARED}
    return {
        "octaves": [{"size": octave.size, "steps": octave.steps} for octave in settings.recipe.octaves],
        "table": octave_rows(settings.recipe),
        "own": [(label(key), value) for key, value in words.items() if key != "octaves"],
        "shared": [(label(key), value) for key, value in shared.items() if key not in ("model", "weights")],
    }


def _columns(group: Group, records: Mapping[str, Record]) -> dict[str, Any]:
    """A group as the viewer's grid needs it: one list for each number, a place for each tile."""
    found = [records.get(planned.file, {}) for planned in group.tiles]
    stems = [PurePosixPath(planned.file).stem for planned in group.tiles]
    return {
        "name": group.name,
        "title": group.title,
        "subtitle": group.subtitle,
        "layer": group.layer,
        "variant": group.variant,
        "atlas": list(group.atlas),
        "folder": str(PurePosixPath(group.tiles[0].file).parent),
        "stems": stems,
        "labels": [planned.tile.label for planned in group.tiles],
        "features": [planned.tile.terms[0].feature for planned in group.tiles],
        "status": [cell.kind or "ok" for cell in group.cells],
        "start": [record.get("activation_start") for record in found],
        "end": [record.get("activation_end") for record in found],
        "gradient": [record.get("gradient_norm") for record in found],
        "side": sprite_side(len(group.tiles)),
        "across": COLUMNS,
        "perSheet": PER_SHEET,
    }


def _write_details(store: Store, plan: Plan, group: Group, records: Mapping[str, Record]) -> list[str]:
    """The scripts that hold what one tile at a time needs; returns their paths."""
    rows, cosines = (None, None) if group.vectors is None else nearest_tiles(group.vectors)
    octaves = range(1, len(plan.settings[group.variant].recipe.octaves) + 1)
    written = []
    for start in range(0, len(group.tiles), PER_SHEET):
        part = range(start, min(start + PER_SHEET, len(group.tiles)))
        entries = []
        for i in part:
            planned = group.tiles[i]
            record = records.get(planned.file, {})
            strip = [store.octave_path(planned.file, number) for number in octaves]
            entry: dict[str, Any] = {
                "reason": record.get("reason"),
                "seconds": record.get("seconds"),
                "sha256": record.get("sha256"),
                "curve": record.get("curve", []),
                "command": command_alone(plan, planned),
                "octaves": [path.relative_to(store.root).as_posix() for path in strip if path.is_file()],
            }
            if rows is not None and cosines is not None:
                there = rows[i] >= 0
                entry["neighbours"] = _packed(rows[i][there].astype("<u2" if len(rows) <= 0xFFFF else "<u4"))
                entry["cosines"] = _packed(np.rint(cosines[i][there] * 127).astype("i1"))
            entries.append(entry)
        name = f"{group.assets}{start // PER_SHEET:02d}.js"
        store.write_output(name, _script("details", {"group": group.name, "start": start, "tiles": entries}))
        written.append(name)
    return written


def _packed(values: "np.ndarray[Any, Any]") -> str:
    return base64.b64encode(values.tobytes()).decode()


def _script(call: str, values: Mapping[str, Any]) -> bytes:
    """A script that hands values to the viewer; no text in them can end it or be read as markup."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))  # ASCII alone
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f"Featlight.{call}({text});\n".encode()


def _words(
    plan: Plan,
    groups: Sequence[Group],
    figures: Sequence[str],
    state: str,
) -> dict[str, str]:
    """What the page says before any script runs, and where none does; HTML."""
    kinds = [cell.kind for group in groups for cell in group.cells]
    made = len(kinds) - kinds.count("failed") - kinds.count("missing")
    counts = f"{made} of {len(kinds)} tiles, {kinds.count('dead')} dead, {kinds.count('failed')} failed"
    weights = plan.network.weights
    return {
        "policy": html.escape(POLICY),
        "state": state,
        "model": html.escape(plan.network.model),
        "about": html.escape(f"{weights} · {counts} · {plan.created}"),
        "loud": f'<p class="loud" role="note">{html.escape(weights)}</p>' if plan.network.is_random else "",
        "pictures": "\n".join(
            f'<li><a href="{quote(path)}">{html.escape(path)}</a></li>'
            for path in [*(sheet for group in groups for sheet in group.atlas), *figures]
        ),
        "scripts": "\n".join(
            f'<script src="assets/{name}" defer></script>' for name in (*SCRIPTS, PurePosixPath(DATA).name)
        ),
    }
