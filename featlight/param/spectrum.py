"""Spatial frequencies of an image, and its spectrum at another size."""

import torch
import torch.nn.functional as F
from torch import Tensor


def frequencies(size: tuple[int, int], like: Tensor) -> Tensor:
    """Of each coefficient of a real image's Fourier transform, in cycles per pixel.

    Args:
        size: height and width of the image, in pixels.
        like: whose device and dtype are taken.

    Returns:
        (height, width // 2 + 1).
    """
    height, width = size
    rows = torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)
    columns = torch.fft.rfftfreq(width, dtype=like.dtype, device=like.device)
    return torch.hypot(rows[:, None], columns)


def padded(coefficients: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A spectrum for an image of another size: the same waves per image, none that are finer; zeros where it grows.

    Args:
        coefficients: (..., old height, old width // 2 + 1), complex or real.
        old: height and width of the image, in pixels.
        new: the same of the other image.

    Returns:
        (..., new height, new width // 2 + 1); values are as they were.
    """
    if old == new:
        return coefficients
    rows = min(old[0], new[0])
    columns = min(old[1], new[1])
    above, below = (rows + 1) // 2, rows // 2  # non-negative and negative frequencies that both sizes have
    if rows % 2 == 0 and old[0] != new[0]:
        below -= 1  # the finest wave of an even size stands for two of a larger one
    wide = (columns + 1) // 2 if columns % 2 == 0 and old[1] != new[1] else columns // 2 + 1
    result = coefficients.new_zeros(*coefficients.shape[:-2], new[0], new[1] // 2 + 1)
    result[..., :above, :wide] = coefficients[..., :above, :wide]
    if below:
        result[..., -below:, :wide] = coefficients[..., -below:, :wide]
    return result


def bands(size: tuple[int, int], per_octave: float, like: Tensor) -> Tensor:
    """Soft rings of frequency that share every coefficient out: triangles on a logarithmic scale.

    A ring without a coefficient is left out: an image twice as long as wide has none between its two slowest waves.

    Args:
        size: height and width of the image, in pixels.
        per_octave: rings in each doubling of the frequency.
        like: whose device and dtype are taken.

    Returns:
        (rings, height, width // 2 + 1), in [0, 1], summing to 1 at each coefficient.
    """
    lowest = 1 / max(size)
    position = torch.log2(frequencies(size, like).clamp_min(lowest) / lowest) * per_octave
    rings = torch.arange(int(torch.ceil(position.max())) + 1, dtype=like.dtype, device=like.device)
    weights = F.relu(1 - (position - rings[:, None, None]).abs())
    return weights[weights.sum((1, 2)) > 0]
