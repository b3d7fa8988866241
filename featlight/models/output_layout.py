"""Turn a module's output into a feature map: select a part, arrange tokens on their grid, put the features first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from math import isqrt, prod
from typing import Any, NamedTuple

from torch import Tensor, nn

from featlight.config.image_shape import ImageSize, both_sides
from featlight.config.settings import Channels, PrefixTokens
from featlight.config.tile import CLASS
from featlight.models.dimensions import FIRST, by_image_size, by_ones
from featlight.models.layer_info import Layer, Tokens, part_suffix
from featlight.models.token_grid import (
    FixedTokens,
    GridSize,
    TokenGrid,
    declared_prefix,
    grid_of,
    has_class_token,
    reorders,
)

DEPTH = 3  # levels of nested structures


def parts(output: Any, depth: int = DEPTH) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield every tensor in a structure, with the indices and keys that lead to it."""
    for key, value in _entries(output).items():
        if isinstance(value, Tensor):
            yield (key,), value
        elif depth > 1:
            yield from (((key, *inner), tensor) for inner, tensor in parts(value, depth - 1))


def part_of(output: Any, path: Sequence[str]) -> Any:
    """Return the part of a structure at some indices and keys; None if there is no such part."""
    for key in path:
        output = _entries(output).get(key)
    return output


def _entries(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, list | tuple):
        return {str(index): value for index, value in enumerate(output)}
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    return {}


def as_map(layer: Layer, output: Tensor) -> Tensor:
    """Return a layer's output as a map, (N, C, H, W).

    Args:
        layer: layer with the feature dimension and the tokens to use.
        output: output of the module, or a part of it: (N, C), (N, T, C), (N, C, T), (T, N, C), or 4-D.
    """
    output = output.movedim(layer.batch, 0) if layer.batch else output
    if layer.tokens is None:
        if output.ndim == 2:
            return output[:, :, None, None]
        return output if layer.dimension == 1 else output.movedim(layer.dimension, 1)
    x = output.movedim(layer.dimension, 1)  # (N, C, T)
    if layer.tokens.chosen == "class":
        return x[:, :, :1, None]
    patches = x[:, :, layer.tokens.prefix : x.shape[2] - layer.tokens.suffix]
    return patches.reshape(*patches.shape[:2], *_grid(layer, patches.shape[2]))


def _grid(layer: Layer, count: int) -> tuple[int, int]:
    """Return the height and width of a number of patches; at an unknown image size, in the known aspect ratio."""
    height, width = layer.map_size
    if count == height * width:
        return height, width
    side = isqrt(count * height // width)
    if not side or count % side:
        raise ValueError(f"layer {layer.name!r} gives {count} patches, which form no grid like {height} x {width}")
    return side, count // side


class ObservedOutput(NamedTuple):
    """The output of a module, or a part of it, in the call that a layer means.

    Args:
        shape: shape with the batch first.
        refusal: reason why it is not a layer whatever its layout; None if it may be one.
        by_kind: feature dimension according to the kind of the module; None if unknown.
        by_flow: feature dimension according to the kinds of this module and those before it; None if unknown.
        calls: number of calls of the module.
        module: class of the module.
        part: indices and keys of the part.
        by_consumer: feature dimension according to the kind of a module that takes it; None if unknown.
        call: call of the module, from 1; None for the last.
        batch: batch dimension of the module's output.
    """

    shape: tuple[int, ...]
    refusal: str | None
    by_kind: int | None
    by_flow: int | None
    calls: int
    module: str
    part: tuple[str, ...] = ()
    by_consumer: int | None = None
    call: int | None = None
    batch: int = 0

    @property
    def has_dimensions(self) -> bool:
        """Whether it is usable and has more dimensions than (N, C)."""
        return self.refusal is None and len(self.shape) > 2


class OutputLayout:
    """The layouts of a network's outputs, as far as forward passes at some image sizes determine them.

    Args:
        network: frozen network.
        passes: outputs by image size in pixels and by layer name.
        channels: feature dimension of all outputs, `first` or `last`; `auto` to determine it.
        prefix_tokens: number of tokens before the patches; `auto` to determine it.
        fixed: tokens that do not depend on the image, by image size in pixels and by number of tokens.
    """

    def __init__(
        self,
        network: nn.Module,
        passes: Mapping[ImageSize, Mapping[str, ObservedOutput]],
        channels: Channels,
        prefix_tokens: PrefixTokens,
        fixed: Mapping[ImageSize, Mapping[int, FixedTokens]],
    ) -> None:
        self._network = network
        self._passes = passes
        self._channels = channels
        self._fixed = fixed
        self._prefix = None if prefix_tokens == "auto" else prefix_tokens
        self._has_class = self._prefix is not None or has_class_token(network)
        self._reorders = reorders(network)
        self._dimensions_by_shape = {size: self._shapes_at(size) for size in passes}
        self._flat_map_shapes = {size: set(self._flat_maps(size)) for size in passes}  # features, neurons
        self._maps = {size: dict(self._maps_at(size)) for size in passes}
        self._grids = {size: self._maps[size] | dict(self._grids_at(size)) for size in passes}

    def is_open(self, size: ImageSize, name: str) -> bool:
        """Return whether a pass at another image size may determine more."""
        seen = self._passes[size][name]
        if not seen.has_dimensions:
            return False
        if self._dimension(size, name) is None:
            return self._channels == "auto"
        return len(seen.shape) == 3 and (len(self._passes) == 1 or self._grid(size, name) is None)

    def layers(self, size: ImageSize) -> Iterator[Layer]:
        """Yield every layer at an image size; class tokens are layers of their own."""
        for name, seen in self._passes[size].items():
            layer = self._layer(size, name, seen)
            yield layer
            tokens = layer.tokens
            if tokens is not None and tokens.prefix and tokens.has_class:
                chosen = replace(tokens, chosen="class")
                shape = (layer.features, 1, 1)
                yield replace(layer, name=name + CLASS, shape=shape, tokens=chosen)

    def _layer(self, size: ImageSize, name: str, seen: ObservedOutput) -> Layer:
        kind, shape = seen.module, seen.shape
        layer = Layer(name, shape, seen.calls, kind=kind, part=seen.part, call=seen.call, batch=seen.batch)
        if not seen.has_dimensions:
            shape = shape if seen.refusal is not None else shape[1:]
            return replace(layer, shape=shape, refusal=seen.refusal)
        text, dimension = ", ".join(map(str, shape[1:])), self._dimension(size, name)
        if dimension is None:
            refusal = (
                f"it gives (N, {text}), and neither its kind ({kind}) nor a larger image shows which dimension is the "
                "feature; set channels: first, or last (--channels)"
            )
            return replace(layer, refusal=refusal)
        others = [shape[other] for other in range(1, len(shape)) if other != dimension]
        if len(others) == 2:
            return replace(layer, shape=(shape[dimension], *others), dimension=dimension)
        if self._reorders and others[0] > 1:
            refusal = f"it gives {others[0]} tokens in another order than that of the patches in the image"
            return replace(layer, refusal=refusal)
        grid = self._grid(size, name)
        if grid is None:
            problem = (
                f"without the first {self._prefix} they form no grid of patches; set another number"
                if self._prefix is not None
                else "the number of these before the grid of patches is unknown; set it, as in prefix_tokens: 1"
            )
            refusal = f"it gives {others[0]} tokens of {shape[dimension]} features, and {problem} (--prefix-tokens)"
            return replace(layer, refusal=refusal)
        tokens = Tokens(others[0], grid.prefix, self._has_class and grid.prefix > 0, suffix=grid.suffix)
        return replace(layer, shape=(shape[dimension], *grid.sizes[0]), dimension=dimension, tokens=tokens)

    def _dimension(self, size: ImageSize, name: str) -> int | None:
        """Return the feature dimension of a layer's output; None if it is unknown."""
        if self._channels != "auto":
            return FIRST if self._channels == "first" else len(self._passes[size][name].shape) - 1
        return self._known(size, name)

    def _known(self, size: ImageSize, name: str) -> int | None:
        """Return the feature dimension according to the module itself, or to others with the same output shape."""
        dimension = self._by_module(size, name)
        if dimension is not None:
            return dimension
        shape = self._passes[size][name].shape
        dimensions = self._dimensions_by_shape[size].get(shape, set())
        return next(iter(dimensions)) if len(dimensions) == 1 else self._by_map(size, shape)

    def _by_map(self, size: ImageSize, shape: tuple[int, ...]) -> int | None:
        """Return the feature dimension of tokens that have the features and the number of neurons of a map."""
        maps = self._flat_map_shapes[size]
        dimensions = {axis for axis in (1, 2) if len(shape) == 3 and (shape[axis], shape[3 - axis]) in maps}
        return dimensions.pop() if len(dimensions) == 1 else None

    def _flat_maps(self, size: ImageSize) -> Iterator[tuple[int, int]]:
        for name, seen in self._passes[size].items():
            dimension = self._by_module(size, name) if seen.has_dimensions and len(seen.shape) == 4 else None
            if dimension is not None:
                yield seen.shape[dimension], prod(seen.shape[1:]) // seen.shape[dimension]

    def _shapes_at(self, size: ImageSize) -> dict[tuple[int, ...], set[int]]:
        """Return the known feature dimensions by output shape, for shapes with no other dimension of that size."""
        found: dict[tuple[int, ...], set[int]] = {}
        for name, seen in self._passes[size].items():
            dimension = self._by_module(size, name) if seen.has_dimensions else None
            if dimension is not None and seen.shape[1:].count(seen.shape[dimension]) == 1:
                found.setdefault(seen.shape, set()).add(dimension)
        return found

    def _by_module(self, size: ImageSize, name: str) -> int | None:
        seen = self._passes[size][name]
        if seen.by_kind is not None:
            return seen.by_kind
        others = [outputs[name].shape for outputs in self._passes.values() if name in outputs]
        constant = {by_image_size(seen.shape, other) for other in others if len(other) == len(seen.shape)} - {None}
        if len(constant) == 1:
            return constant.pop()
        return seen.by_flow or seen.by_consumer or by_ones(seen.shape)

    def _maps_at(self, size: ImageSize) -> Iterator[tuple[str, GridSize]]:
        for name, seen in self._passes[size].items():
            dimension = self._known(size, name) if seen.has_dimensions and len(seen.shape) == 4 else None
            if dimension is not None:
                height, width = (seen.shape[other] for other in range(1, 4) if other != dimension)
                yield name, (height, width)

    def _grids_at(self, size: ImageSize) -> Iterator[tuple[str, GridSize]]:
        """Yield the grids of tokens that maps or the number of tokens determine, such as those of a patch embedding."""
        for name, seen in self._passes[size].items():
            if seen.has_dimensions and len(seen.shape) == 3 and self._dimension(size, name) is not None:
                grid = self._grid_on(self._maps, size, name)
                if grid is not None:
                    yield name, grid.sizes[0]

    def _grid(self, size: ImageSize, name: str) -> TokenGrid | None:
        """Return the grid of a layer's tokens by the network's maps, or else by the grids of other tokens, too."""
        return self._grid_on(self._maps, size, name) or self._grid_on(self._grids, size, name)

    def _grid_on(
        self, maps: Mapping[ImageSize, Mapping[str, GridSize]], size: ImageSize, name: str
    ) -> TokenGrid | None:
        """Return the grid of a layer's tokens, at this image size and at all others with a comparable output."""
        sizes = [size, *(other for other in self._passes if other != size and self._is_comparable(size, other, name))]
        counts = []
        for each in sizes:
            _, first, second = self._passes[each][name].shape
            counts.append(second if self._dimension(each, name) == FIRST else first)
        module = name.removesuffix(part_suffix(self._passes[size][name].part))
        return grid_of(
            counts,
            [maps[each] for each in sizes],
            [both_sides(each) for each in sizes],
            declared_prefix(self._network, module),
            self._prefix,
            self._fixed[size].get(counts[0]),
        )

    def _is_comparable(self, size: ImageSize, other: ImageSize, name: str) -> bool:
        other_output = self._passes[other].get(name)
        if other_output is None or other_output.refusal is not None:
            return False
        return len(other_output.shape) == 3 and self._dimension(other, name) == self._dimension(size, name)
