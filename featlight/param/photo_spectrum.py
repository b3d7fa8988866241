"""The measured magnitude spectrum of photographs.

`photographs.json` names its data and method; `python -m tools.spectrum` makes it.
"""

import json
import math
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from featlight.param.spectrum import frequencies

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
