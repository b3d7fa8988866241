"""One sheet of labelled tiles: first everything is placed, then it is drawn, a tile at a time."""

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


@dataclass(frozen=True)
class Cell:
    """One place in the grid.

    Args:
        label: what stands under it, as in "654", "both" or "654 row 8".
        open: opens the tile, each time it is called; None where there is nothing to show.
        mark: why it is marked, as in "dead: no gradient"; the word before the colon is its kind.
    """

    label: str
    open: Callable[[], Image.Image] | None
    mark: str | None = None

    @property
    def kind(self) -> str:
        return (self.mark or "").partition(":")[0].strip()

    def opened(self) -> AbstractContextManager[Image.Image | None]:
        """Its tile, for as long as it is looked at."""
        return nullcontext() if self.open is None else self.open()


@dataclass(frozen=True)
class Heading:
    """What a sheet says around its grid."""

    title: str  # large, at the top left
    note: str  # goes on after the title, lighter: "page 1 of 3, features 0-255"
    subtitle: str  # below the title, smaller
    footer: str  # at the bottom, below the legend


@dataclass(frozen=True)
class Run:
    """A line of text, its top left corner in pixels; with `swatch`, behind a small panel of that mark."""

    x: int
    y: int
    text: str
    size: int
    color: RGB = GRAY
    strong: bool = False
    swatch: str | None = None


@dataclass(frozen=True)
class Sheet:
    """Where everything stands, in pixels."""

    cells: Sequence[Cell]
    columns: int
    tile: int  # side
    left: int  # of the first tile
    top: int
    across: int  # from one tile to the next
    down: int  # from one row of tiles to the next
    label: int  # font size; 0 where tiles are too small for labels
    label_lines: int
    runs: Sequence[Run]  # all text but the labels
    width: int
    height: int


def lay_out(cells: Sequence[Cell], words: Heading, columns: int, tile: int) -> Sheet:
    """Worker everything; no tile is opened.

    Args:
        cells: in reading order.
        words: for the head and the foot.
        columns: cells in a row.
        tile: side of a tile, in pixels.
    """
    gap = gap_of(tile)
    inner = max(columns * (tile + gap) - gap, 520)
    small = max(14, round(inner / 95))  # a sheet is shown scaled to a slide, so its type grows with it
    margin = 16 + round(inner / 48)
    label = max(9, min(small, round(tile / 9))) if tile >= LABELLED else 0
    under = caption_of(cells, tile, label)

    head, top = place_head(words, margin, inner, small)
    down = tile + under.height + under.below
    foot, bottom = place_foot(
        cells, words.footer, margin, top + ceil(len(cells) / columns) * down - under.below, inner, small
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
        runs=[*head, *foot],
        width=inner + 2 * margin,
        height=bottom + margin,
    )


@dataclass(frozen=True)
class Caption:
    """What stands under tiles, in pixels."""

    lines: int  # of a label, at most
    height: int
    below: int  # from there to the next row of tiles


def caption_of(cells: Sequence[Cell], tile: int, label: int) -> Caption:
    """The room that labels of a font size take under tiles of a side; 0 for no labels."""
    longest = plain(max((cell.label for cell in cells), key=len))
    lines = 2 if measure(longest, label or 1) > _label_width(tile, label) else 1
    below = round(0.55 * label) if label else gap_of(tile)
    return Caption(lines, round(0.3 * label) + lines * leading(label), below)


def gap_of(tile: int) -> int:
    """The least distance between two tiles of a row, given their side; pixels."""
    return max(2 if tile >= LABELLED else 1, round(tile / 64))


def _label_width(tile: int, label: int) -> float:
    return tile - 0.4 * label


def place_head(words: Heading, margin: int, inner: int, small: int, larger: float = 1.75) -> tuple[list[Run], int]:
    """Title, so many times as large as the other type, note and subtitle; and where the grid begins."""
    large = round(larger * small)
    runs: list[Run] = []
    y = margin - round(0.2 * large)  # a line begins above its letters
    for line in wrap(words.title, large, inner, 2):
        runs.append(Run(margin, y, line, large, INK, strong=True))
        y += leading(large)
    if words.note:
        note = shorten(words.note, large, inner)
        beside = round(margin + measure(runs[-1].text, large) + 0.7 * large) if runs else margin + inner
        if beside + measure(note, large) <= margin + inner:
            runs.append(Run(beside, runs[-1].y, note, large))
        else:
            runs.append(Run(margin, y, note, large))
            y += leading(large)
    for line in wrap(words.subtitle, small, inner, 3):
        runs.append(Run(margin, y + round(0.15 * small), line, small))
        y += leading(small)
    return runs, y + small if runs else margin


def place_foot(
    cells: Sequence[Cell], footer: str, margin: int, y: int, inner: int, small: int
) -> tuple[list[Run], int]:
    """The legend of the marks that occur, then the footer; and where they end."""
    marks = [cell.mark for cell in cells if cell.mark]
    if len(set(marks)) > 6:  # too many reasons to list
        marks = [cell.kind for cell in cells if cell.mark]
    runs: list[Run] = []
    indent = round(1.6 * small)
    x = margin
    line = y + small
    for mark in sorted(set(marks)):
        tally = f" ({marks.count(mark)} of {len(cells)})"
        text = shorten(mark, small, inner - indent - measure(tally, small)) + tally
        if x > margin and x + indent + measure(text, small) > margin + inner:
            x, line = margin, line + round(1.1 * leading(small))
        runs.append(Run(x, line, text, small, swatch=Cell("", None, mark).kind))
        x += indent + round(measure(text, small) + 2 * small)
        y = line + leading(small)
    line = y + round(0.5 * small if runs else small)
    for text in wrap(footer, small, inner, 3):
        runs.append(Run(margin, line, text, small))
        y = line = line + leading(small)
    return runs, y


def draw_sheet(sheet: Sheet) -> Image.Image:
    """Draw what was placed, RGB."""
    drawing = Drawing(sheet)
    for place, cell in enumerate(sheet.cells):
        with cell.opened() as tile:
            drawing.put(place, tile)
    return drawing.picture


class Drawing:
    """A sheet that is being drawn: its words, then tile by tile.

    Args:
        sheet: where everything stands.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.picture = Image.new("RGB", (sheet.width, sheet.height), PAPER)
        self._sheet, self._draw = sheet, ImageDraw.Draw(self.picture)
        for run in sheet.runs:
            x = run.x
            if run.swatch is not None:
                self.picture.paste(square_tile(None, run.swatch, run.size), (x, run.y + round(0.12 * run.size)))
                x += round(1.6 * run.size)
            write(self._draw, x, run.y, run.text, run.size, run.color, strong=run.strong)

    def put(self, place: int, tile: Image.Image | None) -> None:
        """Draw one cell with its caption, given its tile; None where there is none."""
        sheet, cell = self._sheet, self._sheet.cells[place]
        x = sheet.left + place % sheet.columns * sheet.across
        y = sheet.top + place // sheet.columns * sheet.down
        self.picture.paste(square_tile(tile, cell.kind, sheet.tile), (x, y))
        if sheet.label:
            _caption(self._draw, cell, sheet, x, y + sheet.tile + round(0.3 * sheet.label))


def _caption(draw: ImageDraw.ImageDraw, cell: Cell, sheet: Sheet, x: int, y: int) -> None:
    """The label, at the tile's left edge, and the kind of its mark where there is room."""
    size = sheet.label
    for i, line in enumerate(caption(cell, size, _label_width(sheet.tile, size), sheet.label_lines)):
        write(draw, x, y + i * leading(size), line, size, caption_color(cell))


def caption(cell: Cell, size: int, width: float, most: int) -> list[str]:
    """The lines of a cell's label, with the kind of its mark where there is room; sizes in pixels."""
    marked = f"{cell.label} {cell.kind}" if cell.kind else cell.label
    lines = wrap(marked, size, width, most)
    return lines if " ".join(lines) == plain(marked) else wrap(cell.label, size, width, most)


def caption_color(cell: Cell) -> RGB:
    return MARKS.get(cell.kind, INK) if cell.mark else GRAY
