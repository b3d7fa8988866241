"""What people look at, made from what is on disk: atlases, the viewer, the vectors. No network needed."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from featlight.atlas import Cell, draw_atlas, encode_png
from featlight.errors import FeatlightError, StorageError, UsageError
from featlight.page import DATA, FORMAT, Group, write_viewer
from featlight.plan import Plan, Planned
from featlight.projector import Points, write_projector
from featlight.sheet import Words
from featlight.store import Record, Store
from featlight.tile import file_name

log = logging.getLogger("featlight")


@dataclass(frozen=True)
class Section:
    """The tiles of one atlas: those of a layer, or the named ones, in one variant."""

    variant: str
    layer: str  # "" for named tiles
    tiles: Sequence[Planned]

    @property
    def name(self) -> str:
        """Of its files, without suffix."""
        layer = file_name(self.layer) if self.layer else "named"
        return f"{self.variant}/{layer}" if self.variant else layer

    @property
    def title(self) -> str:
        return " ".join(filter(None, [self.layer or "named tiles", self.variant]))


def sections(plan: Plan) -> list[Section]:
    """The atlases that a plan's tiles make, features in ascending order."""
    groups: dict[tuple[str, str], list[Planned]] = {}
    for planned in plan.tiles:
        groups.setdefault(planned.group, []).append(planned)
    return [
        Section(variant, layer, sorted(tiles, key=lambda planned: planned.tile.name) if layer else tiles)
        for (variant, layer), tiles in groups.items()
    ]


def atlas_of(section: Section) -> str:
    """Where its atlas is, in the run directory."""
    return f"atlas/{section.name}.png"


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
                subtitle=_ways(plan, section),
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
        from featlight.figures import draw_figure  # its numbers need torch

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


def cell(root: Path, planned: Planned, record: Record | None) -> Cell:
    path = root / planned.file

    def show() -> Image.Image:
        try:
            with Image.open(path, formats=("PNG",)) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError) as error:
            reason = f"damaged ({error}); delete it, and the same command makes it again"
            raise FeatlightError(f"{path}: {reason}") from None

    if record is None or not path.is_file():
        if record is not None and record["status"] == "failed":
            return Cell(planned.tile.label, None, f"failed: {record['reason']}")
        return Cell(planned.tile.label, None, "missing: not made yet")
    if record["status"] == "ok":
        return Cell(planned.tile.label, show)
    return Cell(
        planned.tile.label, show if record["status"] == "dead" else None, f"{record['status']}: {record['reason']}"
    )


def heading(plan: Plan, section: Section) -> Words:
    """What stands above its tiles: network and layer, and how they were made."""
    title = f"{plan.network['model']} {section.title}"
    return Words(title, "", f"{plan.network['weights']} · {_ways(plan, section)} · {plan.created}", "")


def _ways(plan: Plan, section: Section) -> str:
    """How its tiles were made."""
    way = plan.fingerprints[section.variant]
    recipe = way["recipe"]
    sizes = ", ".join(str(octave["size"]) for octave in recipe["octaves"])
    steps = sum(octave["steps"] for octave in recipe["octaves"])
    region = "" if way["region"] == "map" or not section.layer else f" · {way['region']}"
    return (
        f"{len(section.tiles)} of {_features(plan, section)} features{region}"
        f" · {way['metric']} to {way['target']:g} · {steps} steps at {sizes} px · {recipe['gradient']} gradient"
        f" · start {way['init'][:24]}, seed {way['seed']}"
    )


def _features(plan: Plan, section: Section) -> int:
    if not section.layer:
        return len(section.tiles)
    size = str(plan.fingerprints[section.variant]["recipe"]["octaves"][0]["size"])
    return plan.layers[size][section.layer][0]


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
