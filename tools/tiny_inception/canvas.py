"""What every pattern is drawn with: a plane of coordinates per image, soft edges, smooth noise, colours."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from featlight.models.sources.embedded import SIDE


@dataclass(frozen=True)
class Plane:
    """One pair of coordinates per image; the picture spans -1 to 1 before it is turned, scaled or warped.

    Args:
        x: rightward coordinates, shape (B, H, W).
        y: downward coordinates, shape (B, H, W).
        generator: where all randomness comes from.
    """

    x: Tensor
    y: Tensor
    generator: torch.Generator

    @classmethod
    def flat(cls, count: int, generator: torch.Generator, side: int = SIDE) -> "Plane":
        """The untouched planes of `count` images of `side` pixels."""
        line = (torch.arange(side) + 0.5) * (2 / side) - 1
        x = line.expand(count, side, side)  # (B, H, W)
        return cls(x, x.transpose(1, 2), generator)

    @property
    def r(self) -> Tensor:
        """Distance from the origin, shape (B, H, W)."""
        return torch.hypot(self.x, self.y)

    @property
    def angle(self) -> Tensor:
        """Angle around the origin in radians, shape (B, H, W)."""
        return torch.atan2(self.y, self.x)

    def uniform(self, low: float, high: float) -> Tensor:
        """One number per image in [low, high), shape (B, 1, 1)."""
        return uniform(len(self.x), low, high, self.generator)

    def chance(self, probability: float) -> Tensor:
        """One yes or no per image, shape (B, 1, 1)."""
        return self.uniform(0, 1) < probability

    def integer(self, low: int, high: int) -> Tensor:
        """One whole number per image from low to high inclusive, as float, shape (B, 1, 1)."""
        return self.uniform(low, high + 1).floor()

    def smooth(self, cells: int) -> Tensor:
        """Smooth noise with about `cells` bumps across, near [-1, 1], shape (B, H, W)."""
        coarse = torch.rand(len(self.x), 1, cells + 2, cells + 2, generator=self.generator) * 2 - 1
        size = self.x.shape[-2:]
        return F.interpolate(coarse, size, mode="bicubic", align_corners=False)[:, 0]  # (B, H, W)

    def fractal(self, cells: int) -> Tensor:
        """Three octaves of smooth noise, near [-1, 1], shape (B, H, W)."""
        octaves = (self.smooth(cells), self.smooth(2 * cells), self.smooth(4 * cells))
        return octaves[0] * 0.8 + octaves[1] * 0.4 + octaves[2] * 0.2

    def shifted(self, x: Tensor | float, y: Tensor | float) -> "Plane":
        """The plane with its origin moved to (x, y)."""
        return replace(self, x=self.x - x, y=self.y - y)

    def turned(self, angle: Tensor) -> "Plane":
        """The plane turned by an angle in radians, shape (B, 1, 1)."""
        cos, sin = angle.cos(), angle.sin()
        return replace(self, x=self.x * cos + self.y * sin, y=self.y * cos - self.x * sin)

    def scaled(self, factor: Tensor | float) -> "Plane":
        """The plane with its coordinates multiplied: a factor above 1 makes what is drawn smaller."""
        return replace(self, x=self.x * factor, y=self.y * factor)

    def warped(self, strength: Tensor) -> "Plane":
        """The plane pushed about by smooth noise, as on a bent sheet; strength has shape (B, 1, 1)."""
        return replace(self, x=self.x + strength * self.smooth(3), y=self.y + strength * self.smooth(3))

    def any_turn(self) -> "Plane":
        """The plane turned by any angle, one per image."""
        return self.turned(self.uniform(0, 2 * math.pi))


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """One number per image in [low, high), shape (B, 1, 1)."""
    return torch.rand(count, 1, 1, generator=generator) * (high - low) + low


def inside(distance: Tensor, edge: float = 0.05) -> Tensor:
    """Coverage of a shape from its signed distance (negative inside) with an edge of the given width."""
    return (0.5 - distance / edge).clamp(0, 1)


def fold(value: Tensor) -> Tensor:
    """Triangle wave of period 1: the distance to the nearest whole number, in [0, 0.5]."""
    return (value - value.round()).abs()


def layers(*masks: Tensor) -> Tensor:
    """Stacks masks (B, H, W), the lowest paint first, shape (B, K, H, W)."""
    return torch.stack(masks, 1)


def parse_palette(text: str) -> Tensor:
    """Colours such as `"204080 ffee99"` as numbers in [0, 1], shape (colours, 3)."""
    return torch.tensor([[int(word[i : i + 2], 16) / 255 for i in (0, 2, 4)] for word in text.split()])


def random_palette(count: int, colours: int, generator: torch.Generator) -> Tensor:
    """Palettes whose neighbours differ clearly in hue and lightness, shape (B, colours, 3)."""
    hue = torch.rand(count, 1, 1, generator=generator)
    step = torch.rand(count, 1, 1, generator=generator) * 0.4 + 0.3
    index = torch.arange(colours).view(1, -1, 1)
    phase = (hue + step * index + torch.tensor([0.0, 1 / 3, 2 / 3])) % 1  # (B, colours, 3)
    vivid = (fold(phase) * 6 - 1).clamp(0, 1)
    lightness = torch.rand(count, colours, 1, generator=generator) * 0.3
    dark_first = (torch.rand(count, 1, 1, generator=generator) < 0.5).long()
    lightness = lightness + 0.6 * ((index + dark_first) % 2)  # (B, colours, 1)
    saturation = torch.rand(count, 1, 1, generator=generator) ** 0.5
    return (lightness + (vivid - 0.5) * saturation * 0.8).clamp(0, 1)


def paint(masks: Tensor, palette: Tensor) -> Tensor:
    """Paints layers over a ground, each in its colour.

    Args:
        masks: coverage in [0, 1], lowest first, shape (B, K, H, W).
        palette: the ground's colour and one per layer, shape (B, K + 1, 3).

    Returns:
        Images of shape (B, 3, H, W).
    """
    colours = palette[..., None, None]  # (B, K + 1, 3, 1, 1)
    image = colours[:, 0].expand(-1, -1, *masks.shape[-2:])  # (B, 3, H, W)
    for k in range(masks.shape[1]):
        image = image.lerp(colours[:, k + 1], masks[:, k, None])
    return image
