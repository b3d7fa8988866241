"""The viewer of a run: plain files that a browser opens straight from disk, with no server and no network."""

import html
import re
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from featlight.drawing.example_strip import read_crop
from featlight.drawing.sheet import Cell
from featlight.drawing.sprite_sheet import SpriteSheets
from featlight.plan.plan import Plan
from featlight.report.sections import Atlas, cell
from featlight.report.viewer.data import (
    DATA,
    TILES,
    Examples,
    alike_columns,
    columns,
    data_script,
    detail_scripts,
    example_columns,
    tiles_script,
)
from featlight.store.examples import read_answers
from featlight.store.snapshot import Snapshot

# in the order in which they need each other
SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        *("dom", "model", "layout", "sprites", "plot", "grid", "alike"),
        *("detail", "sheets", "network", "controls", "app"),
    )
)
EXAMPLE_SHEETS = "examples-"  # the names of the sheets of best examples begin so
# `self` is every file to Chromium, no file but the page to others, and the host itself on a static host
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; "
    "base-uri 'none'; form-action 'none'"
)


def write_viewer(snapshot: Snapshot, atlases: Sequence[Atlas], figures: Sequence[str], state: str) -> None:
    """Write the viewer of a run, `index.html` last: what it says of the state vouches for all the rest.

    Args:
        snapshot: of the run.
        atlases: drawn, in order.
        figures: paths of pictures, animations and tables from the run directory.
        state: a digest of what is shown, kept in the page.
    """
    store = snapshot.store
    code = files("featlight.report.viewer") / "static"
    for name in (*SCRIPTS, "style.css", "icon.svg"):
        store.write_output(f"assets/{name}", (code / name).read_bytes())
    groups = []
    examples = read_answers(store.folder)
    for atlas in atlases:
        details = []
        for name, script in detail_scripts(snapshot, atlas, examples):
            store.write_output(name, script)
            details.append(name)
        groups.append(
            columns(snapshot.plan, atlas)
            | alike_columns(atlas)
            | {"sheets": list(atlas.small_sheets), "details": details}
            | _plain_sheets(snapshot, atlas)
            | _example_sheets(snapshot, atlas, examples)
        )
    store.write_output(TILES, tiles_script(".png"))
    store.write_output(DATA, data_script(snapshot.plan, groups, figures))
    page = (code / "index.html").read_text(encoding="utf-8")
    words = _words(snapshot.plan, atlases, figures, state)
    # in one pass, so that words which a value brings along stay as they are
    page = re.sub(r"\{\{(\w+)\}\}", lambda place: words[place[1]], page)
    store.write_output("index.html", page.encode())


def _plain_sheets(snapshot: Snapshot, atlas: Atlas) -> dict[str, list[str]]:
    """The paths of the same sheets without transparency, where the tiles have any."""
    section = atlas.section
    if not section.keeps_alpha(snapshot.plan):
        return {}
    cells = [cell(snapshot, planned, plain=True) for planned in section.tiles]
    digests = [None if record is None else record["sha256"] for record in atlas.records]
    return {"plain": SpriteSheets(digests, f"{section.assets}plain-", snapshot.store).draw(cells)}


def _example_sheets(snapshot: Snapshot, atlas: Atlas, examples: Examples) -> dict[str, Any]:
    """The sheets of each tile's best example, their paths and its value, where there are any."""
    found = example_columns(atlas, examples)
    if not found:
        return {}
    store, cells, digests = snapshot.store, [], []
    for planned in atlas.section.tiles:
        answers = examples.get(planned.file)
        best = None if answers is None else next(iter(answers.images), None)
        path = store.example_path(planned.file)
        cells.append(Cell(planned.label, partial(read_crop, store.folder, path) if best else None, None))
        digests.append(None if best is None else repr(best))
    return found | {"best": SpriteSheets(digests, f"{atlas.section.assets}{EXAMPLE_SHEETS}", store).draw(cells)}


def _words(plan: Plan, atlases: Sequence[Atlas], figures: Sequence[str], state: str) -> dict[str, str]:
    """What the page says before any script runs, and where none does; HTML."""
    kinds = [cell.kind for atlas in atlases for cell in atlas.cells]
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
            for path in [*(sheet for atlas in atlases for sheet in atlas.sheets), *figures]
        ),
        "scripts": "\n".join(
            f'<script src="assets/{name}" defer></script>'
            for name in (*SCRIPTS, PurePosixPath(TILES).name, PurePosixPath(DATA).name)
        ),
    }
