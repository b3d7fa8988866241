"""Phases alone: the image whose spectrum's magnitudes are those of photographs.

Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with magnitude constrained optimization".
There phases start as normal noise and are brought to one spread at each step. They then agree at the origin, which
shows as a bright spot in the corners; here they start evenly and go where the gradient leads.
"""

import torch
from torch import Tensor

from featlight.config.recipe import Color, Range
from featlight.param import color as colors
from featlight.param.parameterization import EDGE, ImageSides, Parameterization
from featlight.param.photo_spectrum import magnitudes
from featlight.param.spectrum import padded

FLAT = 1e-5  # added to the standard deviation that an image is divided by


class Maco(Parameterization):
    """Phases of the image's Fourier coefficients, (N, C, H, W // 2 + 1), in radians; magnitudes never change.

    Of other than three channels, each has the magnitudes of what is light and dark in photographs.

    Args:
        range: of the images; bounded.
        color: along which the magnitudes are meant.
    """

    def __init__(self, range: Range, color: Color) -> None:
        super().__init__(range, color)
        self._magnitudes: tuple[ImageSides, Tensor] | None = None  # of the size in hand

    def image(self, parameters: Tensor, size: ImageSides) -> Tensor:
        waves = self.waves(parameters, size)
        waves = waves / (waves.std((1, 2, 3), keepdim=True) + FLAT)  # (N, C, H, W), of mean 0
        return torch.sigmoid(waves if self.color == "rgb" else colors.to_rgb(waves))

    def waves(self, parameters: Tensor, size: ImageSides) -> Tensor:
        """What phases and magnitudes add up to, (N, C, H, W)."""
        phases = odd(parameters, size)
        spectrum = torch.polar(self._magnitudes_of(size, phases).expand_as(phases), phases)
        waves: Tensor = torch.fft.irfft2(spectrum, s=size)
        return waves

    def of(self, images: Tensor) -> Tensor:
        """Their phases; magnitudes are those of photographs all the same."""
        logits = torch.logit(images, EDGE)
        return torch.angle(torch.fft.rfft2(logits if self.color == "rgb" else colors.from_rgb(logits)))

    def noise(self, size: ImageSides, generator: torch.Generator) -> Tensor:
        return 2 * torch.pi * (torch.rand(self.channels, size[0], size[1] // 2 + 1, generator=generator) - 0.5)

    def resized(self, parameters: Tensor, old: ImageSides, new: ImageSides) -> Tensor:
        """Waves that are new have phases of noise, the same for every image: alike, they would make a spot."""
        drawn = self.noise(new, torch.Generator("cpu").manual_seed(0)).to(parameters)
        known = padded(torch.ones_like(parameters[:1]), old, new)
        return torch.where(known > 0, padded(parameters, old, new), drawn)

    def smoothed(self, parameters: Tensor, sigma: float, size: ImageSides) -> Tensor:
        return parameters

    def _magnitudes_of(self, size: ImageSides, like: Tensor) -> Tensor:
        """Read once for each size: (3, H, W // 2 + 1), or (1, H, W // 2 + 1) for each of other than three channels."""
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
