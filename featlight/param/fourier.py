"""Scaled Fourier coefficients as parameters, as in lucid."""

import torch
from torch import Tensor

from featlight.param import color as colors
from featlight.param.parameterization import SLOPE, ImageSides, Parameterization
from featlight.param.spectrum import frequencies, padded, transfer

FAINT_COEFFICIENT = 0.01  # standard deviation of a starting coefficient, as in lucid


class Fourier(Parameterization):
    """Real and imaginary parts of the image's scaled Fourier coefficients, (N, C, H, W // 2 + 1, 2).

    The scale falls with frequency like the amplitudes of photographs. A coefficient has the same meaning at every size.

    Args:
        range: range of the images.
        color: color space of the coefficients.

    Source: lucid, `optvis/param/spatial.py`.
    """

    def image(self, parameters: Tensor, size: ImageSides) -> Tensor:
        scaled = torch.view_as_complex(parameters.contiguous()) * _scale(size, parameters)
        waves = torch.fft.irfft2(scaled, s=size) / SLOPE  # (N, C, H, W)
        return self.shown(0.5 + (waves if self.color == "rgb" else colors.to_rgb(waves)))

    def of(self, images: Tensor) -> Tensor:
        waves = self.hidden(images) - 0.5
        waves = waves if self.color == "rgb" else colors.from_rgb(waves)
        size = images.shape[2], images.shape[3]
        coefficients: Tensor = torch.fft.rfft2(waves * SLOPE) / _scale(size, images)
        return torch.view_as_real(coefficients)

    def noise(self, size: ImageSides, generator: torch.Generator) -> Tensor:
        return FAINT_COEFFICIENT * torch.randn(self.channels, size[0], size[1] // 2 + 1, 2, generator=generator)

    def resized(self, parameters: Tensor, old: ImageSides, new: ImageSides) -> Tensor:
        return torch.view_as_real(padded(torch.view_as_complex(parameters.contiguous()), old, new))

    def smoothed(self, parameters: Tensor, sigma: float, size: ImageSides) -> Tensor:
        return parameters * transfer(size, sigma, parameters)[:, :, None]


def _scale(size: ImageSides, like: Tensor) -> Tensor:
    """Return the factor of each coefficient, (H, W // 2 + 1)."""
    scale: Tensor = (size[0] * size[1]) ** 0.5 / frequencies(size, like).clamp_min(1 / max(size))
    return scale
