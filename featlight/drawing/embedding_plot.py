"""Tiles on a plane, each at its place, on the colour of its cluster, with the cluster's number in its corner."""

from collections import Counter
from collections.abc import Sequence
from colorsys import hls_to_rgb
from dataclasses import dataclass

from PIL import Image, ImageDraw

from featlight.analysis.embedding import GridLayout
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

WIDE, WIDEST = 4096, 7800  # px across without margins, where tiles can be seen so, and otherwise
LEAST = 48  # px, side of a tile that can be seen


@dataclass(frozen=True)
class EmbeddingPlot:
    """Tiles on a plane.

    Args:
        cells: of the tiles.
        clusters: of each, the number of its own, from 1.
        grid: where each stands.
    """

    cells: Sequence[Cell]
    clusters: Sequence[int]
    grid: GridLayout


def cluster_color(number: int) -> RGB:
    """The colour of a cluster: those of numbers that follow each other are far apart, and white is read on all."""
    red, green, blue = hls_to_rgb((0.04 + 0.618034 * (number - 1)) % 1, 0.42, 0.5)
    return round(255 * red), round(255 * green), round(255 * blue)


def side_on_a_plane(columns: int, largest: int) -> int:
    """The side of tiles that stand in so many columns, in pixels.

    Args:
        columns: of the plane.
        largest: their own side, which is not passed.
    """
    room = WIDE if WIDE // columns >= LEAST + _gap(LEAST) else WIDEST
    return max(4, min(largest, room // columns - _gap(room // columns)))


def draw_embedding_plot(plane: EmbeddingPlot, words: Heading, side: int) -> Image.Image:
    """Draw tiles on a plane, and below them how many each cluster holds.

    Args:
        plane: what stands where; a cell is opened once.
        words: for the head and the foot.
        side: of a tile, in pixels.

    Returns:
        The picture, RGB.
    """
    gap, (columns, rows, places) = _gap(side), plane.grid
    label = max(9, round(side / 9)) if side >= LABELLED else 0
    across, down = side + gap, side + gap + (leading(label) if label else 0)
    inner = max(columns * across, 520)
    small = max(14, round(inner / 110))
    margin = 16 + round(inner / 48)
    head, top = place_head(words, margin, inner, small)
    legend, under = _legend(plane.clusters, margin, top + rows * down + small, inner, small)
    foot, bottom = place_foot(plane.cells, words.footer, margin, under, inner, small)
    runs, size = [*head, *foot], (inner + 2 * margin, bottom + margin)
    picture = draw_sheet(Sheet([], 1, side, 0, 0, across, down, 0, 1, runs, *size))
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
    """How far apart tiles of a side stand, so that the colour of their cluster is seen between them; pixels."""
    return max(2, round(side / 20))


def _badge(draw: ImageDraw.ImageDraw, x: int, y: int, number: int, size: int) -> int:
    """A cluster's number on its colour, the font's size in pixels; returns where it ends."""
    end = x + round(measure(f"{number}", size) + 0.8 * size)
    draw.rectangle((x, y, end - 1, y + leading(size) - 1), cluster_color(number))
    write(draw, x + 0.4 * size, y + 0.05 * size, f"{number}", size, PAPER)
    return end


def _legend(
    clusters: Sequence[int], left: int, y: int, inner: int, size: int
) -> tuple[list[tuple[int, int, int, str]], int]:
    """Of each cluster, where its badge stands, its number, and how many tiles it holds; and where they end."""
    placed, x = [], left
    for number, count in sorted(Counter(clusters).items()):
        tally = f"{count} tile{'' if count == 1 else 's'}"
        width = round(measure(f"{number}", size) + 1.2 * size + measure(tally, size))
        if x > left and x + width > left + inner:
            x, y = left, y + round(1.25 * leading(size))
        placed.append((x, y, number, tally))
        x += width + 2 * size
    return placed, y + leading(size)
