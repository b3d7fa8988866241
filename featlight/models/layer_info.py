"""What a network has to offer, in words. Plain data, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """What one module gives in one forward pass."""

    name: str
    shape: tuple[int, ...]  # without the batch: (C, H, W) or (C,) where usable, else what it is
    calls: int
    dimension: int = 1  # of a 4-D output, where the feature stands
    refusal: str | None = None  # why no feature of it can be visualized
    kind: str = ""  # the module's class, as in "Conv2d"

    @property
    def features(self) -> int:
        return self.shape[0]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width in neurons; a flat output is a map of 1 x 1."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)


def table(layers: Sequence[Layer]) -> list[str]:
    """Lines for people: a header, and for each layer its name, features, map and kind.

    Args:
        layers: usable ones.
    """
    rows = [("layer", "features", "map", "kind")]
    for layer in layers:
        height, width = layer.map_size
        rows.append(
            (layer.name, str(layer.features), f"{height} x {width}" if len(layer.shape) == 3 else "flat", layer.kind)
        )
    name, features, map, _ = (max(len(word) for word in column) for column in zip(*rows, strict=True))
    return [f"{row[0]:{name}}  {row[1]:>{features}}  {row[2]:>{map}}  {row[3]}".rstrip() for row in rows]
