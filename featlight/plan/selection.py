"""The tiles that a config asks for, checked against what the network has."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Protocol

from featlight.config.choice.features import Features, Sample
from featlight.config.choice.names import Names
from featlight.config.choice.patterns import is_pattern, matching
from featlight.config.inputs.sizes import ImageSize
from featlight.config.schema import Config
from featlight.config.settings import Settings
from featlight.config.tile import (
    CLASS,
    MOST_TILES,
    Index,
    Kept,
    Region,
    Tile,
    faces_of,
    feature_tile,
    folder_names,
)
from featlight.errors import UsageError
from featlight.models.layer_info import Layer
from featlight.plan.interpolation import between
from featlight.plan.plan import PlannedTile
from featlight.plan.terms import Rows, check_term

DIRECTIONS = "-directions"  # after a layer's folder, where its tiles are of directions


class LayerTable(Protocol):
    """A network's layers at one image size: surveyed, or as a plan remembers them."""

    @property
    def names(self) -> Sequence[str]: ...  # of all modules

    def need(self, name: str, network_name: str) -> Layer: ...


class RememberedLayers:
    """The layers that a plan holds, so that a finished run needs no network."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._shapes = shapes

    @property
    def names(self) -> Sequence[str]:
        """Of those layers; a run has given them their folders."""
        return list(self._shapes)

    def need(self, name: str, network_name: str) -> Layer:
        """The layer of that name.

        Raises:
            KeyError: the plan does not hold it; only the network can tell.
        """
        return Layer(name, tuple(self._shapes[name]), calls=1)


def named_layers(
    layer: Mapping[str, Features | None],
    modules: Container[str],
    usable: Sequence[str],
    own: Callable[[Sequence[str]], Sequence[str]],
    name: str,
) -> dict[str, Features | None]:
    """The layers that a config asks for, each by its name; those of a pattern in the network's order.

    Args:
        layer: names and patterns, with what is asked of each. A layer's own name comes before all patterns that take
            it, and of these the first counts.
        modules: names of all modules; what is one of them is no pattern.
        usable: the layers that patterns may take, in the network's order.
        own: gives those of some layers that no other of them repeats.
        name: of the network, for messages.

    Raises:
        UsageError: a pattern takes no layer.
    """
    taken = {word: matching(word, usable) for word in layer if is_pattern(word) and word not in modules}
    for word, names in taken.items():
        if not names:
            raise UsageError(f"layer: {word!r} given; no layer of {name} with features is like that (--list-layers)")
    every = {each for names in taken.values() for each in names}
    distinct = set(own([each for each in usable if each in every])) if every else set()
    found: dict[str, Features | None] = {}
    for word, spec in layer.items():
        named = [each for each in taken.get(word, ()) if each in distinct and each not in layer]
        found |= {each: spec for each in ([word] if word not in taken else named) if each not in found}
    return found


def wanted_tiles(
    config: Config,
    surveys: Mapping[ImageSize, LayerTable],
    name: str,
    folders: Mapping[str, str] | None = None,
    names: Mapping[str, Names] | None = None,
    directions: Rows | None = None,
) -> list[PlannedTile]:
    """Every tile that a config asks for, in order.

    Args:
        config: settled; its layers by name.
        surveys: of the network, by image size, one for each recipe's first octave.
        name: of the network, for messages.
        folders: by layer, those that a run has given their tiles already.
        names: by layer, what its features, or directions, are called, where they have names.
        directions: whose rows the config asks for, instead of features.

    Raises:
        UsageError: a layer, feature or position that the network does not have.
    """
    if directions is not None and len(config.layer or {}) > 1:
        raise UsageError(f"layer: {len(config.layer or {})} layers given; directions are of one layer's features")
    wanted: list[PlannedTile] = []
    fitted: dict[str, Names] = {}
    for variant, settings in config.settings.items():
        survey = surveys[settings.recipe.first_size]
        if config.tiles is not None:
            for term in (term for tile in config.tiles for term in tile.terms):
                check_term(term, survey.need(term.output, name), directions)
        asked = [PlannedTile(variant, tile) for tile in config.tiles or ()]
        all_folders = folder_names([*survey.names, *(config.layer or {})], folders or {})
        for layer_name, spec in (config.layer or {}).items():
            layer = survey.need(layer_name + (CLASS if settings.tokens == "class" else ""), name)
            count = layer.features if directions is None else directions.count
            if layer_name in (names or {}) and layer_name not in fitted:
                fitted[layer_name] = (names or {})[layer_name].for_layer(
                    layer_name, count, may_lack=directions is not None
                )
            spec = _numbered(config.features if spec is None else spec, fitted.get(layer_name), layer_name)
            features = [0] if settings.caricature is not None else _features(layer, spec, config.seed, count)
            several = _positions(layer, settings) * settings.diversity * config.interpolate
            _check_count(len(wanted) + len(asked) + len(features) * several)
            folder = all_folders[layer_name]
            if directions is not None and layer_name not in (folders or {}):
                folder += DIRECTIONS
            for tile in _layer_tiles(layer_name, layer, folder, features, settings):
                check_term(tile.terms[0], layer, directions)
                feature, known = tile.terms[0].feature, fitted.get(layer_name)
                title = known.title(feature) if known and feature is not None else ""
                asked.append(PlannedTile(variant, tile, title))
        for planned in asked if config.interpolate == 1 else between(asked, config.interpolate):
            wanted += [PlannedTile(variant, face, planned.title) for face in faces_of(planned.tile, settings.diversity)]
    return wanted


def _numbered(spec: Features, names: Names | None, layer: str) -> Features:
    """What is asked for, names turned into numbers."""
    if isinstance(spec, Sample | str) or all(isinstance(each, int) for each in spec):
        return spec
    if names is None:
        word = next(each for each in spec if isinstance(each, str))
        raise UsageError(
            f"features: {word!r} given, but the features of layer {layer!r} have no names; numbers, or a file of names "
            "(--labels), are needed"
        )
    return names.numbers(spec, layer)


def _features(layer: Layer, spec: Features, seed: int, count: int) -> Sequence[int]:
    """The numbers that are asked for of so many features, or directions."""
    if isinstance(spec, Sample):
        return spec.of(layer.name, count, seed)
    return range(count) if spec == "all" else [each for each in spec if isinstance(each, int)]


def _check_count(tiles: int) -> None:
    """Raise UsageError before so many tiles fill the memory."""
    if tiles > MOST_TILES:
        raise UsageError(f"features and index: {tiles:,} tiles asked for; a run has {MOST_TILES:,} at most")


def _positions(layer: Layer, settings: Settings) -> int:
    """How many tiles of each feature there are."""
    height, width = layer.map_size
    if settings.index != "all":
        return 1
    return height if settings.region == "row" else height * width


def _layer_tiles(name: str, layer: Layer, folder: str, features: Sequence[int], settings: Settings) -> Iterator[Tile]:
    def tile(feature: int | None, region: Region = "map", index: Index = None) -> Tile:
        kept: Kept | None = "row" if settings.directions is not None else "image" if feature is None else None
        kept = None if settings.region == "all" else kept
        return feature_tile(name, feature, region, index, settings.tokens, folder=folder, direction=kept)

    if settings.region == "all":
        yield tile(None)
        return
    height, width = layer.map_size
    for feature in [None] if settings.caricature is not None else features:
        match settings.region, settings.index:
            case "row", "all":
                yield from (tile(feature, "row", row) for row in range(height))
            case "neuron", "all":
                positions = ((row, column) for row in range(height) for column in range(width))
                yield from (tile(feature, "neuron", position) for position in positions)
            case "prefix", "all":
                yield from (tile(feature, "prefix", last) for last in range(height * width))
            case region, index:
                assert index != "all"
                yield tile(feature, region, index)
