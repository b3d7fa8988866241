"""What people look at, made from what is on disk: atlases, the viewer, the vectors. No network needed."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from featlight.drawing.atlas import Cell, draw_atlas, encode_png
from featlight.errors import FeatlightError, StorageError, UsageError
from featlight.plan.plan import Plan
from featlight.report.sections import Section, atlas_of, cell, heading, sections, subtitle
from featlight.report.tensorboard.projector import Points, write_projector
from featlight.report.viewer.page import DATA, FORMAT, Group, write_viewer
from featlight.store.store import Record, Store

log = logging.getLogger("featlight")


def render(store: Store, plan: Plan) -> None:
    """Make the atlases, the viewer and the vectors of every layer again."""
    records = store.records()
    vectors = _vectors(store, plan, records)
    groups = []
    for section in sections(plan):
        cells = [cell(store.root, planned, records.get(planned.file)) for planned in section.tiles]
        groups.append(
            Group(
                name=section.name,
                title=section.title,
                subtitle=subtitle(plan, section),
                layer=section.layer,
                variant=section.variant,
                atlas=_draw_sheets(store, plan, section, cells),
                tiles=section.tiles,
                cells=cells,
                vectors=vectors.get(section.name),
            )
        )
    for name, rows in vectors.items():
        buffer = io.BytesIO()
        np.save(buffer, rows)
        store.write_output(f"vectors/{name}.npy", buffer.getvalue())
    figures = []
    if plan.figure is not None:
        from featlight.report.figures import draw_figure  # its numbers need torch

        by_file = {p.file: cell for group in groups for p, cell in zip(group.tiles, group.cells, strict=True)}
        figures = draw_figure(store, plan, by_file, records)
    # the viewer after them: what its page says of the state vouches for all of these
    write_viewer(store, plan, groups, figures, records, _state(plan, records))
    try:
        write_projector(store, [_points(group, records) for group in groups if group.vectors is not None])
    except StorageError as error:  # TensorBoard is never a reason to fail
        log.warning("TensorBoard: %s", error)


def _points(group: Group, records: Mapping[str, Record]) -> Points:
    assert group.vectors is not None
    own = [records.get(planned.file, {}) for planned in group.tiles]
    return Points(group.name, group.assets, [planned.tile.label for planned in group.tiles], own, group.vectors)


def _draw_sheets(store: Store, plan: Plan, section: Section, cells: Sequence[Cell]) -> list[str]:
    """Draw an atlas; returns the paths of its sheets."""
    words = heading(plan, section)
    text = {"Title": words.title, "Software": f"featlight {plan.versions['featlight']}"}
    written = []
    for suffix, picture in draw_atlas(cells, title=words.title, subtitle=words.subtitle):
        name = atlas_of(section).replace(".png", f"{suffix}.png")
        store.write_output(name, encode_png(picture, text))
        written.append(name)
    return written


def render_again(out: Path) -> Plan:
    """Build the atlases and the viewer of a run again, without its network.

    Raises:
        UsageError: there is no run.
    """
    store = Store(out)
    plan = store.plan()
    if plan is None:
        raise UsageError(f"--render-only: {out} holds no run")
    store.check_writable()
    render(store, plan)
    return plan


def is_rendered(store: Store, plan: Plan) -> bool:
    """Whether every atlas and the viewer are there and show the tiles as they are."""
    names = [*(atlas_of(section) for section in sections(plan)), DATA]
    if not all((store.root / name).is_file() for name in names):
        return False
    try:
        with (store.root / "index.html").open(encoding="utf-8") as file:
            return _state(plan, store.records()) in file.read(2000)
    except OSError:
        return False


def _state(plan: Plan, records: Mapping[str, Record]) -> str:
    """A digest of all that is shown."""
    shown = [(p.file, records.get(p.file, {}).get("status"), records.get(p.file, {}).get("sha256")) for p in plan.tiles]
    return sha256(repr((shown, plan.figure, FORMAT)).encode()).hexdigest()


def _vectors(store: Store, plan: Plan, records: Mapping[str, Record]) -> dict[str, np.ndarray]:
    """By atlas, a row for each of its tiles: the mean activation of every feature of the layer; NaN where missing."""
    found: dict[str, np.ndarray] = {}
    for members in plan.chunks:
        path = store.vector_path(plan.tiles[i].file for i in members)
        if path.is_file():
            try:
                rows = list(zip(np.load(path, allow_pickle=False), members, strict=True))
            except (OSError, ValueError, EOFError):
                reason = "damaged; `featlight verify --repair` removes it, and the same command makes it again"
                raise FeatlightError(f"{path}: {reason}") from None
            for row, i in rows:
                if records.get(plan.tiles[i].file, {}).get("status", "failed") != "failed":
                    found[plan.tiles[i].file] = row
    result = {}
    for section in sections(plan):
        present: Iterator[np.ndarray] = (found[p.file] for p in section.tiles if p.file in found)
        first = next(present, None)
        if first is not None and section.layer:
            empty = np.full_like(first, np.nan)
            result[section.name] = np.stack([found.get(p.file, empty) for p in section.tiles])
    return result
