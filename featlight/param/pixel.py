"""Images themselves as parameters, as in the article."""

import torch
from torch import Tensor

from featlight.param import color as colors
from featlight.param.image import blur, resize
from featlight.param.parameterization import SLOPE, ImageSides, Parameterization
from featlight.param.spectrum import frequencies

FAINT = 0.05  # standard deviation of a starting image in logit units


class Pixel(Parameterization):
    """The image tensor itself, (N, C, H, W): in pixel units, in logit units, or in decorrelated colors.

    Args:
        range: range of the images.
        color: color space of the tensor; rgb for an optimizer that decorrelates colors itself.
    """

    def image(self, parameters: Tensor, size: ImageSides) -> Tensor:
        if self.color == "decorrelated":
            parameters = 0.5 + colors.to_rgb(parameters) / SLOPE
        return self.shown(parameters)

    def of(self, images: Tensor) -> Tensor:
        logits = self.hidden(images)
        return logits if self.color == "rgb" else colors.from_rgb((logits - 0.5) * SLOPE)

    def noise(self, size: ImageSides, generator: torch.Generator) -> Tensor:
        white = torch.randn(1, self.channels, *size, generator=generator)
        waves = torch.fft.rfft2(white) / frequencies(size, white).clamp_min(1 / max(size))
        pink = torch.fft.irfft2(waves, s=size)  # (1, C, H, W), with the spectrum of photographs
        pink = colors.to_rgb(pink) if self.channels == 3 else pink  # and their colors
        return self.of(self.shown(0.5 + FAINT * pink / pink.std()))[0]

    def resized(self, parameters: Tensor, old: ImageSides, new: ImageSides) -> Tensor:
        return resize(parameters, new)

    def smoothed(self, parameters: Tensor, sigma: float, size: ImageSides) -> Tensor:
        return blur(parameters, sigma)
