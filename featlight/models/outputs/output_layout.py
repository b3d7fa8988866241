"""What the dimensions of outputs mean: which is the feature, and of tokens, which are patches and how they lie.

All of it is known, from modules' kinds, from what moves with the image's size, or by the user's word; where it is not,
the layer is refused in a line that names the setting.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

from torch import nn

from featlight.config.inputs.sizes import ImageSize, both_sides
from featlight.config.settings import Channels, PrefixTokens
from featlight.config.tile import CLASS
from featlight.models.dimensions import FIRST, by_movement, by_ones
from featlight.models.layer_info import Layer, Tokens, part_words
from featlight.models.outputs.token_grid import GridSize, TokenGrid, declared_prefix, grid_of, has_class_token, reorders


class ObservedOutput(NamedTuple):
    """What a module gave at the call that a layer means, or a part of that."""

    output: tuple[int, ...]  # its shape
    refusal: str | None  # why it is none of a layer's outputs, whatever its dimensions mean
    kind: int | None  # where the feature stands, as the module's kind tells
    flow: int | None  # likewise, as the module's kind or what came in tells
    calls: int
    module: str  # its class
    part: tuple[str, ...] = ()
    taker: int | None = None  # where the feature stands, as the kind of a module that takes it tells
    call: int | None = None  # which call of the module is meant, from 1; None for the last
    batch: int = 0  # where the images stand in what it gave; in `output` they come first

    @property
    def has_dimensions(self) -> bool:
        """Whether there is anything to ask: it can be used, and is more than (N, C)."""
        return self.refusal is None and len(self.output) > 2


class OutputLayout:
    """What a network's outputs mean, as far as passes at some sizes tell.

    Args:
        network: frozen.
        passes: by size of the images in pixels and by name, what was seen.
        channels: which dimension of an output is the feature; `auto`: as is known.
        prefix_tokens: how many tokens stand before the patches; likewise.
    """

    def __init__(
        self,
        network: nn.Module,
        passes: Mapping[ImageSize, Mapping[str, ObservedOutput]],
        channels: Channels,
        prefix_tokens: PrefixTokens,
    ) -> None:
        self._network = network
        self._passes = passes
        self._channels = channels
        self._told = None if prefix_tokens == "auto" else prefix_tokens
        self._has_class = self._told is not None or has_class_token(network)
        self._reorders = reorders(network)
        self._alike = {size: self._shapes_at(size) for size in passes}
        self._flattened = {size: set(self._flat_maps(size)) for size in passes}  # features and neurons of every map
        self._maps = {size: dict(self._maps_at(size)) for size in passes}
        self._grids = {size: self._maps[size] | dict(self._grids_at(size)) for size in passes}

    def is_open(self, size: ImageSize, name: str) -> bool:
        """Whether a further size may tell more."""
        seen = self._passes[size][name]
        if not seen.has_dimensions:
            return False
        if self._dimension(size, name) is None:
            return self._channels == "auto"
        return len(seen.output) == 3 and (len(self._passes) == 1 or self._grid(size, name) is None)

    def layers(self, size: ImageSize) -> Iterator[Layer]:
        """All that was seen at a size, the class tokens of layers as layers of their own."""
        for name, seen in self._passes[size].items():
            layer = self._layer(size, name, seen)
            yield layer
            tokens = layer.tokens
            if tokens is not None and tokens.prefix and tokens.has_class:
                chosen = Tokens(tokens.count, tokens.prefix, True, "class")
                shape = (layer.features, 1, 1)
                yield replace(layer, name=name + CLASS, shape=shape, tokens=chosen)

    def _layer(self, size: ImageSize, name: str, seen: ObservedOutput) -> Layer:
        kind, shape = seen.module, seen.output
        layer = Layer(name, shape, seen.calls, kind=kind, part=seen.part, call=seen.call, batch=seen.batch)
        if not seen.has_dimensions:
            shape = shape if seen.refusal is not None else shape[1:]
            return replace(layer, shape=shape, refusal=seen.refusal)
        text, dimension = ", ".join(map(str, shape[1:])), self._dimension(size, name)
        if dimension is None:
            refusal = (
                f"it gives (N, {text}), and neither its kind ({kind}) nor a larger image tells which dimension is the "
                "feature; say channels: first, or last (--channels)"
            )
            return replace(layer, refusal=refusal)
        others = [shape[other] for other in range(1, len(shape)) if other != dimension]
        if len(others) == 2:
            return replace(layer, shape=(shape[dimension], *others), dimension=dimension)
        if self._reorders and others[0] > 1:
            refusal = f"it gives {others[0]} tokens in an order of the network's own, which is not that of the image"
            return replace(layer, refusal=refusal)
        grid = self._grid(size, name)
        if grid is None:
            what = (
                f"with {self._told} before them they are no grid of patches; say another number"
                if self._told is not None
                else "how many of these stand before the patches of a grid is not known; say it, as in prefix_tokens: 1"
            )
            refusal = f"it gives {others[0]} tokens of {shape[dimension]} features, and {what} (--prefix-tokens)"
            return replace(layer, refusal=refusal)
        tokens = Tokens(others[0], grid.prefix, self._has_class and grid.prefix > 0)
        return replace(layer, shape=(shape[dimension], *grid.sizes[0]), dimension=dimension, tokens=tokens)

    def _dimension(self, size: ImageSize, name: str) -> int | None:
        """Where the feature stands in a layer's output; None where nothing tells."""
        if self._channels != "auto":
            return FIRST if self._channels == "first" else len(self._passes[size][name].output) - 1
        return self._known(size, name)

    def _known(self, size: ImageSize, name: str) -> int | None:
        """As the module itself tells, or another that gives the very same shape."""
        told = self._told_of(size, name)
        if told is not None:
            return told
        shape = self._passes[size][name].output
        alike = self._alike[size].get(shape, set())
        return next(iter(alike)) if len(alike) == 1 else self._by_map(size, shape)

    def _by_map(self, size: ImageSize, shape: tuple[int, ...]) -> int | None:
        """Where the feature stands in tokens that are as many as a map's neurons and as wide as it has features."""
        maps = self._flattened[size]
        found = {each for each in (1, 2) if len(shape) == 3 and (shape[each], shape[3 - each]) in maps}
        return found.pop() if len(found) == 1 else None

    def _flat_maps(self, size: ImageSize) -> Iterator[tuple[int, int]]:
        for name, seen in self._passes[size].items():
            dimension = self._told_of(size, name) if seen.has_dimensions and len(seen.output) == 4 else None
            if dimension is not None:
                yield seen.output[dimension], prod(seen.output[1:]) // seen.output[dimension]

    def _shapes_at(self, size: ImageSize) -> dict[tuple[int, ...], set[int]]:
        """Shapes of outputs that are not as wide in another dimension as in their feature's, and where that stands."""
        found: dict[tuple[int, ...], set[int]] = {}
        for name, seen in self._passes[size].items():
            dimension = self._told_of(size, name) if seen.has_dimensions else None
            if dimension is not None and seen.output[1:].count(seen.output[dimension]) == 1:
                found.setdefault(seen.output, set()).add(dimension)
        return found

    def _told_of(self, size: ImageSize, name: str) -> int | None:
        here = self._passes[size][name]
        if here.kind is not None:
            return here.kind
        others = [each[name].output for each in self._passes.values() if name in each]
        moved = {by_movement(here.output, other) for other in others if len(other) == len(here.output)} - {None}
        if len(moved) == 1:
            return moved.pop()
        return here.flow or here.taker or by_ones(here.output)

    def _maps_at(self, size: ImageSize) -> Iterator[tuple[str, GridSize]]:
        for name, seen in self._passes[size].items():
            dimension = self._known(size, name) if seen.has_dimensions and len(seen.output) == 4 else None
            if dimension is not None:
                height, width = (seen.output[other] for other in range(1, 4) if other != dimension)
                yield name, (height, width)

    def _grids_at(self, size: ImageSize) -> Iterator[tuple[str, GridSize]]:
        """Of the tokens whose grid is known from maps or from how their number moves: a patch embedding's, say."""
        for name, seen in self._passes[size].items():
            if seen.has_dimensions and len(seen.output) == 3 and self._dimension(size, name) is not None:
                grid = self._grid_on(self._maps, size, name)
                if grid is not None:
                    yield name, grid.sizes[0]

    def _grid(self, size: ImageSize, name: str) -> TokenGrid | None:
        """Of a layer's tokens: by the network's maps, or where these do not tell, by other tokens' grids too."""
        return self._grid_on(self._maps, size, name) or self._grid_on(self._grids, size, name)

    def _grid_on(
        self, maps: Mapping[ImageSize, Mapping[str, GridSize]], size: ImageSize, name: str
    ) -> TokenGrid | None:
        """Of a layer's tokens, at this size and all others at which they were seen."""
        sizes = [size, *(other for other in self._passes if other != size and self._is_like(size, other, name))]
        counts = []
        for each in sizes:
            _, first, second = self._passes[each][name].output
            counts.append(second if self._dimension(each, name) == FIRST else first)
        module = name.removesuffix(part_words(self._passes[size][name].part))
        return grid_of(
            counts,
            [maps[each] for each in sizes],
            [both_sides(each) for each in sizes],
            declared_prefix(self._network, module),
            self._told,
        )

    def _is_like(self, size: ImageSize, other: ImageSize, name: str) -> bool:
        theirs = self._passes[other].get(name)
        if theirs is None or theirs.refusal is not None:
            return False
        return len(theirs.output) == 3 and self._dimension(other, name) == self._dimension(size, name)
