"""The spectrum of photographs, measured: how large each of an image's waves is.

`photographs.json` says what it was measured on and how; `python -m tools.spectrum` makes it.
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
    """Of the Fourier coefficients of a photograph of a size, along independent colours; only their ratios matter.

    A wave of so many pixels has the same magnitude at every size. The mean has none.

    Args:
        size: height and width of the image, in pixels.
        like: whose device and dtype are taken.

    Returns:
        (3, height, width // 2 + 1).
    """
    radius, direction = places(size, like)
    row = radius.floor().clamp(0, RADII - 2)  # below the table's lowest radius its line goes on
    column = direction.floor()
    up, on = radius - row, direction - column
    row, column = row.long(), column.long() % DIRECTIONS
    table = _table().to(like)
    inner = table[:, row, column] * (1 - on) + table[:, row, (column + 1) % DIRECTIONS] * on
    outer = table[:, row + 1, column] * (1 - on) + table[:, row + 1, (column + 1) % DIRECTIONS] * on
    found = torch.exp(inner * (1 - up) + outer * up)  # (3, height, width // 2 + 1)
    found[:, 0, 0] = 0
    if size[1] % 2 == 0:  # the finest column holds waves of both slants
        found[:, :, -1] = (found[:, :, -1] + torch.roll(found[:, :, -1].flip(1), 1, 1)) / 2
    return found


def places(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the table each coefficient stands: its radius, and its direction; (height, width // 2 + 1) both.

    The mean, which has neither, is given those of the slowest wave.
    """
    cycles = frequencies(size, like)
    radius = (torch.log2(cycles.clamp_min(1 / max(size))) - LOWEST) * PER_OCTAVE
    rows = torch.fft.fftfreq(size[0], dtype=like.dtype, device=like.device)[:, None]
    columns = torch.fft.rfftfreq(size[1], dtype=like.dtype, device=like.device)
    turn = torch.atan2(rows, columns) / math.pi  # in half turns; a wave has no front and back
    return radius, torch.remainder(turn, 1) * DIRECTIONS


@cache
def _table() -> Tensor:
    """Logarithms of magnitudes, (3, RADII, DIRECTIONS), float64, on the CPU."""
    text = (files("featlight.param") / TABLE).read_text(encoding="utf-8")
    return torch.tensor(json.loads(text)["magnitudes"], dtype=torch.float64, device="cpu")
