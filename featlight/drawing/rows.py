"""Figures of tiles in named rows, such as a row for each layer or variant.

rows = [Row("L1", l1_cells), Row("L2", l2_cells), Row("Linf", linf_cells, note="row sums")]
picture = draw_rows(rows, title="inception_v3 Mixed_6b", columns=["0", "1", "2", "3"])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from PIL import Image

from featlight.drawing.atlas import usual_side
from featlight.drawing.sheet import (
    GRAY,
    INK,
    Cell,
    Heading,
    Sheet,
    TextLine,
    caption,
    caption_color,
    draw_sheet,
    place_foot,
    place_head,
)
from featlight.drawing.text import RGB, leading, measure, wrap


@dataclass(frozen=True)
class Row:
    """One row of tiles.

    Args:
        name: text at the left, such as a layer or a variant; cut after two lines.
        cells: cells from left to right; rows may differ in length.
        note: lighter text below the name, such as "8 of 768 features"; cut after two lines.
    """

    name: str
    cells: Sequence[Cell]
    note: str = ""


@dataclass(frozen=True)
class _FontSizes:
    """Sizes of the figure's text, in pixels."""

    small: int  # names, subtitle, legend
    head: int  # above the columns, and notes
    label: int  # above tiles, if each tile has its own label
    gutter: int  # width of the column of names

    def lines(self, row: Row, height: int) -> list[tuple[str, int, RGB]]:
        """Return the lines of a row's name and note that fit `height`: text, size and color."""
        name = [(text, self.small, INK) for text in wrap(row.name, self.small, self.gutter, 2)]
        note = [(text, self.head, GRAY) for text in wrap(row.note, self.head, self.gutter, 2)]
        lines = [*name, *note]
        while len(lines) > 1 and sum(leading(size) for _, size, _ in lines) > height:
            lines.pop()
        return lines


def draw_rows(
    rows: Sequence[Row],
    *,
    title: str,
    subtitle: str = "",
    footer: str = "",
    columns: Sequence[str] | None = None,
    tile: int | None = None,
) -> Image.Image:
    """Draw a figure of rows, with their names at the left.

    Args:
        rows: rows from top to bottom.
        title: large text at the top left; cut after two lines.
        subtitle: smaller text below the title; cut after three lines.
        footer: text below the rows and the legend of their marks; cut after three lines.
        columns: headings of the columns, if all rows show the same features; without them, each tile has its label
            above it.
        tile: side of the square that tiles are scaled to, in pixels; by default the tiles' own size.

    Returns:
        The RGB picture.

    Raises:
        ValueError: there are no cells, or the number of columns is not that of cells in the longest row.
    """
    cells = [cell for row in rows for cell in row.cells]
    if not cells:
        raise ValueError("a figure needs at least one cell")
    tile = tile or usual_side(cells)
    across = max(len(row.cells) for row in rows)
    if columns is not None and len(columns) != across:
        raise ValueError(f"columns: {len(columns)} given; the longest row has {across} cells")

    gap = max(2, round(tile / 64))
    grid = across * (tile + gap) - gap
    fonts = _font_sizes(rows, grid, tile)
    space = round(1.1 * fonts.small) if fonts.gutter else 0
    inner = max(fonts.gutter + space + grid, 520)
    margin = 16 + round(inner / 48)
    left = margin + fonts.gutter + space

    text_lines, y = place_head(Heading(title, "", subtitle, footer), margin, inner, fonts.small)
    if columns is not None:
        heads, y = _heads([Cell(name, None) for name in columns], left, y, tile, gap, fonts.head)
        text_lines += heads
    strips = []
    for row in rows:
        if columns is None and any(cell.label for cell in row.cells):
            heads, y = _heads(row.cells, left, y, tile, gap, fonts.label)
            text_lines += heads
        lines = fonts.lines(row, tile)
        at = y + (tile - sum(leading(size) for _, size, _ in lines)) // 2
        for text, size, color in lines:
            text_lines.append(TextLine(margin, at, text, size, color))
            at += leading(size)
        strip = _strip(row.cells, tile, gap)
        strips.append((strip, (left, y)))
        y += strip.height + gap
    foot, bottom = place_foot(cells, footer, margin, y, inner, fonts.small)
    picture = draw_sheet(
        Sheet([], 1, tile, left, 0, tile, tile, 0, 1, [*text_lines, *foot], inner + 2 * margin, bottom + margin)
    )
    for strip, place in strips:
        picture.paste(strip, place)
    return picture


def _font_sizes(rows: Sequence[Row], grid: int, tile: int) -> _FontSizes:
    """Choose font sizes, and a gutter for the longest name within bounds; long notes are wrapped instead."""
    small = max(14, round(1.1 * grid / 95))
    head = max(10, min(small, round(tile / 6)))
    label = max(9, min(small, round(tile / 9)))
    name = min(max(measure(row.name, small) for row in rows), max(grid / 5, 2 * tile, 110))
    note = min(max(measure(row.note, head) for row in rows), max(tile, 110))
    return _FontSizes(small, head, label, ceil(max(name, note)))


def _heads(cells: Sequence[Cell], left: int, y: int, tile: int, gap: int, size: int) -> tuple[list[TextLine], int]:
    """Place the labels of cells, bottom-aligned; return them and the y coordinate of the tiles below."""
    wrapped = [caption(cell, size, tile - 0.4 * size, 2) for cell in cells]
    deepest = max(map(len, wrapped))
    text_lines = [
        TextLine(
            left + i * (tile + gap), y + (deepest - len(lines) + k) * leading(size), line, size, caption_color(cell)
        )
        for i, (cell, lines) in enumerate(zip(cells, wrapped, strict=True))
        for k, line in enumerate(lines)
    ]
    return text_lines, y + deepest * leading(size) + round(0.25 * size)


def _strip(cells: Sequence[Cell], tile: int, gap: int) -> Image.Image:
    """Draw one row of tiles."""
    width = len(cells) * (tile + gap)
    return draw_sheet(Sheet(cells, max(1, len(cells)), tile, 0, 0, tile + gap, tile, 0, 1, [], width, tile))
