"""A sheet of labeled tiles: `lay_out` computes all positions, then `Drawing` draws tile by tile."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import ceil

from PIL import Image, ImageDraw

from featlight.drawing.square import MARKS, square_tile
from featlight.drawing.text import RGB, leading, measure, plain, shorten, wrap, write

PAPER: RGB = (255, 255, 255)
INK: RGB = (24, 24, 27)
GRAY: RGB = (104, 104, 110)
LABELLED = 28  # px; smaller tiles have no room for labels
Show = Callable[[int, Image.Image | None], None]  # takes the index of a cell and its tile, if it has one


@dataclass(frozen=True)
class Cell:
    """One cell of a grid.

    Args:
        label: text under the tile, such as "654", "both" or "654 row 8".
        open: function that opens the tile; None if there is nothing to show.
        mark: status and reason, such as "dead: no gradient"; the word before the colon is the kind.
    """

    label: str
    open: Callable[[], Image.Image] | None
    mark: str | None = None

    @property
    def kind(self) -> str:
        return (self.mark or "").partition(":")[0].strip()

    def opened(self) -> AbstractContextManager[Image.Image | None]:
        """Open the tile as a context manager; None if there is nothing to show."""
        return nullcontext() if self.open is None else self.open()


@dataclass(frozen=True)
class Heading:
    """Texts around the grid of a sheet.

    Args:
        title: large text at the top left.
        note: lighter text after the title, such as "page 1 of 3, features 0-255".
        subtitle: smaller text below the title.
        footer: text at the bottom, below the legend.
    """

    title: str
    note: str
    subtitle: str
    footer: str


@dataclass(frozen=True)
class TextLine:
    """A line of text at the pixel position of its top left corner; `swatch` names a mark to draw before it."""

    x: int
    y: int
    text: str
    size: int
    color: RGB = GRAY
    strong: bool = False
    swatch: str | None = None


@dataclass(frozen=True)
class Sheet:
    """Positions and sizes of everything on a sheet, in pixels."""

    cells: Sequence[Cell]
    columns: int
    tile: int  # side
    left: int  # of the first tile
    top: int
    across: int  # from one tile to the next
    down: int  # from one row of tiles to the next
    label: int  # font size; 0 if tiles are too small for labels
    label_lines: int
    text_lines: Sequence[TextLine]  # all text except labels
    width: int
    height: int


def lay_out(cells: Sequence[Cell], heading: Heading, columns: int, tile: int) -> Sheet:
    """Compute all positions. No tile is opened.

    Args:
        cells: cells in reading order.
        heading: texts above and below the grid.
        columns: number of cells in a row.
        tile: side of a tile, in pixels.
    """
    gap = gap_of(tile)
    inner = max(columns * (tile + gap) - gap, 520)
    small = max(14, round(inner / 95))  # text grows with the sheet, to stay readable when it is scaled to a slide
    margin = 16 + round(inner / 48)
    label = max(9, min(small, round(tile / 9))) if tile >= LABELLED else 0
    under = caption_of(cells, tile, label)

    head, top = place_head(heading, margin, inner, small)
    down = tile + under.height + under.below
    foot, bottom = place_foot(
        cells, heading.footer, margin, top + ceil(len(cells) / columns) * down - under.below, inner, small
    )
    return Sheet(
        cells=cells,
        columns=columns,
        tile=tile,
        left=margin,
        top=top,
        across=tile + gap,
        down=down,
        label=label,
        label_lines=under.lines,
        text_lines=[*head, *foot],
        width=inner + 2 * margin,
        height=bottom + margin,
    )


@dataclass(frozen=True)
class Caption:
    """Room for the labels under tiles, in pixels."""

    lines: int  # maximum lines of a label
    height: int
    below: int  # distance to the next row of tiles


def caption_of(cells: Sequence[Cell], tile: int, label: int) -> Caption:
    """Return the room for the labels of cells.

    Args:
        cells: cells with labels.
        tile: side of a tile, in pixels.
        label: font size; 0 for no labels.
    """
    longest = plain(max((cell.label for cell in cells), key=len))
    lines = 2 if measure(longest, label or 1) > _label_width(tile, label) else 1
    below = round(0.55 * label) if label else gap_of(tile)
    return Caption(lines, round(0.3 * label) + lines * leading(label), below)


def gap_of(tile: int) -> int:
    """Return the smallest gap between two tiles, in pixels."""
    return max(2 if tile >= LABELLED else 1, round(tile / 64))


def _label_width(tile: int, label: int) -> float:
    return tile - 0.4 * label


def place_head(
    heading: Heading, margin: int, inner: int, small: int, larger: float = 1.75
) -> tuple[list[TextLine], int]:
    """Place title, note and subtitle; return them and the y coordinate of the grid.

    Args:
        heading: texts to place.
        margin: left and top margin, in pixels.
        inner: width between the margins, in pixels.
        small: font size of the subtitle, in pixels.
        larger: size of the title, as a multiple of `small`.
    """
    large = round(larger * small)
    text_lines: list[TextLine] = []
    y = margin - round(0.2 * large)  # the font leaves a gap above its letters
    for line in wrap(heading.title, large, inner, 2):
        text_lines.append(TextLine(margin, y, line, large, INK, strong=True))
        y += leading(large)
    if heading.note:
        note = shorten(heading.note, large, inner)
        beside = round(margin + measure(text_lines[-1].text, large) + 0.7 * large) if text_lines else margin + inner
        if beside + measure(note, large) <= margin + inner:
            text_lines.append(TextLine(beside, text_lines[-1].y, note, large))
        else:
            text_lines.append(TextLine(margin, y, note, large))
            y += leading(large)
    for line in wrap(heading.subtitle, small, inner, 3):
        text_lines.append(TextLine(margin, y + round(0.15 * small), line, small))
        y += leading(small)
    return text_lines, y + small if text_lines else margin


def place_foot(
    cells: Sequence[Cell], footer: str, margin: int, y: int, inner: int, small: int
) -> tuple[list[TextLine], int]:
    """Place the legend of marks and the footer; return them and the y coordinate below them."""
    marks = [cell.mark for cell in cells if cell.mark]
    if len(set(marks)) > 6:  # too many reasons to list
        marks = [cell.kind for cell in cells if cell.mark]
    text_lines: list[TextLine] = []
    indent = round(1.6 * small)
    x = margin
    line = y + small
    for mark in sorted(set(marks)):
        tally = f" ({marks.count(mark)} of {len(cells)})"
        text = shorten(mark, small, inner - indent - measure(tally, small)) + tally
        if x > margin and x + indent + measure(text, small) > margin + inner:
            x, line = margin, line + round(1.1 * leading(small))
        text_lines.append(TextLine(x, line, text, small, swatch=Cell("", None, mark).kind))
        x += indent + round(measure(text, small) + 2 * small)
        y = line + leading(small)
    line = y + round(0.5 * small if text_lines else small)
    for text in wrap(footer, small, inner, 3):
        text_lines.append(TextLine(margin, line, text, small))
        y = line = line + leading(small)
    return text_lines, y


def draw_sheet(sheet: Sheet, show: Show = lambda *_: None) -> Image.Image:
    """Draw a sheet with all its tiles, RGB; call `show` with each tile."""
    drawing = Drawing(sheet)
    for place, cell in enumerate(sheet.cells):
        with cell.opened() as tile:
            drawing.put(place, tile)
            show(place, tile)
    return drawing.picture


class Drawing:
    """A sheet whose tiles are drawn one by one.

    Args:
        sheet: positions of everything.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.picture = Image.new("RGB", (sheet.width, sheet.height), PAPER)
        self._sheet, self._draw = sheet, ImageDraw.Draw(self.picture)
        for line in sheet.text_lines:
            x = line.x
            if line.swatch is not None:
                self.picture.paste(square_tile(None, line.swatch, line.size), (x, line.y + round(0.12 * line.size)))
                x += round(1.6 * line.size)
            write(self._draw, x, line.y, line.text, line.size, line.color, strong=line.strong)

    def put(self, place: int, tile: Image.Image | None) -> None:
        """Draw one cell with its caption.

        Args:
            place: index of the cell.
            tile: tile of the cell; None if there is nothing to show.
        """
        sheet, cell = self._sheet, self._sheet.cells[place]
        x = sheet.left + place % sheet.columns * sheet.across
        y = sheet.top + place // sheet.columns * sheet.down
        self.picture.paste(square_tile(tile, cell.kind, sheet.tile), (x, y))
        if size := sheet.label:
            y += sheet.tile + round(0.3 * size)
            for i, line in enumerate(caption(cell, size, _label_width(sheet.tile, size), sheet.label_lines)):
                write(self._draw, x, y + i * leading(size), line, size, caption_color(cell))


def caption(cell: Cell, size: int, width: float, most: int) -> list[str]:
    """Return the lines of a cell's label, with the kind of its mark if there is room.

    Args:
        cell: cell to label.
        size: font size, in pixels.
        width: maximum width of a line, in pixels.
        most: maximum number of lines.
    """
    marked = f"{cell.label} {cell.kind}" if cell.kind else cell.label
    lines = wrap(marked, size, width, most)
    return lines if " ".join(lines) == plain(marked) else wrap(cell.label, size, width, most)


def caption_color(cell: Cell) -> RGB:
    return MARKS.get(cell.kind, INK) if cell.mark else GRAY
