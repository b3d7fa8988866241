"""What a run makes: its tiles, in chunks that no number of workers changes."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

from featlight.config.recipe import Recipe
from featlight.config.schema import AnyIndex, AnyRegion, Config
from featlight.config.tile import Metric, Term, Tile

FORMAT = 2
EXAMPLES = 6  # tiles of each atlas whose octaves every run keeps
OCTAVE_PICTURE = 96  # px, side of the small pictures that show each octave's end


@dataclass(frozen=True)
class Settings:
    """How tiles are made: a run's own way, or one of its variants."""

    variant: str  # "" where the run has none
    metric: Metric
    target: float
    region: AnyRegion
    index: AnyIndex
    recipe: Recipe
    init: str
    seed: int


def settings_of(config: Config) -> list[Settings]:
    """Every way in which a settled config makes its tiles."""
    assert config.recipe is not None
    own = Settings(
        "", config.metric, config.target, config.region, config.index, config.recipe, config.init, config.seed
    )
    ways = []
    for variant in config.variants or ():
        ways.append(replace(own, variant=variant.name, **variant.overrides()))
    return ways or [own]


@dataclass(frozen=True)
class Planned:
    """A tile and the variant that it is made in."""

    variant: str
    tile: Tile

    @property
    def file(self) -> str:
        """The tile's path in the run directory; it names the tile among the run's records."""
        return f"tiles/{self.tile.file(self.variant)}.png"

    @property
    def group(self) -> tuple[str, str]:
        """What the tiles of one atlas share: the variant, and the layer, "" for a named tile."""
        return self.variant, "" if self.tile.is_named else self.tile.terms[0].layer


@dataclass(frozen=True)
class Chunk:
    """Tiles that are optimised together: the unit of work, of commit and of resume."""

    number: int
    settings: Settings
    tiles: tuple[Tile, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.layer for term in self.tiles[0].terms))

    @property
    def features(self) -> dict[str, set[int]]:
        """By layer, those that its tiles look for, but for layers of which some tile takes all."""
        terms = [term for tile in self.tiles for term in tile.terms]
        whole = {term.layer for term in terms if term.feature is None}
        found: dict[str, set[int]] = {}
        for term in terms:
            if term.layer not in whole and term.feature is not None:
                found.setdefault(term.layer, set()).add(term.feature)
        return found

    def parts(self, batch_size: int) -> "list[Chunk]":
        """Itself, or where it holds more tiles than that, the pieces that it falls into."""
        tiles = self.tiles
        return [replace(self, tiles=tiles[i : i + batch_size]) for i in range(0, len(tiles), batch_size)]


@dataclass
class Plan:
    """A run's plan, as `plan.json` holds it.

    Args:
        created: date of the run's first start, ISO.
        network: model, weights in words, checksum, and the weights' file with its own checksum.
        fingerprints: by variant, all that a tile's bits hang on besides the tile itself.
        layers: by the first octave's size (px, a string) and name, the shape (C, H, W) or (C,) of an output.
        batch_size: images optimised together; shorter chunks are padded.
        threads: CPU threads of each worker.
        tiles: every tile that was ever asked for, in the order of asking.
        chunks: indices into `tiles`.
        figure: what to draw besides the atlas, by config key; None for nothing.
    """

    created: str
    network: dict[str, Any]
    fingerprints: dict[str, dict[str, Any]]
    layers: dict[str, dict[str, list[int]]]
    batch_size: int
    threads: int
    versions: dict[str, str]
    tiles: list[Planned] = field(default_factory=list)
    chunks: list[list[int]] = field(default_factory=list)
    figure: dict[str, Any] | None = None
    format: int = FORMAT

    def add(self, wanted: Sequence[Planned]) -> None:
        """Append what is not there yet, in chunks of its own, so that the chunks there stay as they are."""
        known = set(self.tiles)
        new = [planned for planned in dict.fromkeys(wanted) if planned not in known]
        for _, group in groupby(new, key=lambda planned: (planned.variant, planned.tile.signature)):
            members = list(group)
            for start in range(0, len(members), self.batch_size):
                part = members[start : start + self.batch_size]
                self.chunks.append(list(range(len(self.tiles), len(self.tiles) + len(part))))
                self.tiles.extend(part)

    def chunk(self, number: int, settings: Mapping[str, Settings]) -> Chunk:
        members = [self.tiles[i] for i in self.chunks[number]]
        return Chunk(number, settings[members[0].variant], tuple(planned.tile for planned in members))

    def share(self, rank: int, world: int, missing: Collection[str]) -> list[int]:
        """Numbers of the chunks that fall to a worker and lack a tile.

        All chunks are dealt, whatever is done, so that workers who look at different times still agree.

        Args:
            rank: of the worker.
            world: number of workers.
            missing: files of the tiles that are to be made.
        """
        return [
            number
            for number in range(rank, len(self.chunks), world)
            if any(self.tiles[i].file in missing for i in self.chunks[number])
        ]

    def examples(self) -> dict[tuple[str, str], list[str]]:
        """By atlas, the files of its first few tiles, whose way through the octaves TensorBoard shows."""
        found: dict[tuple[str, str], list[str]] = {}
        for planned in self.tiles:
            first = found.setdefault(planned.group, [])
            if len(first) < EXAMPLES:
                first.append(planned.file)
        return found

    def digest(self, variant: str) -> str:
        """The fingerprint that a record carries, short."""
        text = json.dumps(self.fingerprints[variant], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("tiles", "format")}
        tiles = [{"variant": planned.variant, **asdict(planned.tile)} for planned in self.tiles]
        return json.dumps({"format": self.format, **values, "tiles": tiles}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read it back.

        Raises:
            ValueError: it is no plan, or one of another format.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"not a plan of format {FORMAT}")
        try:
            tiles = [
                Planned(entry["variant"], Tile(entry["name"], tuple(Term(**term) for term in entry["terms"])))
                for entry in values.pop("tiles")
            ]
            return cls(tiles=tiles, **values)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"damaged ({error})") from None
