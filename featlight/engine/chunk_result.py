"""The result of optimizing one chunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featlight.plan.plan import Chunk


class OtherNetworkError(Exception):
    """The optimized network differs from the original network on the images of this chunk."""

    def __init__(self, chunk: Chunk, layer: str) -> None:
        super().__init__(f"chunk {chunk.number}: {layer}")
        self.layer = layer


@dataclass(frozen=True)
class ChunkResult:
    """The result of optimizing one chunk: B images, its tiles first, then padding."""

    chunk: Chunk
    images: Tensor  # (B, C, H, W), on the CPU, unclipped
    alphas: Tensor | None  # (B, H, W), uint8, on the CPU: opacity of each pixel, if the recipe computes it
    pictures: Tensor  # (B, H, W, 3), uint8, on the CPU: the images as pixels
    activation: Tensor  # (steps + 1, B), on the CPU: before each step, and of the final images
    gradient_norm: Tensor  # (B,), the mean over the steps of the pixel gradient's L2 norm
    alive: Tensor  # (B,), whether any step had a gradient
    vectors: Tensor  # (B, C), the mean activation of every feature of the first layer
    octaves: list[Tensor]  # (B, h, w, 3), uint8, on the CPU, no side above 96, the end of each octave
    maps: list[Tensor]  # (B, H, W), on the CPU, of each term's feature in the images, if requested
    seconds: float
    batch_size: int  # number of images optimized together: fewer than planned if memory ran out


def joined(parts: Sequence[ChunkResult], chunk: Chunk) -> ChunkResult:
    """Join the results of a chunk's parts, without their padding."""

    def join(dimension: int, field: Callable[[ChunkResult], Tensor]) -> Tensor:
        return torch.cat([field(part).narrow(dimension, 0, len(part.chunk.tiles)) for part in parts], dimension)

    first = parts[0]
    return ChunkResult(
        chunk=chunk,
        images=join(0, lambda part: part.images),
        alphas=None if first.alphas is None else join(0, lambda part: part.alphas),  # type: ignore[arg-type, return-value]
        pictures=join(0, lambda part: part.pictures),
        activation=join(1, lambda part: part.activation),
        gradient_norm=join(0, lambda part: part.gradient_norm),
        alive=join(0, lambda part: part.alive),
        vectors=join(0, lambda part: part.vectors),
        octaves=[join(0, lambda part, i=i: part.octaves[i]) for i in range(len(first.octaves))],  # type: ignore[misc]
        maps=[join(0, lambda part, i=i: part.maps[i]) for i in range(len(first.maps))],  # type: ignore[misc]
        seconds=sum(part.seconds for part in parts),
        batch_size=min(part.batch_size for part in parts),
    )
