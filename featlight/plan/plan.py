"""The plan of a run: its tiles in chunks, independent of the number of workers."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from featlight.config.image_shape import MOST_CHANNELS, size_key
from featlight.config.schema import Figure
from featlight.config.settings import Settings, digest
from featlight.config.tile import LARGEST_FEATURE, Tile
from featlight.config.user_text import weights_without_folder, without_folder

FORMAT = 2
OCTAVE_SAMPLES = 6  # tiles of each atlas for which every run saves the end of each octave
OCTAVE_PICTURE = 96  # px, side of these pictures


class NetworkInfo(BaseModel):
    """The network of a run.

    Args:
        model: name by which the network was loaded.
        weights: description of the weights, such as "IMAGENET1K_V1".
        sha256: checksum of the network's structure and all its tensors.
        asked: weights as given in the config.
        in_channels: channels of the input images.
        file: path of the weights' file; None if they came from no file.
        file_sha256: checksum of that file.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    weights: str
    sha256: str
    asked: str
    in_channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)] = 3
    file: str | None = None
    file_sha256: str | None = None

    def without_folders(self) -> "NetworkInfo":
        """Return a copy to share, with files by their names only."""
        file = None if self.file is None else without_folder(self.file)
        return self.model_copy(update={"asked": weights_without_folder(self.asked), "file": file})

    @property
    def is_random(self) -> bool:
        """Whether the weights are random, which every output points out."""
        return self.weights.startswith("RANDOM WEIGHTS")


class Dictionary(BaseModel):
    """The directions whose rows a run's tiles show.

    Args:
        asked: file as given, or `FILE:name`.
        count: number of directions.
        features: length of each direction.
    """

    model_config = ConfigDict(frozen=True)

    asked: str
    count: Annotated[int, Field(ge=1, le=LARGEST_FEATURE)]
    features: Annotated[int, Field(ge=1, le=LARGEST_FEATURE)]

    def without_folders(self) -> "Dictionary":
        """Return a copy to share, with the file by its name only."""
        return self.model_copy(update={"asked": weights_without_folder(self.asked)})


@dataclass(frozen=True)
class PlannedTile:
    """A tile of one variant.

    Args:
        variant: name of the variant.
        tile: name and objective.
        title: name of its feature, such as a class; "" if it has none.
    """

    variant: str
    tile: Tile
    title: str = field(default="", compare=False)

    @property
    def file(self) -> str:
        """Return the tile's path in the run directory, which also identifies its record."""
        return f"tiles/{self.tile.file(self.variant)}.png"

    @property
    def label(self) -> str:
        """Return the label in an atlas: `654`, `292 tiger`, `654 row 8`, or the tile's name."""
        return f"{self.tile.label} {self.title}".rstrip()

    @property
    def group(self) -> tuple[str, str]:
        """Return the key of the tile's atlas: variant and layer ("" for a named tile)."""
        return self.variant, "" if self.tile.is_named else self.tile.terms[0].layer


@dataclass(frozen=True)
class Chunk:
    """Tiles that are optimized together: the unit of work, of commit and of resume."""

    number: int
    variant: str
    settings: Settings
    tiles: tuple[Tile, ...]
    batch_size: int  # images that are optimized together; fewer tiles are padded

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of the network outputs that the tiles use."""
        return tuple(dict.fromkeys(term.output for term in self.tiles[0].terms))

    @property
    def features(self) -> dict[str, set[int]]:
        """Return the features by layer, without layers of which some tile needs all features."""
        terms = [term for tile in self.tiles for term in tile.terms]
        whole = {term.output for term in terms if not term.measure.reads_one_feature}
        features: dict[str, set[int]] = {}
        for term in terms:
            if term.output not in whole and term.feature is not None:
                features.setdefault(term.output, set()).add(term.feature)
        return features

    def parts(self, batch_size: int) -> "list[Chunk]":
        """Split into chunks of at most `batch_size` tiles, with all diverse pictures of a feature in one chunk."""
        tiles, most = self.tiles, most_together(batch_size, self.settings)
        return [replace(self, tiles=tiles[i : i + most]) for i in range(0, len(tiles), most)]


def most_together(batch_size: int, settings: Settings) -> int:
    """Return the largest number of tiles per chunk that splits no feature's diverse pictures."""
    return batch_size // settings.diversity * settings.diversity


@dataclass
class Plan:
    """A run's plan, stored as `plan.json`.

    Args:
        created: date of the run's first start, in ISO format.
        network: network of the run.
        batch_size: number of images that the first chunks optimize together; smaller chunks are padded.
        larger_batches: batch size by number of the first chunk that has it, if a run of few tiles has grown.
        threads: CPU threads per worker.
        versions: versions of the packages that affect images.
        settings: resolved settings by variant.
        layers: output shape, (C, H, W) or (C,), by size of the first octave (`128`, `96x128`) and layer, in the
            network's order.
        tiles: all tiles ever requested, in order of request.
        chunks: indices into `tiles`.
        figure: figure to draw besides the atlas; None for none.
        directions: directions whose rows the tiles show; None if they show features.
        fingerprints: settings by variant as JSON types; exactly as stored, if the plan was read from a file.
    """

    created: str
    network: NetworkInfo
    batch_size: int
    threads: int
    versions: dict[str, str]
    settings: dict[str, Settings] = field(default_factory=dict)
    layers: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    tiles: list[PlannedTile] = field(default_factory=list)
    chunks: list[list[int]] = field(default_factory=list)
    figure: Figure | None = None
    directions: Dictionary | None = None
    fingerprints: dict[str, dict[str, Any]] = field(default_factory=dict)
    larger_batches: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for variant, settings in self.settings.items():
            self.add_variant(variant, settings)

    def add_variant(self, variant: str, settings: Settings) -> None:
        """Add a variant; a known one is left unchanged."""
        self.settings.setdefault(variant, settings)
        self.fingerprints.setdefault(variant, settings.fingerprint())

    def copy(self) -> "Plan":
        """Return a copy that can be extended independently."""
        return replace(
            self,
            settings=dict(self.settings),
            layers={size: dict(shapes) for size, shapes in self.layers.items()},
            tiles=list(self.tiles),
            chunks=list(self.chunks),
            fingerprints=dict(self.fingerprints),
            larger_batches=dict(self.larger_batches),
        )

    def without_folders(self) -> "Plan":
        """Return a copy to share, with files by their names only."""
        directions = None if self.directions is None else self.directions.without_folders()
        return replace(self, network=self.network.without_folders(), directions=directions)

    def without_photographs(self) -> "Plan":
        """Return a copy without variants that derive from a user's picture.

        If a variant is dropped, the figure is dropped too, as it may show it.
        """
        kept = {variant: each for variant, each in self.settings.items() if not each.shows_photograph}
        numbers = [i for i, planned in enumerate(self.tiles) if planned.variant in kept]
        places = {number: place for place, number in enumerate(numbers)}
        chunks = [number for number, members in enumerate(self.chunks) if members[0] in places]
        batches = [self.batch_of(number) for number in chunks]
        return replace(
            self,
            settings=kept,
            tiles=[self.tiles[i] for i in numbers],
            chunks=[[places[i] for i in self.chunks[number]] for number in chunks],
            larger_batches={i: size for i, size in enumerate(batches) if size > (self.batch_size, *batches)[i]},
            fingerprints={variant: self.fingerprints[variant] for variant in kept},
            figure=self.figure if kept == self.settings else None,
        )

    def is_same_run(self, other: "Plan") -> bool:
        """Return whether both plans belong to one run; each may have been extended independently."""
        ours, theirs = self.fingerprints, other.fingerprints
        return (self.network.sha256, self.batch_size, self.threads) == (
            other.network.sha256,
            other.batch_size,
            other.threads,
        ) and all(theirs.get(variant, ours[variant]) == ours[variant] for variant in ours)

    def digest(self, variant: str) -> str:
        """Return the short hash of a variant's fingerprint, which records carry."""
        return digest(self.fingerprints[variant])

    def shape(self, variant: str, layer: str) -> tuple[int, ...]:
        """Return the shape of a layer's output in a variant's first octave: (C, H, W) or (C,)."""
        return self.layers_of(variant)[layer]

    def layers_of(self, variant: str) -> Mapping[str, tuple[int, ...]]:
        """Return the output shapes in a variant's first octave by layer, in the network's order."""
        return self.layers[size_key(self.settings[variant].recipe.first_size)]

    @property
    def titles(self) -> dict[str, str]:
        """Return the names of the tiles' features by file, for those that have one."""
        return {planned.file: planned.title for planned in self.tiles if planned.title}

    @property
    def folders(self) -> dict[str, str]:
        """Return the folder of each layer's tiles."""
        features = [planned.tile for planned in self.tiles if not planned.tile.is_named]
        return {tile.terms[0].layer: tile.name.partition("/")[0] for tile in features}

    def batch_of(self, number: int) -> int:
        """Return the batch size of a chunk."""
        return max((size for first, size in self.larger_batches.items() if first <= number), default=self.batch_size)

    def batch_of_tile(self, file: str) -> int:
        """Return the batch size of a tile's chunk."""
        return self.batch_of(self.chunks_of({file})[0]) if self.larger_batches else self.batch_size

    @property
    def largest_batch(self) -> int:
        """Return the batch size of the newest chunks."""
        return max(self.batch_size, *self.larger_batches.values(), 0)

    def add(self, wanted: Sequence[PlannedTile], batch_size: int = 0) -> None:
        """Append new tiles in new chunks, so that existing chunks stay unchanged; update titles of existing tiles.

        Args:
            wanted: tiles; those already in the plan are not appended.
            batch_size: batch size of the new chunks, at least that of the newest ones.
        """
        known = {planned: place for place, planned in enumerate(self.tiles)}
        for planned in wanted:
            if planned.title and planned in known:
                self.tiles[known[planned]] = planned
        new = [planned for planned in dict.fromkeys(wanted) if planned not in known]
        for _, group in groupby(new, key=lambda planned: (planned.variant, planned.tile.signature)):
            members = list(group)
            if batch_size > self.largest_batch:
                self.larger_batches[len(self.chunks)] = batch_size
            most = most_together(self.largest_batch, self.settings[members[0].variant])
            for start in range(0, len(members), most):
                part = members[start : start + most]
                self.chunks.append(list(range(len(self.tiles), len(self.tiles) + len(part))))
                self.tiles.extend(part)

    def take_up(self, other: "Plan") -> None:
        """Add the variants, layers and tiles of another plan of the same run."""
        for variant, settings in other.settings.items():
            self.add_variant(variant, settings)
        for size, shapes in other.layers.items():
            self.layers.setdefault(size, {}).update(shapes)
        self.add(other.tiles, other.largest_batch)

    def chunk(self, number: int, settings: Mapping[str, Settings]) -> Chunk:
        members = [self.tiles[i] for i in self.chunks[number]]
        variant = members[0].variant
        tiles = tuple(planned.tile for planned in members)
        return Chunk(number, variant, settings[variant], tiles, self.batch_of(number))

    def share(self, rank: int, world: int, missing: Container[str]) -> list[int]:
        """Return the numbers of a worker's chunks that have missing tiles.

        Finished chunks are assigned too, so that workers agree whenever they look.

        Args:
            rank: rank of the worker.
            world: number of workers.
            missing: files of the tiles to make.
        """
        return [number for number in self.chunks_of(missing) if number % world == rank]

    def chunks_of(self, files: Container[str]) -> list[int]:
        """Return the numbers of the chunks that contain any of the tiles."""
        return [n for n, members in enumerate(self.chunks) if any(self.tiles[i].file in files for i in members)]

    def octave_samples(self) -> dict[tuple[str, str], list[str]]:
        """Return the files of each atlas's first tiles, whose octaves TensorBoard shows."""
        samples: dict[tuple[str, str], list[str]] = {}
        for planned in self.tiles:
            first = samples.setdefault(planned.group, [])
            if len(first) < OCTAVE_SAMPLES:
                first.append(planned.file)
        return samples

    def to_json(self) -> str:
        values = {
            "format": FORMAT,
            "created": self.created,
            "network": self.network.model_dump(),
            "fingerprints": self.fingerprints,
            "layers": self.layers,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "versions": self.versions,
            "chunks": self.chunks,
            **({"larger_batches": self.larger_batches} if self.larger_batches else {}),
            "figure": None if self.figure is None else self.figure.model_dump(mode="json"),
            **({} if self.directions is None else {"directions": self.directions.model_dump()}),
            "tiles": [_entry(planned) for planned in self.tiles],
        }
        return json.dumps(values, indent=1) + "\n"


def _entry(planned: PlannedTile) -> dict[str, Any]:
    title = {"title": planned.title} if planned.title else {}
    terms = [term.values() for term in planned.tile.terms]
    face = {} if planned.tile.face is None else {"face": planned.tile.face}
    return {"variant": planned.variant, **title, "name": planned.tile.name, "terms": terms, **face}
