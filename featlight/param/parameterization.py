"""The interface of a parameterization: parameters that are optimized, and their images.

Parameters are a batch with one entry per image, and every operation treats each image alone.
Images are in pixel units, (N, C, H, W), 0 black and 1 white.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from featlight.config.recipe import Color, Range

ImageSides = tuple[int, int]  # height and width of an image, in pixels

SLOPE = 4.0  # slope of the sigmoid: near gray, logit units equal pixel units
EDGE = 1e-3  # least distance of a starting image to black and white, where logits are infinite


class Parameterization(ABC):
    """A map between a batch of parameters and a batch of images.

    Args:
        range: range of the images.
        color: color space of the parameters.
    """

    def __init__(self, range: Range, color: Color) -> None:
        self.range: Range = range
        self.color: Color = color
        self.channels = 3  # of the images; `parameterization_of` sets other numbers

    @abstractmethod
    def image(self, parameters: Tensor, size: ImageSides) -> Tensor:
        """Decode parameters to images of a size, (N, C, H, W)."""

    @abstractmethod
    def of(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) as parameters, as closely as possible."""

    @abstractmethod
    def resized(self, parameters: Tensor, old: ImageSides, new: ImageSides) -> Tensor:
        """Return the parameters of the same images at another size."""

    @abstractmethod
    def smoothed(self, parameters: Tensor, sigma: float, size: ImageSides) -> Tensor:
        """Return the parameters of the images, blurred by a 3 x 3 Gaussian of standard deviation `sigma`, in pixels."""

    @abstractmethod
    def noise(self, size: ImageSides, generator: torch.Generator) -> Tensor:
        """Draw the starting noise of one image in a bounded range: parameters without the batch dimension, float32."""

    def shown(self, logits: Tensor) -> Tensor:
        """Convert logits, centered at 0.5, to pixel units."""
        return logits if self.range == "unbounded" else torch.sigmoid(SLOPE * (logits - 0.5))

    def hidden(self, images: Tensor) -> Tensor:
        """Convert pixel units to logits, centered at 0.5."""
        return images if self.range == "unbounded" else 0.5 + torch.logit(images, EDGE) / SLOPE
