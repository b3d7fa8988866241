"""What a run makes: its tiles, in chunks that no number of workers changes."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from featlight.config.inputs.channels import MOST as MOST_CHANNELS
from featlight.config.inputs.sizes import size_key
from featlight.config.schema import Figure
from featlight.config.settings import Settings, digest
from featlight.config.text_checks import weights_without_folder, without_folder
from featlight.config.tile import LARGEST_FEATURE, Tile

FORMAT = 2
EXAMPLES = 6  # tiles of each atlas whose octaves every run keeps
OCTAVE_PICTURE = 96  # px, side of the small pictures that show each octave's end


class NetworkInfo(BaseModel):
    """Which network a run looks into.

    Args:
        model: the name that it was loaded by.
        weights: in words, as in "IMAGENET1K_V1".
        sha256: of its structure and all its tensors.
        in_channels: of the images that it takes.
        asked: the weights as the config asked for them.
        file: that its weights were read from; None where no file holds them.
        file_sha256: of that file.
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
        """The same for other people: files by their names alone."""
        file = None if self.file is None else without_folder(self.file)
        return self.model_copy(update={"asked": weights_without_folder(self.asked), "file": file})

    @property
    def is_random(self) -> bool:
        """Whether it was never trained, which every output says loudly."""
        return self.weights.startswith("RANDOM WEIGHTS")


class Dictionary(BaseModel):
    """The directions that a run's tiles are rows of.

    Args:
        asked: the words that named them: a file, or `FILE:name`.
        count: how many there are.
        features: numbers of each.
    """

    model_config = ConfigDict(frozen=True)

    asked: str
    count: Annotated[int, Field(ge=1, le=LARGEST_FEATURE)]
    features: Annotated[int, Field(ge=1, le=LARGEST_FEATURE)]

    def without_folders(self) -> "Dictionary":
        """The same for other people: the file by its name alone."""
        return self.model_copy(update={"asked": weights_without_folder(self.asked)})


@dataclass(frozen=True)
class PlannedTile:
    """A tile and the variant that it is made in.

    Args:
        variant: by name.
        tile: what it shows.
        title: what its feature is called, as classes are; "" where nobody has named it.
    """

    variant: str
    tile: Tile
    title: str = field(default="", compare=False)

    @property
    def file(self) -> str:
        """The tile's path in the run directory; it names the tile among the run's records."""
        return f"tiles/{self.tile.file(self.variant)}.png"

    @property
    def label(self) -> str:
        """What stands under it in an atlas: `654`, `292 tiger`, `654 row 8`, or the tile's name."""
        return f"{self.tile.label} {self.title}".rstrip()

    @property
    def group(self) -> tuple[str, str]:
        """What the tiles of one atlas share: the variant, and the layer, "" for a named tile."""
        return self.variant, "" if self.tile.is_named else self.tile.terms[0].layer


@dataclass(frozen=True)
class Chunk:
    """Tiles that are optimised together: the unit of work, of commit and of resume."""

    number: int
    variant: str
    settings: Settings
    tiles: tuple[Tile, ...]
    batch_size: int  # images that are optimized together; fewer tiles are padded

    @property
    def layers(self) -> tuple[str, ...]:
        """What its tiles look at, by the names that a network's outputs have."""
        return tuple(dict.fromkeys(term.output for term in self.tiles[0].terms))

    @property
    def features(self) -> dict[str, set[int]]:
        """By layer, those that its tiles look for, except for layers of which some tile takes all, or a direction."""
        terms = [term for tile in self.tiles for term in tile.terms]
        whole = {term.output for term in terms if term.choice != "feature"}
        found: dict[str, set[int]] = {}
        for term in terms:
            if term.output not in whole and term.feature is not None:
                found.setdefault(term.output, set()).add(term.feature)
        return found

    def parts(self, batch_size: int) -> "list[Chunk]":
        """Itself, or where it holds more tiles than that, the pieces that it falls into; no group of faces is split."""
        tiles, most = self.tiles, most_together(batch_size, self.settings)
        return [replace(self, tiles=tiles[i : i + most]) for i in range(0, len(tiles), most)]


def most_together(batch_size: int, settings: Settings) -> int:
    """How many of so many images can be made together, where the faces of a feature stay together."""
    return batch_size // settings.diversity * settings.diversity


@dataclass
class Plan:
    """A run's plan, as `plan.json` holds it.

    Args:
        created: date of the run's first start, ISO.
        network: which one.
        batch_size: images that the first chunks optimize together; shorter chunks are padded.
        larger_batches: batch size by the number of the first chunk that has it, where a run of few tiles has grown.
        threads: CPU threads of each worker.
        versions: of what the images depend on, by package.
        settings: by variant, how its tiles are made, settled.
        layers: by the first octave's size (`128`, `96x128`) and name, the shape (C, H, W) or (C,) of an output;
            layers in the network's order.
        tiles: every tile that was ever asked for, in the order of asking.
        chunks: indices into `tiles`.
        figure: what to draw besides the atlas; None for nothing.
        directions: that tiles are rows of; None where they are features.
        fingerprints: by variant, its settings in JSON's own types; of a plan that was read, as they stood there.
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
        """Take up a variant; one that is known stays as it is."""
        self.settings.setdefault(variant, settings)
        self.fingerprints.setdefault(variant, settings.fingerprint())

    def copy(self) -> "Plan":
        """Another one, which may grow for itself."""
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
        """The same for other people: files by their names alone."""
        directions = None if self.directions is None else self.directions.without_folders()
        return replace(self, network=self.network.without_folders(), directions=directions)

    def without_photographs(self) -> "Plan":
        """The same with those variants alone that are made from no picture of the user's.

        Where one goes, the figure goes too, as it may show it.
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
        """Whether tiles of this one may stand beside tiles of the other one: both may have grown, each for itself."""
        ours, theirs = self.fingerprints, other.fingerprints
        return (self.network.sha256, self.batch_size, self.threads) == (
            other.network.sha256,
            other.batch_size,
            other.threads,
        ) and all(theirs.get(variant, ours[variant]) == ours[variant] for variant in ours)

    def digest(self, variant: str) -> str:
        """The fingerprint that a record carries, short."""
        return digest(self.fingerprints[variant])

    def shape(self, variant: str, layer: str) -> tuple[int, ...]:
        """Of a layer's output in a variant's first octave: (C, H, W) or (C,)."""
        return self.layers_of(variant)[layer]

    def layers_of(self, variant: str) -> Mapping[str, tuple[int, ...]]:
        """By name, what `shape` says of each layer, in the network's order."""
        return self.layers[size_key(self.settings[variant].recipe.first_size)]

    @property
    def titles(self) -> dict[str, str]:
        """By file, what the tiles' features are called, where they have names."""
        return {planned.file: planned.title for planned in self.tiles if planned.title}

    @property
    def folders(self) -> dict[str, str]:
        """By layer, the folder of its features' or directions' tiles."""
        features = [planned.tile for planned in self.tiles if not planned.tile.is_named]
        return {tile.terms[0].layer: tile.name.partition("/")[0] for tile in features}

    def batch_of(self, number: int) -> int:
        """Images that a chunk optimizes together, given its number."""
        return max((size for first, size in self.larger_batches.items() if first <= number), default=self.batch_size)

    def batch_of_tile(self, file: str) -> int:
        """Images that the chunk of a tile optimizes together, given the tile's file."""
        return self.batch_of(self.chunks_of({file})[0]) if self.larger_batches else self.batch_size

    @property
    def largest_batch(self) -> int:
        """Images that the newest chunks optimize together."""
        return max(self.batch_size, *self.larger_batches.values(), 0)

    def add(self, wanted: Sequence[PlannedTile], batch_size: int = 0) -> None:
        """Append new tiles in chunks of their own, so that the existing chunks stay as they are.

        Existing tiles take the titles given now.

        Args:
            wanted: tiles; those that the plan holds are not appended.
            batch_size: images that the new chunks optimize together; at least as many as the newest chunks do.
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
        """Append what another plan of the same run holds besides: variants, layers, tiles."""
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
        """Numbers of the chunks that fall to a worker and lack a tile.

        All chunks are dealt, whatever is done, so that workers who look at different times still agree.

        Args:
            rank: of the worker.
            world: number of workers.
            missing: files of the tiles that are to be made.
        """
        return [number for number in self.chunks_of(missing) if number % world == rank]

    def chunks_of(self, files: Container[str]) -> list[int]:
        """Numbers of the chunks that hold some of these tiles."""
        return [n for n, members in enumerate(self.chunks) if any(self.tiles[i].file in files for i in members)]

    def octave_samples(self) -> dict[tuple[str, str], list[str]]:
        """By atlas, the files of its first few tiles, whose way through the octaves TensorBoard shows."""
        found: dict[tuple[str, str], list[str]] = {}
        for planned in self.tiles:
            first = found.setdefault(planned.group, [])
            if len(first) < EXAMPLES:
                first.append(planned.file)
        return found

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
