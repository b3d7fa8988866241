"""Read and check `plan.json`, which may be hostile; later code relies on these checks. No torch."""

import datetime
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from featlight.config.image_shape import LARGEST_SIZE, size_key
from featlight.config.schema import Figure
from featlight.config.settings import Settings
from featlight.config.tile import LARGEST_FEATURE, MOST_TILES, Term, Tile, is_plain
from featlight.config.user_text import check_words
from featlight.plan.plan import FORMAT, Dictionary, NetworkInfo, Plan, PlannedTile
from featlight.plan.selection import RememberedLayers, check_term

LONGEST_NAME = 230  # characters; file systems allow 255, and suffixes are appended
PositiveCount = Annotated[int, Field(ge=1, le=4096)]
ChunkNumber = Annotated[int, Field(ge=0, lt=MOST_TILES)]
FeatureCount = Annotated[int, Field(ge=1, le=LARGEST_FEATURE)]
Side = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]  # of a map, at most as large as an image
Shape = tuple[FeatureCount] | tuple[FeatureCount, Side, Side]


class _Entry(BaseModel):
    variant: str
    name: str
    terms: tuple[Term, ...]
    face: Annotated[int, Field(ge=0, lt=64)] | None = None
    title: str = ""


class _PlanFile(BaseModel):
    format: Literal[2]
    created: datetime.date
    network: NetworkInfo
    fingerprints: Annotated[dict[str, Settings], Field(max_length=1000)]
    layers: dict[str, dict[str, Shape]]
    batch_size: PositiveCount
    threads: PositiveCount
    versions: Annotated[dict[str, str], Field(max_length=100)]
    tiles: Annotated[list[_Entry], Field(max_length=MOST_TILES)]
    chunks: Annotated[list[list[int]], Field(max_length=MOST_TILES)]
    figure: Figure | None = None
    directions: Dictionary | None = None
    larger_batches: Annotated[dict[ChunkNumber, PositiveCount], Field(max_length=12)] = {}


def read_plan(text: str) -> Plan:
    """Return the plan in a file's text, with every value checked.

    Raises:
        ValueError: the text is not a plan, has another format, or is damaged.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("damaged (lists nested too deeply)") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"not a plan of format {FORMAT}")
    try:
        check_words(values)
        return _plan(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"damaged ({where[:80]}: {first['msg'][:200]})") from None
    except ValueError as error:
        raise ValueError(f"damaged ({error})") from None


def _plan(values: Mapping[str, Any]) -> Plan:
    file = _PlanFile.model_validate(values)
    plan = Plan(
        created=file.created.isoformat(),
        network=file.network,
        batch_size=file.batch_size,
        threads=file.threads,
        versions=file.versions,
        settings=file.fingerprints,
        layers={size: dict(shapes) for size, shapes in file.layers.items()},
        tiles=_tiles(file),
        chunks=file.chunks,
        figure=file.figure,
        directions=file.directions,
        fingerprints=values["fingerprints"],
        larger_batches=file.larger_batches,
    )
    if "featlight" not in plan.versions:
        raise ValueError("versions: featlight is missing")
    _check_settings(plan)
    _check_chunks(plan)
    _check_faces(plan)
    return plan


def _check_settings(plan: Plan) -> None:
    """Check that the stored fingerprints, which digests are computed from, agree with the settings that are used."""
    for variant, settings in plan.settings.items():
        if (settings.batch_size, settings.threads) != (plan.batch_size, plan.threads):
            raise ValueError("fingerprints: batch_size or threads differ from the plan's")
        if not _is_written_so(settings.fingerprint(), plan.fingerprints[variant]):
            raise ValueError(f"fingerprints: a value of {variant!r} is missing, or has another type than its setting")


def _is_written_so(ours: Any, theirs: Any) -> bool:
    """Return whether JSON values are present and of the same type: `true` and `"1"` are no number, 1.0 equals 1."""
    match ours, theirs:
        case (dict(), dict()):
            return all(key in theirs and _is_written_so(value, theirs[key]) for key, value in ours.items())
        case (list(), list()):
            return len(ours) == len(theirs) and all(map(_is_written_so, ours, theirs))
        case (bool(), _) | (_, bool()):
            return ours is theirs
        case (int() | float(), int() | float()):
            return True
    return type(ours) is type(theirs)


def _tiles(file: _PlanFile) -> list[PlannedTile]:
    """Return the file's tiles; each has a unique file name, and a variant and layers that the file knows."""
    for variant in file.fingerprints:
        if variant != "" and (not is_plain(variant) or len(variant) > LONGEST_NAME):
            raise ValueError("variant: not a valid name")
    tiles = [PlannedTile(entry.variant, Tile(entry.name, entry.terms, entry.face), entry.title) for entry in file.tiles]
    for planned in tiles:
        if planned.variant not in file.fingerprints:
            raise ValueError("variant: not among the fingerprints")
        if max(map(len, planned.tile.name.split("/"))) > LONGEST_NAME:
            raise ValueError(f"tiles: the name {planned.tile.name[:60]!r}... is too long")
        if len(planned.title) > LONGEST_NAME:
            raise ValueError(f"tiles: the title {planned.title[:60]!r}... is too long")
        size = size_key(file.fingerprints[planned.variant].recipe.first_size)
        layers = RememberedLayers(file.layers.get(size, {}))
        for term in planned.tile.terms:
            if term.measure.needs_image and file.fingerprints[planned.variant].caricature is None:
                raise ValueError("tiles: a caricature without an image")
            try:
                check_term(term, layers.need(term.output, file.network.model), file.directions)
            except KeyError:
                raise ValueError(f"layers: no shape of {term.output!r} at {size} px") from None
    if len({planned.file for planned in tiles}) < len(tiles):
        raise ValueError("tiles: two with the same file")
    return tiles


def _check_chunks(plan: Plan) -> None:
    tiles = plan.tiles
    if sorted(i for members in plan.chunks for i in members) != list(range(len(tiles))):
        raise ValueError("chunks: not every tile is in exactly one chunk")
    batches = [plan.batch_size, *(size for _, size in sorted(plan.larger_batches.items()))]
    if batches != sorted(set(batches)) or any(first >= len(plan.chunks) for first in plan.larger_batches):
        raise ValueError("larger_batches: they do not grow with the chunks")
    for number, members in enumerate(plan.chunks):
        if not 1 <= len(members) <= plan.batch_of(number):
            raise ValueError(f"chunks: one has {len(members)} tiles; its batch size is {plan.batch_of(number)}")
        if len({(tiles[i].variant, tiles[i].tile.signature) for i in members}) > 1:
            raise ValueError("chunks: one mixes variants, layers or kinds of terms")


def _check_faces(plan: Plan) -> None:
    """Check that all diverse pictures of a feature are in one chunk, in order."""
    for members in plan.chunks:
        tiles = [plan.tiles[i] for i in members]
        faces = plan.settings[tiles[0].variant].diversity
        wanted = [None] if faces == 1 else range(faces)
        if [planned.tile.face for planned in tiles] != [*wanted] * (len(tiles) // faces):
            raise ValueError(f"chunks: one splits the {faces} pictures of a feature")
