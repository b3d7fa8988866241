"""The viewer of a run: plain files that a browser opens straight from disk, with no server and no network."""

import html
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePosixPath
from urllib.parse import quote

from featlight.plan.plan import Plan
from featlight.report.sections import Atlas
from featlight.report.viewer.data import (
    DATA,
    TILES,
    ExamplesByTile,
    alike_columns,
    columns,
    data_script,
    detail_scripts,
    example_columns,
    tiles_script,
)
from featlight.store.snapshot import Snapshot

# in the order in which they need each other
SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        *("dom", "model", "layout", "sprites", "plot", "grid", "alike"),
        *("detail", "sheets", "network", "controls", "app"),
    )
)
CODE = files("featlight.report.viewer") / "static"
# `self` is every file to Chromium, no file but the page to others, and the host itself on a static host
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; "
    "base-uri 'none'; form-action 'none'"
)


def viewer_files(
    snapshot: Snapshot,
    atlases: Sequence[Atlas],
    figures: Sequence[str],
    examples: ExamplesByTile,
    state: str,
    suffix: str = ".png",
) -> Iterator[tuple[str, bytes]]:
    """The viewer of a run, by path, `index.html` last: what it says of the state vouches for all the rest.

    Args:
        snapshot: the run.
        atlases: its atlases, drawn, in order.
        figures: paths of pictures, animations and tables from the run directory.
        examples: examples of each tile, by file.
        state: a digest of what is shown, kept in the page.
        suffix: ending of the tiles' files.
    """
    for name in (*SCRIPTS, "style.css", "icon.svg"):
        yield f"assets/{name}", (CODE / name).read_bytes()
    groups = []
    for atlas in atlases:
        details = []
        for name, script in detail_scripts(snapshot, atlas, examples):
            yield name, script
            details.append(name)
        groups.append(
            columns(snapshot.plan, atlas)
            | alike_columns(atlas)
            | {"sheets": list(atlas.small_sheets), "details": details}
            | ({"plain": list(atlas.plain_sheets)} if atlas.plain_sheets else {})
            | (example_columns(atlas, examples) | {"best": list(atlas.example_sheets)} if atlas.example_sheets else {})
        )
    yield TILES, tiles_script(suffix)
    yield DATA, data_script(snapshot.plan, groups, figures)
    page = (CODE / "index.html").read_text(encoding="utf-8")
    words = _words(snapshot.plan, atlases, figures, state)
    # in one pass, so that words which a value brings along stay as they are
    yield "index.html", re.sub(r"\{\{(\w+)\}\}", lambda place: words[place[1]], page).encode()


def code_digest() -> str:
    """A digest of the viewer's own code."""
    contents = [(CODE / name).read_bytes() for name in (*SCRIPTS, "style.css", "icon.svg", "index.html")]
    return sha256(b"\0".join(contents)).hexdigest()


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
