"""Sections of a run, one for each atlas: their tiles, headings, and sheets in the run directory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
from PIL import Image

from featlight.analysis.similar_tiles import grid_size
from featlight.config.describe import brief
from featlight.config.tile import CLASS
from featlight.drawing.sheet import Cell, Heading
from featlight.image_io import encode_png, png_text
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.contents import read_laid_on_white, read_picture, read_vectors
from featlight.store.paths import PICTURE_BYTES
from featlight.store.records import TileRecord
from featlight.store.similarity import SimilarityTable, read_similarity
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store


@dataclass(frozen=True)
class Section:
    """Tiles of one atlas: those of a layer, or all named tiles, in one variant."""

    variant: str
    layer: str  # "" for named tiles
    tiles: Sequence[PlannedTile]

    @property
    def name(self) -> str:
        """Name of the section's files without suffix; unique in the run."""
        layer = self.tiles[0].tile.name.partition("/")[0] if self.layer else "named"
        return f"{self.variant}/{layer}" if self.variant else layer

    @property
    def title(self) -> str:
        kind = "directions" if self.layer and self.tiles[0].tile.terms[0].direction else ""
        return " ".join(filter(None, [self.layer or "named tiles", kind, self.variant]))

    def keeps_alpha(self, plan: Plan) -> bool:
        """Return whether the tiles are transparent."""
        return plan.settings[self.variant].recipe.keeps_alpha

    @property
    def atlas(self) -> str:
        """Path of the atlas in the run directory."""
        return f"atlas/{self.name}.png"

    @property
    def assets(self) -> str:
        """Path of the viewer's sheets and scripts in the run directory, without number and suffix."""
        return f"assets/tiles/{self.name}/"

    @property
    def similarity_table(self) -> str:
        """Path of the similarity table in the run directory."""
        return f"alike/{self.name}.json"

    @property
    def similarity_picture(self) -> str:
        """Path of the similarity map in the run directory."""
        return f"alike/{self.name}.png"


@dataclass(frozen=True)
class Atlas:
    """A section with its tiles' records, vectors and pictures.

    Args:
        section: section of the run.
        subtitle: number of tiles and settings, in one line.
        cells: cells of the tiles.
        records: records of the tiles; None for missing tiles.
        vectors: mean activations of the tiles, (tiles, features), NaN for missing tiles; None without any.
        sheets: paths of the drawn sheets in the run directory: the whole atlas, then its pages.
        small_sheets: paths of the viewer's sprite sheets.
        plain_sheets: paths of the sprite sheets without transparency, if the tiles have any.
        example_sheets: paths of the sprite sheets of best dataset examples, if there are any.
        similarity: similarity table of the current tiles; None without one.
    """

    section: Section
    subtitle: str
    cells: Sequence[Cell]
    records: Sequence[TileRecord | None]
    vectors: "np.ndarray[Any, Any] | None"
    sheets: Sequence[str] = ()
    small_sheets: Sequence[str] = ()
    plain_sheets: Sequence[str] = ()
    example_sheets: Sequence[str] = ()
    similarity: SimilarityTable | None = None

    @property
    def pictures(self) -> list[str]:
        """Paths of all drawn pictures."""
        plane = [] if self.similarity is None else [self.section.similarity_picture]
        return [*self.sheets, *self.small_sheets, *self.plain_sheets, *self.example_sheets, *plane]

    @property
    def digests(self) -> list[str | None]:
        """Digests of the tiles' files; None for missing tiles."""
        return [None if record is None else _digest(record) for record in self.records]

    @property
    def digest(self) -> str:
        """Digest of all tiles."""
        shown = [(planned.file, digest) for planned, digest in zip(self.section.tiles, self.digests, strict=True)]
        return sha256(repr(shown).encode()).hexdigest()


def sections(plan: Plan) -> list[Section]:
    """Group a plan's tiles into sections: layers in the network's order, features in ascending order."""
    groups: dict[tuple[str, str], list[PlannedTile]] = {}
    for planned in plan.tiles:
        groups.setdefault(planned.group, []).append(planned)
    places: dict[tuple[str, str], int] = {}
    variants = list(dict.fromkeys(variant for variant, _ in groups))
    for variant in variants:
        for layer in [*plan.layers_of(variant), ""]:  # named tiles come last
            places.setdefault((variant, layer.removesuffix(CLASS)), len(places))
    return [
        Section(variant, layer, sorted(tiles, key=lambda planned: planned.tile.name) if layer else tiles)
        for (variant, layer), tiles in sorted(groups.items(), key=lambda group: places[group[0]])
    ]


def atlases(snapshot: Snapshot) -> list[Atlas]:
    """Return the atlases of a run, without drawn pictures.

    Raises:
        FeatlightError: vectors are damaged.
    """
    rows = _vectors(snapshot)
    result = []
    for section in sections(snapshot.plan):
        present = [rows[planned.file] for planned in section.tiles if planned.file in rows]
        vectors = None
        if present and section.layer:
            empty = np.full_like(present[0], np.nan)
            vectors = np.stack([rows.get(planned.file, empty) for planned in section.tiles])
        atlas = Atlas(
            section,
            subtitle(snapshot.plan, section),
            [cell(snapshot, planned) for planned in section.tiles],
            [snapshot.records.get(planned.file) for planned in section.tiles],
            vectors,
        )
        similarity = read_similarity(snapshot.store.folder, snapshot.store.root / section.similarity_table)
        result.append(replace(atlas, similarity=similarity) if _is_current(similarity, atlas) else atlas)
    return result


def _is_current(similarity: SimilarityTable | None, atlas: Atlas) -> bool:
    """Return whether a similarity table belongs to the current tiles and has the right grid."""
    if similarity is None or similarity.of != atlas.digest:
        return False
    tiles, grid = set(similarity.tiles), (similarity.columns, similarity.rows)
    ours = tiles <= {planned.file for planned in atlas.section.tiles} and len(tiles) == len(similarity.tiles)
    return ours and grid == grid_size(len(tiles))


def cell(snapshot: Snapshot, planned: PlannedTile, *, plain: bool = False) -> Cell:
    """Return the grid cell of a tile; a transparent tile is composited on white.

    Args:
        snapshot: snapshot of the run.
        planned: tile to show.
        plain: whether to ignore transparency.
    """
    record, store = snapshot.records.get(planned.file), snapshot.store
    state = snapshot.state(planned.file)
    if state == "missing":
        return Cell(planned.label, None, "missing: not made yet")
    assert record is not None
    mark = None if state == "ok" else f"{state}: {record['reason']}"
    path, *alpha = store.parts(planned, snapshot.plan)
    open_it = partial(read_picture, store.folder, path)
    if alpha and not plain:
        open_it = partial(read_laid_on_white, store.folder, path, alpha[0])
    return Cell(planned.label, None if state == "failed" else open_it, mark)


def heading(plan: Plan, section: Section) -> Heading:
    """Return the heading of a section: network, layer and settings."""
    title = f"{plan.network.model} {section.title}"
    return Heading(title, "", f"{plan.network.weights} · {subtitle(plan, section)} · {plan.created}", "")


def subtitle(plan: Plan, section: Section) -> str:
    """Return how many features of the layer a section shows, and its settings, in one line."""
    count = len(section.tiles)
    if plan.directions is not None and section.layer:
        share = f"{count} of {plan.directions.count} directions"
    else:
        features = plan.shape(section.variant, section.tiles[0].tile.terms[0].output)[0] if section.layer else count
        share = f"{count} of {features} features"
    return f"{share} · {brief(plan.settings[section.variant])}"


def _digest(record: TileRecord) -> str | None:
    digests = (record["sha256"], record["alpha_sha256"])
    return " ".join(digest for digest in digests if digest is not None) or None


def _vectors(snapshot: Snapshot) -> "dict[str, np.ndarray[Any, Any]]":
    """Return the mean activations of all features of a tile's layer, by tile file."""
    store, plan = snapshot.store, snapshot.plan
    vectors: dict[str, np.ndarray[Any, Any]] = {}
    for members in plan.chunks:
        files = [plan.tiles[i].file for i in members]
        path = store.vector_path(files)
        if not store.folder.has(path):
            continue
        first = plan.tiles[members[0]]
        features = plan.shape(first.variant, first.tile.terms[0].output)[0]
        rows = dict(zip(files, read_vectors(store.folder, path, len(files), features), strict=True))
        vectors |= {file: row for file, row in rows.items() if file in snapshot.there}
    return vectors


# PNG text keys in the sheet that is written last: digest of all sheets, and their number
SHOWN, COUNT = "featlight-shows", "featlight-sheets"
MOST_SHEETS = 10_000


def write_sheets(
    store: Store, atlas: str, sheets: Iterable[tuple[str, Image.Image]], text: Mapping[str, str], shown: str = ""
) -> list[str]:
    """Write the sheets that `draw_atlas` draws.

    Args:
        store: store of the run.
        atlas: path of the whole atlas in the run directory.
        sheets: suffixes of the file name and pictures; the whole atlas or its overview comes last.
        text: PNG text of each sheet.
        shown: digest of the sheets' content, which `kept_sheets` compares.

    Returns:
        Paths of the sheets in the run directory, the whole atlas or its overview first.
    """
    names = []
    for suffix, png in _encoded(sheets, text, shown):
        names.append(_name(atlas, suffix))
        store.write_output(names[-1], png)
    return names[-1:] + names[:-1]


def kept_sheets(store: Store, atlas: str, shown: str) -> list[str] | None:
    """Return the paths of the sheets on disk, the overview first; None if one is missing, altered or out of date."""
    if not store.folder.has(store.root / atlas):
        return None
    with store.folder.open(store.root / atlas, PICTURE_BYTES) as file:
        text = png_text(file)
    count = text.get(COUNT, "")
    if text.get(SHOWN) != shown or not (count.isdecimal() and 1 <= int(count) <= MOST_SHEETS):
        return None
    names = [atlas, *(_name(atlas, f"-p{page:02d}") for page in range(1, int(count)))]
    return names if store.drawn.keeps(*names) else None


def _name(atlas: str, suffix: str) -> str:
    return f"{atlas.removesuffix('.png')}{suffix}.png"


def _encoded(
    sheets: Iterable[tuple[str, Image.Image]], text: Mapping[str, str], shown: str
) -> Iterator[tuple[str, bytes]]:
    """Encode sheets as PNGs in a second thread. Memory holds at most two pictures."""
    waiting: tuple[str, Future[bytes]] | None = None
    with ThreadPoolExecutor(1, "featlight-encoder") as thread:
        for number, (suffix, picture) in enumerate(sheets, 1):
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            own = {} if suffix or not shown else {SHOWN: shown, COUNT: f"{number}"}
            waiting = suffix, thread.submit(encode_png, picture, {**text, **own})
            del picture
        if waiting is not None:
            yield waiting[0], waiting[1].result()
