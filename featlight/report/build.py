"""What people look at, made from what is on disk: atlases, figures, the viewer, the vectors. No network needed."""

import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from featlight.drawing.atlas import draw_atlas
from featlight.drawing.example_strip import read_crop
from featlight.drawing.sheet import Cell
from featlight.drawing.sprite_sheet import SpriteSheets
from featlight.errors import StorageError
from featlight.plan.plan import Plan
from featlight.report.alike_picture import draw_alike
from featlight.report.sections import Atlas, atlases, cell, heading, sections
from featlight.report.sheets import kept_sheets, write_sheets
from featlight.report.tensorboard.projector import write_projector
from featlight.report.viewer.data import DATA, FORMAT, ExamplesByTile, best_examples
from featlight.report.viewer.page import code_digest, viewer_files
from featlight.store.example_files import read_answers
from featlight.store.paths import EXAMPLES, RECORDS_BYTES, TEXT_BYTES
from featlight.store.similarity import SimilarityTable
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store
from featlight.version import __version__

log = logging.getLogger("featlight")


def render(store: Store, plan: Plan, *, anew: bool = False) -> None:
    """Make the atlases, the figure, the viewer and the vectors of every layer.

    Args:
        store: of the run.
        plan: of it.
        anew: whether an atlas is drawn that is there and shows these very tiles.
    """
    snapshot = Snapshot.from_store(store, plan)
    examples = read_answers(store.folder)
    shown = drawn(snapshot, examples, anew=anew)
    for atlas in shown:
        if atlas.vectors is not None:
            buffer = io.BytesIO()
            np.save(buffer, atlas.vectors)
            store.write_output(f"vectors/{atlas.section.name}.npy", buffer.getvalue())
    figures: list[str] = []
    if plan.figure is not None:
        from featlight.report.figures import draw_figure  # its numbers need torch

        by_file = {p.file: cell for atlas in shown for p, cell in zip(atlas.section.tiles, atlas.cells, strict=True)}
        figures = draw_figure(snapshot, by_file)
    figures += [_alike(snapshot, atlas, atlas.likeness) for atlas in shown if atlas.likeness is not None]
    # the viewer after them: what its page says of the state vouches for all of these
    for name, content in viewer_files(snapshot, shown, figures, examples, state_of(snapshot)):
        store.write_output(name, content)
    store.drawn.end(drawn_by())
    try:
        write_projector(store, shown)
    except StorageError as error:  # TensorBoard is never a reason to fail
        log.warning("TensorBoard: %s", error)


def render_again(out: Path) -> Plan:
    """Build the atlases and the viewer of a run again, without its network.

    Raises:
        UsageError: there is no run.
    """
    store = Store(out)
    plan = store.need_plan("--render-only")
    store.check_writable()
    render(store, plan, anew=True)
    return plan


def is_rendered(store: Store, plan: Plan) -> bool:
    """Whether every atlas and the viewer are there and show the tiles as they are."""
    names = [*(section.atlas for section in sections(plan)), DATA]
    if not store.folder.has(*(store.root / name for name in names)):
        return False
    page = store.folder.read_if_there(store.root / "index.html", TEXT_BYTES) or b""
    return state_of(Snapshot.from_store(store, plan)).encode() in page[:2000]


def drawn(snapshot: Snapshot, examples: ExamplesByTile, *, anew: bool = False) -> list[Atlas]:
    """The atlases of a run with all their pictures, drawn where they are not there yet.

    Args:
        snapshot: the run.
        examples: examples of each tile, by file.
        anew: whether to draw an atlas that is there and shows these very tiles.
    """
    snapshot.store.drawn.begin(drawn_by())
    return [
        replace(
            _drawn(snapshot, atlas, anew),
            plain_sheets=_plain_sheets(snapshot, atlas),
            example_sheets=_example_sheets(snapshot, atlas, examples),
        )
        for atlas in atlases(snapshot)
    ]


def _plain_sheets(snapshot: Snapshot, atlas: Atlas) -> list[str]:
    section = atlas.section
    if not section.keeps_alpha(snapshot.plan):
        return []
    cells = [cell(snapshot, planned, plain=True) for planned in section.tiles]
    digests = [None if record is None else record["sha256"] for record in atlas.records]
    return SpriteSheets(digests, f"{section.assets}plain-", snapshot.store).draw(cells)


def _example_sheets(snapshot: Snapshot, atlas: Atlas, examples: ExamplesByTile) -> list[str]:
    store, section, best = snapshot.store, atlas.section, best_examples(atlas.section, examples)
    if not any(best):
        return []
    cells = []
    for planned, each in zip(section.tiles, best, strict=True):
        crop = partial(read_crop, store.folder, store.example_path(planned.file))
        cells.append(Cell(planned.label, None if each is None else crop))
    digests = [None if each is None else repr(each) for each in best]
    return SpriteSheets(digests, f"{section.assets}examples-", store).draw(cells)


def drawn_files(store: Store, plan: Plan, folders: Sequence[str]) -> list[str]:
    """The files of the page in some folders, drawn again where they are not as this version has drawn them.

    Args:
        store: of the run.
        plan: of it.
        folders: names of folders of the run directory.

    Raises:
        StorageError: they are to be drawn again, and cannot be written.
    """
    names = store.drawn.names(drawn_by(), folders) if is_rendered(store, plan) else None
    if names is None:
        render(store, plan)
        names = store.drawn.names(drawn_by(), folders)
    return names or []


@cache
def drawn_by() -> str:
    """All that draws pages, in short."""
    return f"{__version__} {FORMAT} {code_digest()}"


def _drawn(snapshot: Snapshot, atlas: Atlas, anew: bool) -> Atlas:
    """The same with its sheets: the labelled ones, and the viewer's; each tile is opened once for all of them."""
    store, words = snapshot.store, heading(snapshot.plan, atlas.section)
    text = {"Title": words.title, "Software": f"featlight {snapshot.plan.versions['featlight']}"}
    small = SpriteSheets(atlas.digests, atlas.section.assets, store)
    captions = [(cell.label, cell.mark) for cell in atlas.cells]
    shown = sha256(repr((atlas.digest, words, captions, text, __version__)).encode()).hexdigest()
    written = None if anew else kept_sheets(store, atlas.section.atlas, shown)
    if written is None:
        sheets = draw_atlas(atlas.cells, title=words.title, subtitle=words.subtitle, show=small.put)
        written = write_sheets(store, atlas.section.atlas, sheets, text, shown)
    else:
        small.draw(atlas.cells)
    return replace(atlas, sheets=written, small_sheets=small.names)


def _alike(snapshot: Snapshot, atlas: Atlas, likeness: SimilarityTable) -> str:
    """The path of the picture of what is alike, drawn again unless it is there as it was drawn."""
    store, section = snapshot.store, atlas.section
    if not store.drawn.keeps(section.likeness, section.alike):
        store.write_output(section.likeness, likeness.model_dump_json().encode())
        store.write_output(section.alike, draw_alike(snapshot, atlas, likeness))
    return section.alike


def state_of(snapshot: Snapshot, *, examples: bool = True) -> str:
    """A digest of all that is shown, with or without examples."""
    plan, records = snapshot.plan, snapshot.records
    shown = [(p.file, snapshot.state(p.file), p.file in records and records[p.file]["sha256"]) for p in plan.tiles]
    alphas = [records[p.file]["alpha_sha256"] for p in plan.tiles if p.file in records]
    names = [plan.titles] if plan.titles else []
    store = snapshot.store
    added = (*([EXAMPLES] if examples else []), *(section.likeness for section in sections(plan)))
    contents = (store.folder.read_if_there(store.root / name, RECORDS_BYTES) for name in added)
    found = [sha256(content).hexdigest() for content in contents if content]
    return sha256(repr((shown, *filter(None, alphas), *names, *found, plan.figure, FORMAT)).encode()).hexdigest()
