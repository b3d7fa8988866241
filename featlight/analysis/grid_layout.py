"""Points of a plane on a grid: each on the free place nearest to it, so that their tiles do not hide each other."""

from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np

ROOM = 1.7  # places for each point: gaps between groups stay to be seen
LANDSCAPE = 1.5  # width over height


class GridLayout(NamedTuple):
    """Points on a grid.

    Args:
        columns: of the grid.
        rows: of it.
        places: of each point, its place in reading order from 0, (N,) int64.
    """

    columns: int
    rows: int
    places: "np.ndarray[Any, Any]"


def grid_size(count: int) -> tuple[int, int]:
    """Columns and rows of the grid of so many points."""
    columns = ceil(sqrt(ROOM * count * LANDSCAPE))
    return columns, ceil(ROOM * count / columns)


def on_a_grid(points: "np.ndarray[Any, Any]") -> GridLayout:
    """Move every point to a place of its own. Those nearest to the middle of all choose first.

    Args:
        points: (N, 2), across and down; each axis is stretched to the grid.
    """
    columns, rows = grid_size(len(points))
    low, high = points.min(0), points.max(0)
    span = np.where(high > low, high - low, 1.0)
    wanted = (points - low) / span * [columns - 1, rows - 1]
    free = np.ones((rows, columns), bool)
    places = np.empty(len(points), np.int64)
    for i in np.argsort(((wanted - np.median(wanted, 0)) ** 2).sum(1), kind="stable"):
        row, column = _nearest(free, wanted[i])
        free[row, column] = False
        places[i] = row * columns + column
    return GridLayout(columns, rows, places)


def _nearest(free: "np.ndarray[Any, Any]", wanted: "np.ndarray[Any, Any]") -> tuple[int, int]:
    """Row and column of the free place nearest to a point, in wider and wider windows around it."""
    column, row = wanted
    radius = 1
    while True:
        top, left = max(0, int(row) - radius), max(0, int(column) - radius)
        window = free[top : int(row) + radius + 2, left : int(column) + radius + 2]
        down, across = np.nonzero(window)
        if len(down):
            distance = (down + top - row) ** 2 + (across + left - column) ** 2
            best = int(distance.argmin())
            # nothing outside the window is nearer than its radius
            if distance[best] <= radius**2 or window.size == free.size:
                return int(down[best]) + top, int(across[best]) + left
        radius *= 2
