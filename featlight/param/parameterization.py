"""What is optimised, and the image that it stands for.

Parameters are a batch, one entry an image, and every operation here is of one image alone: neighbours never matter.
Images are in pixel units, (N, C, H, W), 0 black and 1 white.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from featlight.config.recipe import Color, Range

ImageSides = tuple[int, int]  # height and width of an image, in pixels

SLOPE = 4.0  # of the sigmoid at gray: in the middle of the range, a pixel in logit units is one in pixel units
EDGE = 1e-3  # how near to black and white a starting image may come, whose logits would be infinite there


class Parameterization(ABC):
    """A way to hold a batch of images in a batch of parameters.

    Args:
        range: of the images.
        color: in which what is optimised is held.
    """

    def __init__(self, range: Range, color: Color) -> None:
        self.range: Range = range
        self.color: Color = color
        self.channels = 3  # of the images; `parameterization_of` says others

    @abstractmethod
    def image(self, parameters: Tensor, size: ImageSides) -> Tensor:
        """The images of a size that parameters stand for, (N, C, H, W)."""

    @abstractmethod
    def of(self, images: Tensor) -> Tensor:
        """Parameters that stand for given images (N, C, H, W), as nearly as can be."""

    @abstractmethod
    def resized(self, parameters: Tensor, old: ImageSides, new: ImageSides) -> Tensor:
        """Parameters of the same images at another size."""

    @abstractmethod
    def smoothed(self, parameters: Tensor, sigma: float, size: ImageSides) -> Tensor:
        """Parameters of the images blurred by a 3 x 3 Gaussian of standard deviation `sigma`, in pixels."""

    @abstractmethod
    def noise(self, size: ImageSides, generator: torch.Generator) -> Tensor:
        """Faint noise to start one image from where the range is bounded: parameters without the batch, float32."""

    def shown(self, logits: Tensor) -> Tensor:
        """From what is optimised, as an image about 0.5, to pixel units."""
        return logits if self.range == "unbounded" else torch.sigmoid(SLOPE * (logits - 0.5))

    def hidden(self, images: Tensor) -> Tensor:
        """The way back."""
        return images if self.range == "unbounded" else 0.5 + torch.logit(images, EDGE) / SLOPE
