"""Spatial frequencies of an image, its spectrum blurred or at another size, and the spectrum of photographs.

`photographs.json` names the data and method of the measured spectrum; `python -m tools.spectrum` makes it.
"""

import json
import math
from functools import cache
from importlib.resources import files

import torch
import torch.nn.functional as F
from torch import Tensor


def frequencies(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return the frequency of each coefficient of a real image's Fourier transform, in cycles per pixel.

    Args:
        size: height and width of the image, in pixels.
        like: tensor whose device and dtype the result has.

    Returns:
        (height, width // 2 + 1).
    """
    height, width = size
    rows = torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)
    columns = torch.fft.rfftfreq(width, dtype=like.dtype, device=like.device)
    return torch.hypot(rows[:, None], columns)


def padded(coefficients: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Crop a spectrum, or pad it with zeros, for an image of another size.

    Args:
        coefficients: (..., old height, old width // 2 + 1), complex or real.
        old: height and width of the image, in pixels.
        new: height and width of the resized image, in pixels.

    Returns:
        (..., new height, new width // 2 + 1); shared coefficients keep their values.
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
    """Return soft frequency rings: triangles on a logarithmic scale.

    Rings without a coefficient are left out: an image twice as long as wide has some.

    Args:
        size: height and width of the image, in pixels.
        per_octave: number of rings per doubling of the frequency.
        like: tensor whose device and dtype the result has.

    Returns:
        (rings, height, width // 2 + 1), in [0, 1], summing to 1 at each coefficient.
    """
    lowest = 1 / max(size)
    position = torch.log2(frequencies(size, like).clamp_min(lowest) / lowest) * per_octave
    rings = torch.arange(int(torch.ceil(position.max())) + 1, dtype=like.dtype, device=like.device)
    weights = F.relu(1 - (position - rings[:, None, None]).abs())
    return weights[weights.sum((1, 2)) > 0]


def transfer(size: tuple[int, int], sigma: float, like: Tensor) -> Tensor:
    """Return the factor of each Fourier coefficient under the blur of a step, a 3 x 3 Gaussian kernel.

    Args:
        size: height and width of the image, in pixels.
        sigma: standard deviation of the Gaussian, in pixels.
        like: tensor whose device and dtype the result has.

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


TABLE = "photographs.json"
RADII, DIRECTIONS = 17, 16
LOWEST, PER_OCTAVE = -8.5, 2  # logarithm to base 2 of the first radius, in cycles per pixel; radii in each doubling


def magnitudes(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return the magnitudes of a photograph's Fourier coefficients, in decorrelated colors; only their ratios matter.

    A wave of a given length in pixels has the same magnitude at every size. The mean has magnitude 0.

    Args:
        size: height and width of the image, in pixels.
        like: tensor whose device and dtype the result has.

    Returns:
        (3, height, width // 2 + 1).
    """
    radius, direction = places(size, like)
    row = radius.floor().clamp(0, RADII - 2)  # below the lowest radius, the table is extrapolated
    column = direction.floor()
    up, on = radius - row, direction - column
    row, column = row.long(), column.long() % DIRECTIONS
    table = _table().to(like)
    inner = table[:, row, column] * (1 - on) + table[:, row, (column + 1) % DIRECTIONS] * on
    outer = table[:, row + 1, column] * (1 - on) + table[:, row + 1, (column + 1) % DIRECTIONS] * on
    found = torch.exp(inner * (1 - up) + outer * up)  # (3, height, width // 2 + 1)
    found[:, 0, 0] = 0
    if size[1] % 2 == 0:  # the highest column holds waves of both directions
        found[:, :, -1] = (found[:, :, -1] + torch.roll(found[:, :, -1].flip(1), 1, 1)) / 2
    return found


def places(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return each coefficient's position in the table, radius and direction, (height, width // 2 + 1) each.

    The mean has neither; it gets those of the lowest frequency.
    """
    cycles = frequencies(size, like)
    radius = (torch.log2(cycles.clamp_min(1 / max(size))) - LOWEST) * PER_OCTAVE
    rows = torch.fft.fftfreq(size[0], dtype=like.dtype, device=like.device)[:, None]
    columns = torch.fft.rfftfreq(size[1], dtype=like.dtype, device=like.device)
    turn = torch.atan2(rows, columns) / math.pi  # in half turns; opposite directions are one wave
    return radius, torch.remainder(turn, 1) * DIRECTIONS


@cache
def _table() -> Tensor:
    """Read the logarithms of the magnitudes, (3, RADII, DIRECTIONS), float64, on the CPU."""
    text = (files("featlight.param") / TABLE).read_text(encoding="utf-8")
    return torch.tensor(json.loads(text)["magnitudes"], dtype=torch.float64, device="cpu")
