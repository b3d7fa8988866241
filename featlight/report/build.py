"""Atlases, figures, the viewer and vectors of a run, built from the files in its directory, without its network."""

import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from featlight.analysis.similar_tiles import GridLayout
from featlight.drawing.atlas import draw_atlas, usual_side
from featlight.drawing.embedding_plot import EmbeddingPlot, draw_embedding_plot, side_on_a_plane
from featlight.drawing.example_strip import read_crop
from featlight.drawing.sheet import Cell
from featlight.drawing.sprite_sheet import SmallTiles, SpriteSheets, sprite_side
from featlight.errors import StorageError
from featlight.image_io import encode_png
from featlight.plan.plan import Plan
from featlight.report.sections import Atlas, atlases, cell, heading, kept_sheets, sections, write_sheets
from featlight.report.tensorboard.projector import write_projector
from featlight.report.viewer.data import DATA, FORMAT, ExamplesByTile, best_examples
from featlight.report.viewer.page import code_digest, viewer_files
from featlight.store.example_files import read_answers
from featlight.store.paths import CIRCUITS, EXAMPLES, RECORDS_BYTES, TEXT_BYTES
from featlight.store.similarity import SimilarityTable
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store
from featlight.version import __version__

log = logging.getLogger("featlight")


def render(store: Store, plan: Plan, *, anew: bool = False) -> None:
    """Build the atlases, the figure, the viewer and the vectors of every layer.

    Args:
        store: store of the run.
        plan: plan of the run.
        anew: whether to draw atlases again that already show the current tiles.
    """
    snapshot = Snapshot.from_store(store, plan)
    examples = read_answers(store.folder)
    shown = draw_atlases(snapshot, examples, anew=anew)
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
    for atlas in shown:
        if atlas.similarity is not None:
            section = atlas.section
            if not store.drawn.keeps(section.similarity_table, section.similarity_picture):
                write_similarity(snapshot, atlas, atlas.similarity)
            figures.append(section.similarity_picture)
    # the viewer last: the state in its page vouches for all other files
    for name, content in viewer_files(snapshot, shown, figures, examples, state_of(snapshot)):
        store.write_output(name, content)
    store.drawn.end(drawn_by())
    try:
        write_projector(store, shown)
    except StorageError as error:  # a run must not fail because of TensorBoard
        log.warning("TensorBoard: %s", error)


def render_again(out: Path) -> Plan:
    """Build the atlases and the viewer of a run again, without its network.

    Raises:
        UsageError: the directory holds no run.
    """
    store = Store(out)
    plan = store.need_plan("--render-only")
    store.check_writable()
    render(store, plan, anew=True)
    return plan


def is_rendered(store: Store, plan: Plan) -> bool:
    """Return whether all atlases and the viewer exist and show the current tiles."""
    names = [*(section.atlas for section in sections(plan)), DATA]
    if not store.folder.has(*(store.root / name for name in names)):
        return False
    page = store.folder.read_if_there(store.root / "index.html", TEXT_BYTES) or b""
    return state_of(Snapshot.from_store(store, plan)).encode() in page[:2000]


def draw_atlases(snapshot: Snapshot, examples: ExamplesByTile, *, anew: bool = False) -> list[Atlas]:
    """Draw the atlases of a run and their sprite sheets, except those that already show the current tiles.

    Args:
        snapshot: snapshot of the run.
        examples: dataset examples by tile file.
        anew: whether to draw atlases again that already show the current tiles.
    """
    snapshot.store.drawn.begin(drawn_by())
    return [
        replace(
            _draw_sheets(snapshot, atlas, anew),
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
    for planned, example in zip(section.tiles, best, strict=True):
        crop = partial(read_crop, store.folder, store.example_path(planned.file))
        cells.append(Cell(planned.label, None if example is None else crop))
    digests = [None if example is None else repr(example) for example in best]
    return SpriteSheets(digests, f"{section.assets}examples-", store).draw(cells)


def drawn_files(store: Store, plan: Plan, folders: Sequence[str]) -> list[str]:
    """Return the page's files in some folders; draw them again first if this version has not drawn them.

    Args:
        store: store of the run.
        plan: plan of the run.
        folders: names of folders in the run directory.

    Raises:
        StorageError: the files must be drawn again, and cannot be written.
    """
    names = store.drawn.names(drawn_by(), folders) if is_rendered(store, plan) else None
    if names is None:
        render(store, plan)
        names = store.drawn.names(drawn_by(), folders)
    return names or []


@cache
def drawn_by() -> str:
    """Return an identifier of the code that draws pages."""
    return f"{__version__} {FORMAT} {code_digest()}"


def _draw_sheets(snapshot: Snapshot, atlas: Atlas, anew: bool) -> Atlas:
    """Draw the labeled sheets and the viewer's sprite sheets; each tile is opened once for both."""
    store, head = snapshot.store, heading(snapshot.plan, atlas.section)
    text = {"Title": head.title, "Software": f"featlight {snapshot.plan.versions['featlight']}"}
    small = SpriteSheets(atlas.digests, atlas.section.assets, store)
    captions = [(cell.label, cell.mark) for cell in atlas.cells]
    shown = sha256(repr((atlas.digest, head, captions, text, __version__)).encode()).hexdigest()
    written = None if anew else kept_sheets(store, atlas.section.atlas, shown)
    if written is None:
        sheets = draw_atlas(atlas.cells, title=head.title, subtitle=head.subtitle, show=small.put)
        written = write_sheets(store, atlas.section.atlas, sheets, text, shown)
    else:
        small.draw(atlas.cells)
    return replace(atlas, sheets=written, small_sheets=small.names)


def write_similarity(snapshot: Snapshot, atlas: Atlas, similarity: SimilarityTable) -> None:
    """Write the similarity table of a layer, and the picture drawn from it."""
    store, section = snapshot.store, atlas.section
    store.write_output(section.similarity_table, similarity.model_dump_json().encode())
    store.write_output(section.similarity_picture, _draw_similarity(snapshot, atlas, similarity))


def _draw_similarity(snapshot: Snapshot, atlas: Atlas, similarity: SimilarityTable) -> bytes:
    """Draw the embedding plot of a layer as a PNG; small tiles come from the viewer's sprite sheets."""
    section = atlas.section
    places = {planned.file: place for place, planned in enumerate(section.tiles)}
    chosen = [places[file] for file in similarity.tiles]
    cells = [atlas.cells[place] for place in chosen]
    side = side_on_a_plane(similarity.columns, usual_side(cells))
    if side <= sprite_side(len(section.tiles)):
        small = SmallTiles(snapshot.store, section.assets, len(section.tiles))
        cells = [
            replace(cell, open=partial(small.__getitem__, place)) for cell, place in zip(cells, chosen, strict=True)
        ]
    head = heading(snapshot.plan, section)
    method = f"similar tiles are close, by the mean activations of the layer's features: {similarity.words}"
    clusters = f"{max(similarity.clusters)} k-means clusters of the same vectors"
    title = f"{head.title}: similar tiles"
    grid = GridLayout(similarity.columns, similarity.rows, np.array(similarity.places))
    picture = draw_embedding_plot(
        EmbeddingPlot(cells, similarity.clusters, grid),
        replace(head, title=title, subtitle=f"{method} · {clusters} · {head.subtitle}"),
        side,
    )
    return encode_png(picture, {"Title": title, "Software": f"featlight {snapshot.plan.versions['featlight']}"})


def state_of(snapshot: Snapshot, *, examples: bool = True) -> str:
    """Return a digest of everything that the page shows, with or without dataset examples."""
    plan, records = snapshot.plan, snapshot.records
    shown = [(p.file, snapshot.state(p.file), p.file in records and records[p.file]["sha256"]) for p in plan.tiles]
    alphas = [records[p.file]["alpha_sha256"] for p in plan.tiles if p.file in records]
    names = [plan.titles] if plan.titles else []
    store = snapshot.store
    added = (*([EXAMPLES] if examples else []), CIRCUITS, *(section.similarity_table for section in sections(plan)))
    contents = (store.folder.read_if_there(store.root / name, RECORDS_BYTES) for name in added)
    digests = [sha256(content).hexdigest() for content in contents if content]
    return sha256(repr((shown, *filter(None, alphas), *names, *digests, plan.figure, FORMAT)).encode()).hexdigest()
