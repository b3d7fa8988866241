"""Plot of a two-dimensional embedding: each tile at its position, on the color and with the number of its cluster."""

from collections import Counter
from collections.abc import Sequence
from colorsys import hls_to_rgb
from dataclasses import dataclass

from PIL import Image, ImageDraw

from featlight.analysis.similar_tiles import GridLayout
from featlight.drawing.sheet import (
    GRAY,
    LABELLED,
    PAPER,
    Cell,
    Heading,
    Sheet,
    caption,
    draw_sheet,
    place_foot,
    place_head,
)
from featlight.drawing.square import square_tile
from featlight.drawing.text import RGB, leading, measure, write

WIDE, WIDEST = 4096, 7800  # px without margins: usual width, and width for many tiles
LEAST = 48  # px, smallest side of a tile at the usual width


@dataclass(frozen=True)
class EmbeddingPlot:
    """Tiles, their clusters and their positions.

    Args:
        cells: cells of the tiles.
        clusters: cluster number of each tile, from 1.
        grid: position of each tile.
    """

    cells: Sequence[Cell]
    clusters: Sequence[int]
    grid: GridLayout


def cluster_color(number: int) -> RGB:
    """Return a cluster's color. Successive numbers have distant hues, and white text is readable on all of them."""
    red, green, blue = hls_to_rgb((0.04 + 0.618034 * (number - 1)) % 1, 0.42, 0.5)
    return round(255 * red), round(255 * green), round(255 * blue)


def side_on_a_plane(columns: int, largest: int) -> int:
    """Return the side of a tile in the plot, in pixels.

    Args:
        columns: number of columns of the grid.
        largest: maximum side, the tiles' own.
    """
    room = WIDE if WIDE // columns >= LEAST + _gap(LEAST) else WIDEST
    return max(4, min(largest, room // columns - _gap(room // columns)))


def draw_embedding_plot(plane: EmbeddingPlot, heading: Heading, side: int) -> Image.Image:
    """Draw the tiles, and below them the size of each cluster.

    Args:
        plane: tiles, clusters and positions; each cell is opened once.
        heading: texts above and below the plot.
        side: side of a tile, in pixels.

    Returns:
        The RGB picture.
    """
    gap, (columns, rows, places) = _gap(side), plane.grid
    label = max(9, round(side / 9)) if side >= LABELLED else 0
    across, down = side + gap, side + gap + (leading(label) if label else 0)
    inner = max(columns * across, 520)
    small = max(14, round(inner / 110))
    margin = 16 + round(inner / 48)
    head, top = place_head(heading, margin, inner, small)
    legend, under = _legend(plane.clusters, margin, top + rows * down + small, inner, small)
    foot, bottom = place_foot(plane.cells, heading.footer, margin, under, inner, small)
    text_lines, size = [*head, *foot], (inner + 2 * margin, bottom + margin)
    picture = draw_sheet(Sheet([], 1, side, 0, 0, across, down, 0, 1, text_lines, *size))
    draw = ImageDraw.Draw(picture)
    for x, y, number, tally in legend:
        end = _badge(draw, x, y, number, small)
        write(draw, end + 0.4 * small, y, tally, small, GRAY)
    for cell, cluster, place in zip(plane.cells, plane.clusters, places.tolist(), strict=True):
        x, y = margin + place % columns * across, top + place // columns * down
        draw.rectangle((x, y, x + across - 1, y + down - 1), cluster_color(cluster))
        x, y = x + gap // 2, y + gap // 2
        with cell.opened() as tile:
            picture.paste(square_tile(tile, cell.kind, side), (x, y))
        if label:
            _badge(draw, x, y, cluster, label)
            for line in caption(cell, label, side - 0.4 * label, 1):
                write(draw, x + 0.2 * label, y + side + 0.1 * label, line, label, PAPER)
    return picture


def _gap(side: int) -> int:
    """Return the gap between tiles in pixels, which shows the color of their cluster."""
    return max(2, round(side / 20))


def _badge(draw: ImageDraw.ImageDraw, x: int, y: int, number: int, size: int) -> int:
    """Draw a cluster's number on its color; return the x coordinate of its right edge."""
    end = x + round(measure(f"{number}", size) + 0.8 * size)
    draw.rectangle((x, y, end - 1, y + leading(size) - 1), cluster_color(number))
    write(draw, x + 0.4 * size, y + 0.05 * size, f"{number}", size, PAPER)
    return end


def _legend(
    clusters: Sequence[int], left: int, y: int, inner: int, size: int
) -> tuple[list[tuple[int, int, int, str]], int]:
    """Return each cluster's badge position, number and tile count, and the y coordinate below the legend."""
    placed, x = [], left
    for number, count in sorted(Counter(clusters).items()):
        tally = f"{count} tile{'' if count == 1 else 's'}"
        width = round(measure(f"{number}", size) + 1.2 * size + measure(tally, size))
        if x > left and x + width > left + inner:
            x, y = left, y + round(1.25 * leading(size))
        placed.append((x, y, number, tally))
        x += width + 2 * size
    return placed, y + leading(size)
