"""What a network has to offer, in words. Plain data, no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """What one module gives in one forward pass."""

    name: str
    shape: tuple[int, ...]  # without the batch: (C, H, W) or (C,) where usable, else what it is
    calls: int
    channels_last: bool = False
    refusal: str | None = None  # why no feature of it can be visualized

    @property
    def features(self) -> int:
        return self.shape[0]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width in neurons; a flat output is a map of 1 x 1."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)
