"""The tiles that a config requests, checked against the layers of the network."""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from featlight.config.choices import Features, Sample, is_pattern, matching
from featlight.config.image_shape import ImageSize
from featlight.config.measures import DirectionsShape
from featlight.config.names import Names
from featlight.config.regions import REGIONS, Index
from featlight.config.schema import Config
from featlight.config.settings import Settings
from featlight.config.tile import (
    CLASS,
    MOST_TILES,
    RegionName,
    Term,
    Tile,
    diverse_tiles,
    feature_tile,
    file_name,
    folder_names,
)
from featlight.errors import UsageError
from featlight.models.layer_info import Layer
from featlight.plan.plan import PlannedTile

DIRECTIONS = "-directions"  # suffix of the folder of a layer's tiles of directions


class LayerTable(Protocol):
    """A network's layers at one image size, from a survey or from a plan."""

    @property
    def names(self) -> Sequence[str]: ...  # names of all modules

    def need(self, name: str, network_name: str) -> Layer: ...


class RememberedLayers:
    """The layers that a plan holds; with these a finished run needs no network."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._shapes = shapes

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the layers."""
        return list(self._shapes)

    def need(self, name: str, network_name: str) -> Layer:
        """Return the layer of a name.

        Raises:
            KeyError: the plan does not hold the layer; the network may still have it.
        """
        return Layer(name, tuple(self._shapes[name]), calls=1)


def check_term(term: Term, layer: Layer, directions: DirectionsShape | None = None) -> None:
    """Raise UsageError if a layer lacks a term's feature or position, or a direction does not fit the layer."""
    term.measure.check_layer(term, layer.name, layer.features, directions)
    if not REGIONS[term.region].is_on(term.index, layer.map_size):
        height, width = layer.map_size
        given = list(term.index) if isinstance(term.index, tuple) else term.index
        raise UsageError(
            f"index: {given} given; the map of layer {layer.name!r} has {height} rows and {width} columns, from 0"
        )


def named_layers(
    layer: Mapping[str, Features | None],
    modules: Container[str],
    usable: Sequence[str],
    own: Callable[[Sequence[str]], Sequence[str]],
    name: str,
) -> dict[str, Features | None]:
    """Return the features of each requested layer, with patterns replaced by names in the network's order.

    Args:
        layer: features by name or pattern of layers; a name takes precedence over patterns, and the first matching
            pattern over later ones.
        modules: names of all modules; none of them is treated as a pattern.
        usable: names of layers that patterns may match, in the network's order.
        own: function that drops layers whose output another of the given layers repeats.
        name: name of the network, for messages.

    Raises:
        UsageError: a pattern matches no layer.
    """
    matches = {word: matching(word, usable) for word in layer if is_pattern(word) and word not in modules}
    for word, names in matches.items():
        if not names:
            raise UsageError(f"layer: {word!r} given; it matches no layer of {name} with features (--list-layers)")
    matched = {each for names in matches.values() for each in names}
    distinct = set(own([each for each in usable if each in matched])) if matched else set()
    result: dict[str, Features | None] = {}
    for word, spec in layer.items():
        names = (
            [each for each in matches[word] if each in distinct and each not in layer] if word in matches else [word]
        )
        result |= {each: spec for each in names if each not in result}
    return result


def wanted_tiles(
    config: Config,
    surveys: Mapping[ImageSize, LayerTable],
    name: str,
    folders: Mapping[str, str] | None = None,
    names: Mapping[str, Names] | None = None,
    directions: DirectionsShape | None = None,
) -> list[PlannedTile]:
    """Return all tiles that a config requests, in order.

    Args:
        config: config whose layers are names, without patterns.
        surveys: layers of the network by image size, for each recipe's first octave.
        name: name of the network, for messages.
        folders: folders by layer that the run already has.
        names: names of features or directions by layer, for layers that have some.
        directions: size of the array of directions; None if the config requests features.

    Raises:
        UsageError: the network does not have a layer, feature or position.
    """
    if directions is not None and len(config.layer or {}) > 1:
        raise UsageError(f"layer: {len(config.layer or {})} layers given; directions belong to one: give one --layer")
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
        for planned in asked if config.interpolate == 1 else _interpolate(asked, config.interpolate):
            tiles = diverse_tiles(planned.tile, settings.diversity)
            wanted += [PlannedTile(variant, tile, planned.title) for tile in tiles]
    return wanted


def _numbered(spec: Features, names: Names | None, layer: str) -> Features:
    """Return features with their names replaced by numbers."""
    if isinstance(spec, Sample | str) or all(isinstance(each, int) for each in spec):
        return spec
    if names is None:
        word = next(each for each in spec if isinstance(each, str))
        raise UsageError(
            f"features: {word!r} given, but the features of layer {layer!r} have no names; give numbers, or a file of "
            "names (--labels)"
        )
    return names.numbers(spec, layer)


def _features(layer: Layer, spec: Features, seed: int, count: int) -> Sequence[int]:
    """Return the requested numbers among `count` features or directions."""
    if isinstance(spec, Sample):
        return spec.draw(layer.name, count, seed)
    return range(count) if spec == "all" else [each for each in spec if isinstance(each, int)]


def _check_count(tiles: int) -> None:
    """Raise UsageError if there are too many tiles, before they fill the memory."""
    if tiles > MOST_TILES:
        raise UsageError(f"features and index: {tiles:,} tiles requested; a run has at most {MOST_TILES:,}")


def _positions(layer: Layer, settings: Settings) -> int:
    """Return the number of positions for which each feature gets a tile."""
    return len(list(REGIONS[settings.region].indices(layer.map_size))) if settings.index == "all" else 1


def _layer_tiles(name: str, layer: Layer, folder: str, features: Sequence[int], settings: Settings) -> Iterator[Tile]:
    def tile(feature: int | None, region: RegionName = "map", index: Index = None) -> Tile:
        kept = "row" if settings.directions is not None else "image" if feature is None else None
        kept = None if settings.region == "all" else kept
        return feature_tile(name, feature, region, index, settings.tokens, folder=folder, direction=kept)

    if settings.region == "all":
        yield tile(None)
        return
    region = settings.region
    for feature in [None] if settings.caricature is not None else features:
        for index in REGIONS[region].indices(layer.map_size) if settings.index == "all" else [settings.index]:
            yield tile(feature, region, index)


def _interpolate(tiles: Sequence[PlannedTile], count: int) -> list[PlannedTile]:
    """Return named tiles from each tile to the next: `35-75-66-25` maximizes three quarters of 35 and one of 66.

    Args:
        tiles: tiles of one variant, in order.
        count: number of pictures from one tile to the next, both ends included; shared ends are made once.

    Raises:
        UsageError: there is a single tile, or two neighbors are equal.
    """
    if len(tiles) < 2:
        raise UsageError(f"interpolate: {count} given for {len(tiles)} tile; it needs at least two")
    result = []
    with_layer = len({planned.tile.terms[0].layer for planned in tiles}) > 1
    for number, (one, other) in enumerate(pairwise(tiles)):
        if one.tile.terms == other.tile.terms:
            raise UsageError(
                f"interpolate: {count} given, but {one.label} and {other.label} are equal; give two that differ"
            )
        for step in range(number > 0, count):
            part = step / (count - 1)
            terms = [replace(term, weight=term.weight * (1 - part)) for term in one.tile.terms]
            terms += [replace(term, weight=term.weight * part) for term in other.tile.terms]
            percent = round(100 * part)
            first, second = (_end_name(planned, with_layer=with_layer) for planned in (one, other))
            name = file_name(f"{first}-{100 - percent}-{second}-{percent}")
            result.append(PlannedTile(one.variant, Tile(name, tuple(terms))))
    return result


def _end_name(planned: PlannedTile, *, with_layer: bool) -> str:
    """Return a tile's name, or its feature's number and name: `292_tiger`."""
    layer = f"{planned.tile.terms[0].layer}_" if with_layer and not planned.tile.is_named else ""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", layer + planned.label).strip("_")
