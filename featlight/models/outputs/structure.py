"""Turn a module's output into a feature map: select a part, arrange tokens on their grid, put the features first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isqrt
from typing import Any

from torch import Tensor

from featlight.models.layer_info import Layer

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
    patches = x[:, :, layer.tokens.prefix :]
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
