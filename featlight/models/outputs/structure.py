"""From what a module gives to a map of features: the part that is meant, tokens on their grid, features first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isqrt
from typing import Any

from torch import Tensor

from featlight.models.layer_info import Layer

DEPTH = 3  # of structures in structures


def parts(output: Any, depth: int = DEPTH) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Every tensor in a structure, with the indices and keys that lead there."""
    for key, value in _entries(output).items():
        if isinstance(value, Tensor):
            yield (key,), value
        elif depth > 1:
            yield from (((key, *inner), tensor) for inner, tensor in parts(value, depth - 1))


def part_of(output: Any, path: Sequence[str]) -> Any:
    """What lies at these indices and keys of a structure; None where it has no such place."""
    for key in path:
        output = _entries(output).get(key)
    return output


def _entries(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, list | tuple):
        return {str(place): value for place, value in enumerate(output)}
    if is_dataclass(output) and not isinstance(output, type):
        return {each.name: getattr(output, each.name) for each in fields(output)}
    return {}


def as_map(layer: Layer, output: Tensor) -> Tensor:
    """A layer's output as (N, C, H, W).

    Args:
        layer: which dimension is the feature, and which tokens are meant.
        output: of its module, or the part of it that is meant: (N, C), (N, T, C), (N, C, T) or (T, N, C), or 4-D.
    """
    output = output.movedim(layer.batch, 0) if layer.batch else output
    if layer.tokens is None:
        if output.ndim == 2:
            return output[:, :, None, None]
        return output if layer.dimension == 1 else output.movedim(layer.dimension, 1)
    x = output.movedim(layer.dimension, 1)  # (N, C, T)
    if layer.tokens.chosen == "class":
        return x[:, :, :1, None]
    patches = x[:, :, layer.tokens.prefix :]
    return patches.reshape(*patches.shape[:2], *_grid(layer, patches.shape[2]))


def _grid(layer: Layer, count: int) -> tuple[int, int]:
    """Height and width of so many patches; at a size that nobody has looked at, of the shape that is known."""
    height, width = layer.map_size
    if count == height * width:
        return height, width
    side = isqrt(count * height // width)
    if not side or count % side:
        raise ValueError(f"layer {layer.name!r} gives {count} patches, which are no grid like {height} x {width}")
    return side, count // side
