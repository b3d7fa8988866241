"""What a run makes: its tiles, in chunks that no number of workers changes, and what their bits hang on."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from featlight.config import AnyIndex, AnyRegion, Config
from featlight.errors import UsageError
from featlight.layer import Layer
from featlight.recipe import Recipe
from featlight.tile import Metric, Term, Tile, feature_tile

FORMAT = 1
# What all variants of a run share, as its network is loaded once
RUN_KEYS = ("model", "weights", "normalize", "precision", "batch_size", "threads", "compile")
CPU_BATCH, GPU_BATCH = 8, 64  # images; a chunk that held a whole layer would leave other workers idle


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


@dataclass(frozen=True)
class Chunk:
    """Tiles that are optimised together: the unit of work, of commit and of resume."""

    number: int
    settings: Settings
    tiles: tuple[Tile, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.layer for term in self.tiles[0].terms))


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

    @property
    def most_octaves(self) -> int:
        return max(len(values["recipe"]["octaves"]) for values in self.fingerprints.values())

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


class Layers(Protocol):
    """A network's layers at one image size: surveyed, or as a plan remembers them."""

    def need(self, name: str, network_name: str) -> Layer: ...


class RememberedLayers:
    """The layers that a plan holds, so that a finished run needs no network."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._shapes = shapes

    def need(self, name: str, network_name: str) -> Layer:
        """The layer of that name.

        Raises:
            KeyError: the plan does not hold it; only the network can tell.
        """
        return Layer(name, tuple(self._shapes[name]), calls=1)


def wanted_tiles(
    config: Config, settings: Sequence[Settings], surveys: Mapping[int, Layers], name: str
) -> list[Planned]:
    """Every tile that a config asks for, in order.

    Args:
        config: settled.
        settings: of it.
        surveys: of the network, by image size in pixels, one for each recipe's first octave.
        name: of the network, for messages.

    Raises:
        UsageError: a layer, feature or position that the network does not have.
    """
    wanted = []
    for way in settings:
        survey = surveys[way.recipe.first_size]
        if config.tiles is not None:
            for tile in config.tiles:
                for term in tile.terms:
                    _check_term(term, survey.need(term.layer, name))
                wanted.append(Planned(way.variant, tile))
            continue
        for layer_name, spec in (config.layer or {}).items():
            layer = survey.need(layer_name, name)
            features = config.features if spec is None else spec
            for tile in _layer_tiles(layer, range(layer.features) if features == "all" else features, way):
                _check_term(tile.terms[0], layer)
                wanted.append(Planned(way.variant, tile))
    return wanted


def _layer_tiles(layer: Layer, features: Sequence[int], way: Settings) -> Iterator[Tile]:
    if way.region == "all":
        yield feature_tile(layer.name, None)
        return
    height, width = layer.map_size
    for feature in features:
        match way.region, way.index:
            case "row", "all":
                yield from (feature_tile(layer.name, feature, "row", row) for row in range(height))
            case "neuron", "all":
                positions = ((row, column) for row in range(height) for column in range(width))
                yield from (feature_tile(layer.name, feature, "neuron", position) for position in positions)
            case "prefix", "all":
                yield from (feature_tile(layer.name, feature, "prefix", last) for last in range(height * width))
            case region, index:
                assert index != "all"
                yield feature_tile(layer.name, feature, region, index)


def _check_term(term: Term, layer: Layer) -> None:
    if term.feature is not None and term.feature >= layer.features:
        raise UsageError(
            f"features: {term.feature} given; layer {layer.name!r} has {layer.features}, 0 to {layer.features - 1}"
        )
    height, width = layer.map_size
    match term.region, term.index:
        case "row", int(row):
            fits = row < height
        case "neuron", (row, column):
            fits = row < height and column < width
        case "prefix", int(last):
            fits = last < height * width
        case _:
            fits = True
    if not fits:
        given = list(term.index) if isinstance(term.index, tuple) else term.index
        raise UsageError(
            f"index: {given} given; the map of layer {layer.name!r} has {height} rows and {width} columns, from 0"
        )


def auto_batch_size(tiles: int, *, gpu: bool) -> int:
    """A power of two, no more than the device gains from, nor than the tiles rounded up; bits hang on it."""
    largest = GPU_BATCH if gpu else CPU_BATCH
    return min(largest, 1 << max(tiles - 1, 0).bit_length())


def fingerprint(
    way: Settings, config: Config, plan: Plan, *, weights_sha256: str, init_sha256: str | None
) -> dict[str, Any]:
    """All that the bits of a tile hang on, besides the tile itself, by config key.

    Args:
        way: in which the tile is made.
        config: settled.
        plan: what it has settled stands for the config's `auto`.
        weights_sha256: checksum of the network's state.
        init_sha256: checksum of a natural start's pixels; None for a start by name.
    """
    return {
        "model": config.model,
        "weights": weights_sha256,
        "normalize": config.normalize,
        "metric": way.metric,
        "target": way.target,
        "region": way.region,
        "index": list(way.index) if isinstance(way.index, tuple) else way.index,
        "recipe": recipe_json(way.recipe),
        "init": init_sha256 or way.init,
        "seed": way.seed,
        "precision": config.precision,
        "batch_size": plan.batch_size if config.batch_size == "auto" else config.batch_size,
        "threads": plan.threads if config.threads == "auto" else config.threads,
        "compile": "off" if config.compile == "auto" else config.compile,
    }


def figure_of(config: Config) -> dict[str, Any] | None:
    """The figure that a config asks for, in JSON's own types."""
    return None if config.figure is None else config.figure.model_dump(mode="json")


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe in JSON's own types."""
    result: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return result


def refuse_other(plan: Plan, variant: str, ours: Mapping[str, Any], out: str | None) -> None:
    """Raise UsageError where a plan holds tiles that were made otherwise, with the keys that differ.

    Args:
        plan: of the run directory.
        variant: to be made; one that the plan does not know yet must share its run's network and arithmetic.
        ours: the variant's fingerprint now.
        out: the run directory.
    """
    if variant in plan.fingerprints:
        theirs = plan.fingerprints[variant]
    elif plan.fingerprints:
        any_other = next(iter(plan.fingerprints.values()))
        theirs = {**ours, **{key: any_other[key] for key in RUN_KEYS}}
    else:
        return
    differing = [
        f"{key}: there {_short(theirs.get(key))}, now {_short(value)}"
        for key, value in ours.items()
        if theirs.get(key) != value
    ]
    if differing:
        raise UsageError(
            f"{out} holds another run ({'; '.join(differing)}); give another --out, or --fresh to delete that run"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 48 else text[:45] + "..."


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
