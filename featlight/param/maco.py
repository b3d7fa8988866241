"""Phases as parameters: images with the magnitude spectrum of photographs.

Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with magnitude constrained optimization".
In the paper, phases start as normal noise and are rescaled to one spread at each step. They then agree at the origin,
which shows as a bright spot in the corners. Here they start uniformly and only follow the gradient.
"""

import torch
from torch import Tensor

from featlight.config.recipe import Color, Range
from featlight.param import color as colors
from featlight.param.parameterization import EDGE, ImageSides, Parameterization
from featlight.param.spectrum import magnitudes, padded

FLAT = 1e-5  # added to the standard deviation, the divisor of an image


class Maco(Parameterization):
    """Phases of the image's Fourier coefficients, (N, C, H, W // 2 + 1), in radians; magnitudes never change.

    With other than three channels, each channel has the magnitudes of the luminance of photographs.

    Args:
        range: range of the images; only a bounded one.
        color: color space of the phases and magnitudes.
    """

    def __init__(self, range: Range, color: Color) -> None:
        super().__init__(range, color)
        self._magnitudes: tuple[ImageSides, Tensor] | None = None  # for the current size

    def image(self, parameters: Tensor, size: ImageSides) -> Tensor:
        waves = self.waves(parameters, size)
        waves = waves / (waves.std((1, 2, 3), keepdim=True) + FLAT)  # (N, C, H, W), of mean 0
        return torch.sigmoid(waves if self.color == "rgb" else colors.to_rgb(waves))

    def waves(self, parameters: Tensor, size: ImageSides) -> Tensor:
        """Return the inverse transform of phases and magnitudes, (N, C, H, W)."""
        phases = odd(parameters, size)
        spectrum = torch.polar(self._magnitudes_of(size, phases).expand_as(phases), phases)
        waves: Tensor = torch.fft.irfft2(spectrum, s=size)
        return waves

    def of(self, images: Tensor) -> Tensor:
        """Return the phases of images; their magnitudes are not kept."""
        logits = torch.logit(images, EDGE)
        return torch.angle(torch.fft.rfft2(logits if self.color == "rgb" else colors.from_rgb(logits)))

    def noise(self, size: ImageSides, generator: torch.Generator) -> Tensor:
        return 2 * torch.pi * (torch.rand(self.channels, size[0], size[1] // 2 + 1, generator=generator) - 0.5)

    def resized(self, parameters: Tensor, old: ImageSides, new: ImageSides) -> Tensor:
        """Return the phases at another size; new waves get random phases, the same for all images."""
        drawn = self.noise(new, torch.Generator("cpu").manual_seed(0)).to(parameters)
        known = padded(torch.ones_like(parameters[:1]), old, new)
        return torch.where(known > 0, padded(parameters, old, new), drawn)

    def smoothed(self, parameters: Tensor, sigma: float, size: ImageSides) -> Tensor:
        return parameters

    def _magnitudes_of(self, size: ImageSides, like: Tensor) -> Tensor:
        """Return the magnitudes, cached for one size: (3, H, W // 2 + 1), or (1, ...) without three channels."""
        if self._magnitudes is None or self._magnitudes[0] != size:
            found = magnitudes(size, like)
            self._magnitudes = size, found if self.channels == 3 else found[:1]
        return self._magnitudes[1]


def odd(phases: Tensor, size: ImageSides) -> Tensor:
    """Phases that a real image can have.

    In the columns that hold both a wave and its mirror, one phase is minus the other, and that of a wave which is its
    own mirror is 0 or pi. Else the inverse transform would meet halfway, and change magnitudes.

    Args:
        phases: (N, C, H, W // 2 + 1).
        size: height and width of the image, in pixels.
    """
    mirrored = torch.roll(phases.flip(2), 1, 2)  # the row of the opposite frequency
    columns = torch.arange(phases.shape[3], device=phases.device)
    both = (columns == 0) | (2 * columns == size[1])  # (W // 2 + 1,)
    rows = torch.arange(size[0], device=phases.device)[:, None]
    own = both & ((rows == 0) | (2 * rows == size[0]))  # (H, W // 2 + 1)
    meant = torch.where(both, (phases - mirrored) / 2, phases)
    return torch.where(own, torch.pi * torch.round(phases / torch.pi), meant)
