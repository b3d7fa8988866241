"""Measure the spectrum of photographs for the parameterization `maco`.

python -m tools.spectrum
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor

from featlight.console import say
from featlight.param import color
from featlight.param.spectrum import DIRECTIONS, LOWEST, PER_OCTAVE, RADII, TABLE, frequencies, places

# Licenses from the docstrings of scikit-image's `skimage.data`
LICENCES = {
    "astronaut": "NASA Great Images database: no known copyright restrictions, released into the public domain",
    "chelsea": "Stefan van der Walt: CC0",
    "coffee": "Rachel Michetti: CC0, by the photographer",
    "rocket": "SpaceX: released in the public domain",
}
SIDE = 256  # px, side of the measured squares
DARKEST = 0.02  # smallest value and distance from white, where logits are unbounded
ENOUGH = 0.3  # smallest total weight of a bin that is measured
SLOPE_OVER = 4  # bins above the lowest measured one that give the slope below it
REFERENCE = 8  # frequency bin where the first color's mean is 0; only ratios matter


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the spectrum, and write it to the package's file."""
    parser = argparse.ArgumentParser("python -m tools.spectrum", description=main.__doc__)
    parser.add_argument("--to", type=Path, default=Path(color.__file__).with_name(TABLE), help="output file")
    path = parser.parse_args(arguments).to
    path.write_text(as_text(measured()))
    say(f"{path}: {path.stat().st_size} bytes")
    return 0


def measured() -> Tensor:
    """Return mean log magnitudes, (3, RADII, DIRECTIONS), by independent color, frequency and direction."""
    window = torch.hann_window(SIDE, periodic=False, dtype=torch.float64)
    window = window[:, None] * window  # (SIDE, SIDE)
    rows, columns, shares, known = _bins(frequencies((SIDE, SIDE), window))
    total = torch.zeros(3, RADII, DIRECTIONS, dtype=torch.float64)
    for name in LICENCES:
        logits = color.from_rgb(torch.logit(squares(name), DARKEST))
        waves = torch.fft.rfft2((logits - logits.mean((2, 3), keepdim=True)) * window)
        power = waves.abs().square().mean(0)  # (3, SIDE, SIDE // 2 + 1), over the squares
        power = power / power.mean()  # equal weights for all photographs
        sums = torch.zeros_like(total)
        weights = torch.zeros(RADII, DIRECTIONS, dtype=torch.float64)
        for row, column, share in zip(rows, columns, shares, strict=True):
            weights.index_put_((row, column), share, accumulate=True)
            for channel in range(3):
                sums[channel].index_put_((row, column), power[channel][known] * share, accumulate=True)
        means = sums / weights.clamp_min(1e-9)
        total += means.clamp_min(1e-12).log() / 2 / len(LICENCES)  # log magnitude is half of log power
    lowest = int((weights > ENOUGH).all(1).nonzero()[0])
    return _extended(total, lowest) - total[0, REFERENCE].mean()


def squares(name: str) -> Tensor:
    """Cut a photograph into overlapping squares along its longer side, (N, 3, SIDE, SIDE), float64 in [0, 1]."""
    photograph = torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1).double() / 255  # (3, H, W)
    height, width = photograph.shape[1:]
    side = min(height, width)
    shares = (0,) if height == width else (0, 0.5, 1)
    corners = [(round(share * (height - side)), round(share * (width - side))) for share in shares]
    cut = torch.stack([photograph[:, y : y + side, x : x + side] for y, x in corners])
    return F.interpolate(cut, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)


def _bins(cycles: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    """Return rows, columns and shares of the four bins around each coefficient, and a mask of coefficients in a bin."""
    radius, direction = places((SIDE, SIDE), cycles)
    known = (cycles > 0) & (radius >= 0) & (radius <= RADII - 1)
    radius, direction = radius[known], direction[known]
    rows, columns, shares = [], [], []
    for up in (0, 1):
        for on in (0, 1):
            row, column = radius.floor() + up, direction.floor() + on
            shares.append((1 - (radius - row).abs()) * (1 - (direction - column).abs()))
            rows.append(row.long().clamp_max(RADII - 1))  # the neighbor of the last row has a share of 0
            columns.append(column.long() % DIRECTIONS)
    return rows, columns, shares, known


def _extended(table: Tensor, lowest: int) -> Tensor:
    """Extrapolate to lower frequencies than the squares contain, with one slope for all directions."""
    line = table.mean(2)
    slope = (line[:, lowest + SLOPE_OVER] - line[:, lowest]) / SLOPE_OVER
    table = table.clone()
    for row in range(lowest):
        table[:, row] = (line[:, lowest] + slope * (row - lowest))[:, None]
    return table


def as_text(table: Tensor) -> str:
    """Return the table and its sources as JSON."""
    about = {
        "about": "Mean logarithm of magnitudes of photographs' spectra, by independent colour, frequency, direction",
        "made by": "python -m tools.spectrum",
        "photographs": {f"skimage.data.{name}": licence for name, licence in LICENCES.items()},
        "colours": "logits along the independent colours of featlight.param.color",
        "frequencies": f"from 2^{LOWEST:g} cycles per pixel on, {PER_OCTAVE} in each doubling",
        "directions": f"{DIRECTIONS} over half a turn",
    }
    head = json.dumps(about, indent=1).removesuffix("\n}")
    rows = [[json.dumps([round(v, 3) for v in row]) for row in channel] for channel in table.tolist()]
    body = ",\n".join("[" + ",\n".join(channel) + "]" for channel in rows)
    return f'{head},\n "magnitudes": [{body}]\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
