"""Figures that set tiles side by side: a row for each layer or each variant, and where a feature is active.

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
    Run,
    Sheet,
    caption,
    caption_color,
    draw_sheet,
    place_foot,
    place_head,
)
from featlight.drawing.text import RGB, leading, measure, wrap


@dataclass(frozen=True)
class Row:
    """One line of tiles.

    Args:
        name: what stands at its left: a layer or a variant; wrapped, and cut after two lines.
        cells: from left to right; there may be fewer or more than in the other rows.
        note: below the name, lighter: "8 of 768 features"; wrapped likewise.
    """

    name: str
    cells: Sequence[Cell]
    note: str = ""


@dataclass(frozen=True)
class _Type:
    """Sizes that depend on the figure's width, all in pixels."""

    small: int  # names, subtitle, legend
    head: int  # above the columns, and notes
    label: int  # above tiles, where each has its own
    gutter: int  # width of the names

    def lines(self, row: Row, height: int) -> list[tuple[str, int, RGB]]:
        """Name and note of a row, as much of them as `height` holds: text, size and colour."""
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
    """Draw one figure of rows, their names at the left.

    Args:
        rows: from top to bottom.
        title: large, at the top left; cut after two lines.
        subtitle: below it, smaller; cut after three lines.
        footer: below the rows and the legend of their marks; cut after three lines.
        columns: what stands above the columns, once, where all rows show the same features; without it each tile's
            label stands above the tile.
        tile: side of the square that tiles are scaled to, in pixels; by default the tiles' own.

    Returns:
        The picture, RGB.

    Raises:
        ValueError: there are no cells, or not as many columns as the longest row has cells.
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
    type_ = _type(rows, grid, tile)
    space = round(1.1 * type_.small) if type_.gutter else 0
    inner = max(type_.gutter + space + grid, 520)
    margin = 16 + round(inner / 48)
    left = margin + type_.gutter + space

    runs, y = place_head(Heading(title, "", subtitle, footer), margin, inner, type_.small)
    if columns is not None:
        heads, y = _heads([Cell(name, None) for name in columns], left, y, tile, gap, type_.head)
        runs += heads
    strips = []
    for row in rows:
        if columns is None and any(cell.label for cell in row.cells):
            heads, y = _heads(row.cells, left, y, tile, gap, type_.label)
            runs += heads
        lines = type_.lines(row, tile)
        at = y + (tile - sum(leading(size) for _, size, _ in lines)) // 2
        for text, size, color in lines:
            runs.append(Run(margin, at, text, size, color))
            at += leading(size)
        strip = _strip(row.cells, tile, gap)
        strips.append((strip, (left, y)))
        y += strip.height + gap
    foot, bottom = place_foot(cells, footer, margin, y, inner, type_.small)
    picture = draw_sheet(
        Sheet([], 1, tile, left, 0, tile, tile, 0, 1, [*runs, *foot], inner + 2 * margin, bottom + margin)
    )
    for strip, place in strips:
        picture.paste(strip, place)
    return picture


def _type(rows: Sequence[Row], grid: int, tile: int) -> _Type:
    """The gutter is as wide as the longest name, within bounds; a note is rather wrapped than to widen it."""
    small = max(14, round(1.1 * grid / 95))
    head = max(10, min(small, round(tile / 6)))
    label = max(9, min(small, round(tile / 9)))
    name = min(max(measure(row.name, small) for row in rows), max(grid / 5, 2 * tile, 110))
    note = min(max(measure(row.note, head) for row in rows), max(tile, 110))
    return _Type(small, head, label, ceil(max(name, note)))


def _heads(cells: Sequence[Cell], left: int, y: int, tile: int, gap: int, size: int) -> tuple[list[Run], int]:
    """What stands above tiles, on the lines nearest to them; and where the tiles begin."""
    wrapped = [caption(cell, size, tile - 0.4 * size, 2) for cell in cells]
    deepest = max(map(len, wrapped))
    runs = [
        Run(left + i * (tile + gap), y + (deepest - len(lines) + k) * leading(size), line, size, caption_color(cell))
        for i, (cell, lines) in enumerate(zip(cells, wrapped, strict=True))
        for k, line in enumerate(lines)
    ]
    return runs, y + deepest * leading(size) + round(0.25 * size)


def _strip(cells: Sequence[Cell], tile: int, gap: int) -> Image.Image:
    """One row of tiles."""
    width = len(cells) * (tile + gap)
    return draw_sheet(Sheet(cells, max(1, len(cells)), tile, 0, 0, tile + gap, tile, 0, 1, [], width, tile))
