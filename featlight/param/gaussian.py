"""The blur of a step as what it does to each wave."""

import math

import torch
from torch import Tensor


def transfer(size: tuple[int, int], sigma: float, like: Tensor) -> Tensor:
    """Factor of each Fourier coefficient under the blur of a step: a 3 x 3 Gaussian kernel.

    Args:
        size: height and width of the image, in pixels.
        sigma: standard deviation of the Gaussian, in pixels.
        like: whose device and dtype are taken.

    Returns:
        (height, width // 2 + 1).
    """
    side = math.exp(-1 / (2 * sigma**2))
    middle = 1 / (1 + 2 * side)
    rows = torch.fft.fftfreq(size[0], dtype=like.dtype, device=like.device)
    columns = torch.fft.rfftfreq(size[1], dtype=like.dtype, device=like.device)

    def along(frequency: Tensor) -> Tensor:
        return middle * (1 + 2 * side * torch.cos(2 * torch.pi * frequency))

    return along(rows)[:, None] * along(columns)
