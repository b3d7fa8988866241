"""The viewer of a run: static files that a browser opens from disk, without a server or a network connection."""

import html
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePosixPath
from urllib.parse import quote

from featlight.plan.plan import Plan
from featlight.report.sections import Atlas
from featlight.report.viewer.circuits import CircuitLinks
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
from featlight.store.circuit_files import read_circuits
from featlight.store.snapshot import Snapshot

# each script uses only those before it
SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        *("dom", "model", "layout", "sprites", "plot", "grid", "alike", "network"),
        *("circuits", "detail", "sheets", "controls", "app"),
    )
)
CODE = files("featlight.report.viewer") / "static"
# `self` means any file in Chromium, only the page itself in other browsers, and the host on a static host
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
    """Yield paths and contents of the viewer's files; `index.html` is last, because its state vouches for the rest.

    Args:
        snapshot: snapshot of the run.
        atlases: drawn atlases in order.
        figures: paths of pictures, animations and tables in the run directory.
        examples: dataset examples by tile file.
        state: digest of the shown data, kept in the page.
        suffix: suffix of the tiles' files.
    """
    for name in (*SCRIPTS, "style.css", "icon.svg"):
        yield f"assets/{name}", (CODE / name).read_bytes()
    groups = []
    links = CircuitLinks.from_plan(snapshot.plan, read_circuits(snapshot.store.folder, snapshot.plan))
    for atlas in atlases:
        details = []
        for name, script in detail_scripts(snapshot, atlas, examples, links):
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
    values = _values(snapshot.plan, atlases, figures, state)
    # in one pass, so that placeholders inside a value stay as they are
    yield "index.html", re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], page).encode()


def code_digest() -> str:
    """Return a digest of the viewer's static files."""
    contents = [(CODE / name).read_bytes() for name in (*SCRIPTS, "style.css", "icon.svg", "index.html")]
    return sha256(b"\0".join(contents)).hexdigest()


def _values(plan: Plan, atlases: Sequence[Atlas], figures: Sequence[str], state: str) -> dict[str, str]:
    """Return the HTML for the placeholders of the page, which needs no script to be shown."""
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
