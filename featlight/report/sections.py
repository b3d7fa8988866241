"""The atlases of a run: which tiles stand in each, what stands above them, and how they are found on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np

from featlight.analysis.embedding import grid_size
from featlight.config.describe import brief
from featlight.config.tile import CLASS
from featlight.drawing.sheet import Cell, Heading
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.contents import read_laid_on_white, read_picture, read_vectors
from featlight.store.records import TileRecord
from featlight.store.similarity import SimilarityTable, read_similarity
from featlight.store.snapshot import Snapshot


@dataclass(frozen=True)
class Section:
    """The tiles of one atlas: those of a layer, or the named ones, in one variant."""

    variant: str
    layer: str  # "" for named tiles
    tiles: Sequence[PlannedTile]

    @property
    def name(self) -> str:
        """Of its files, without suffix; distinct among the sections of a run."""
        layer = self.tiles[0].tile.name.partition("/")[0] if self.layer else "named"
        return f"{self.variant}/{layer}" if self.variant else layer

    @property
    def title(self) -> str:
        kind = "directions" if self.layer and self.tiles[0].tile.terms[0].direction else ""
        return " ".join(filter(None, [self.layer or "named tiles", kind, self.variant]))

    def keeps_alpha(self, plan: Plan) -> bool:
        """Whether its tiles have transparencies."""
        return plan.settings[self.variant].recipe.keeps_alpha

    @property
    def atlas(self) -> str:
        """Where its atlas is, in the run directory."""
        return f"atlas/{self.name}.png"

    @property
    def assets(self) -> str:
        """Where the viewer's sheets and scripts of it are, in the run directory, without number and suffix."""
        return f"assets/tiles/{self.name}/"

    @property
    def likeness(self) -> str:
        """Where it is said which of its tiles are alike, in the run directory."""
        return f"alike/{self.name}.json"

    @property
    def alike(self) -> str:
        """Where the picture of that is."""
        return f"alike/{self.name}.png"


@dataclass(frozen=True)
class Atlas:
    """A section with what is there of it.

    Args:
        section: which.
        subtitle: how its tiles were made, in a line.
        cells: of its tiles, as they are drawn.
        records: of its tiles; None where there is none.
        vectors: their mean activations, (tiles, features), NaN where missing; None where there are none.
        sheets: paths of its drawn sheets from the run directory: the whole atlas, then its pages.
        small_sheets: paths of the viewer's sheets of small tiles.
        plain_sheets: paths of the same sheets without transparency, where the tiles have any.
        example_sheets: paths of the sheets of each tile's best example, where there are any.
        likeness: which of them are alike; None where nobody has looked since they are as they are.
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
    likeness: SimilarityTable | None = None

    @property
    def pictures(self) -> list[str]:
        """Paths of all that is drawn of it."""
        plane = [] if self.likeness is None else [self.section.alike]
        return [*self.sheets, *self.small_sheets, *self.plain_sheets, *self.example_sheets, *plane]

    @property
    def digests(self) -> list[str | None]:
        """Of what is seen of each tile; None where there is none."""
        return [None if record is None else _digest(record) for record in self.records]

    @property
    def digest(self) -> str:
        """Of all its tiles as they are."""
        shown = [(planned.file, digest) for planned, digest in zip(self.section.tiles, self.digests, strict=True)]
        return sha256(repr(shown).encode()).hexdigest()


def sections(plan: Plan) -> list[Section]:
    """The atlases that a plan's tiles make: layers in the network's order, features in ascending order."""
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
    """The atlases of a run as it stands, none of them drawn yet.

    Raises:
        FeatlightError: vectors are damaged.
    """
    rows = _vectors(snapshot)
    found = []
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
        likeness = read_similarity(snapshot.store.folder, snapshot.store.root / section.likeness)
        found.append(replace(atlas, likeness=likeness) if _is_current(likeness, atlas) else atlas)
    return found


def _is_current(likeness: SimilarityTable | None, atlas: Atlas) -> bool:
    """Whether it is of these very tiles, on the grid that so many have."""
    if likeness is None or likeness.of != atlas.digest:
        return False
    tiles, grid = set(likeness.tiles), (likeness.columns, likeness.rows)
    ours = tiles <= {planned.file for planned in atlas.section.tiles} and len(tiles) == len(likeness.tiles)
    return ours and grid == grid_size(len(tiles))


def cell(snapshot: Snapshot, planned: PlannedTile, *, plain: bool = False) -> Cell:
    """A tile in a grid, on white where it has a transparency.

    Args:
        snapshot: of the run.
        planned: the tile.
        plain: whether to leave its transparency out.
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
    """What stands above its tiles: network and layer, and how they were made."""
    title = f"{plan.network.model} {section.title}"
    return Heading(title, "", f"{plan.network.weights} · {subtitle(plan, section)} · {plan.created}", "")


def subtitle(plan: Plan, section: Section) -> str:
    """How many of a layer's features its tiles show, and how these were made."""
    there = len(section.tiles)
    if plan.directions is not None and section.layer:
        what = f"{there} of {plan.directions.count} directions"
    else:
        features = plan.shape(section.variant, section.tiles[0].tile.terms[0].output)[0] if section.layer else there
        what = f"{there} of {features} features"
    return f"{what} · {brief(plan.settings[section.variant])}"


def _digest(record: TileRecord) -> str | None:
    both = [each for each in (record["sha256"], record["alpha_sha256"]) if each is not None]
    return " ".join(both) or None


def _vectors(snapshot: Snapshot) -> "dict[str, np.ndarray[Any, Any]]":
    """By file, the mean activation of every feature of the tile's layer."""
    store, plan = snapshot.store, snapshot.plan
    found: dict[str, np.ndarray[Any, Any]] = {}
    for members in plan.chunks:
        files = [plan.tiles[i].file for i in members]
        path = store.vector_path(files)
        if not store.folder.has(path):
            continue
        first = plan.tiles[members[0]]
        features = plan.shape(first.variant, first.tile.terms[0].output)[0]
        rows = dict(zip(files, read_vectors(store.folder, path, len(files), features), strict=True))
        found |= {file: row for file, row in rows.items() if file in snapshot.there}
    return found
