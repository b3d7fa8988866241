"""The labelled picture of a layer: every feature's tile in one grid, on pages where one would be too large.

    for suffix, picture in draw_atlas(cells, title="inception_v3 Mixed_6b", subtitle="300 steps · seed 999"):
        Path(f"Mixed_6b{suffix}.png").write_bytes(encode_png(picture, {"Title": "Mixed_6b"}))

Tiles are opened and pages drawn one at a time: memory holds a page and the overview, whatever the layer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil, log, sqrt
from statistics import median_high

from PIL import Image

from featlight.drawing.sheet import Cell, Drawing, Heading, Sheet, draw_sheet, lay_out

LANDSCAPE = 1.55  # width over height: between 3:2 and 16:10
OVERVIEW_SIDE = 4096
SAMPLE = 256  # tiles of a layer tell the usual size of all, and need not all be read for it
Show = Callable[[int, Image.Image | None], None]  # takes the place of a cell, and its tile where there is one


def draw_grid(
    cells: Sequence[Cell],
    *,
    title: str,
    subtitle: str = "",
    footer: str = "",
    columns: int | None = None,
    tile: int | None = None,
    width_limit: int | None = None,
) -> Image.Image:
    """Draw one labelled grid, however large it comes out unless its width has a limit.

    Args:
        cells: in reading order.
        title: large, at the top left; cut after two lines.
        subtitle: below it, smaller; cut after three lines.
        footer: below the grid and the legend of its marks; cut after three lines.
        columns: cells in a row; by default as many as make the sheet a landscape of about 3:2.
        tile: side of the square that tiles are scaled to, in pixels; by default the tiles' own.
        width_limit: the picture is no wider, in pixels; tiles are made smaller until it fits. At least 640.

    Returns:
        The picture, RGB.

    Raises:
        ValueError: there are no cells, or so many that not even a pixel of each fits.
    """
    tile = tile or usual_side(cells)
    words = Heading(title, "", subtitle, footer)
    while tile > 0:
        sheet = lay_out(cells, words, columns or _columns(len(cells), tile)[0], tile)
        if width_limit is None or sheet.width <= width_limit:
            return draw_sheet(sheet)
        tile = min(tile - 1, tile * width_limit // sheet.width)
    raise ValueError(f"{len(cells)} cells are too many for a width of {width_limit} px")


def draw_atlas(
    cells: Sequence[Cell],
    *,
    title: str,
    subtitle: str = "",
    footer: str = "",
    side_limit: int = 8192,
    show: Show = lambda *_: None,
) -> Iterator[tuple[str, Image.Image]]:
    """Draw a layer as one sheet, or else as pages with full tiles and an overview with small ones.

    Args:
        cells: in reading order; a tile is opened once, and some before, to learn the usual size.
        title: large, at the top left; on pages it goes on with "page 1 of 3, features 0-255".
        subtitle: below it, smaller.
        footer: below the grid and the legend of its marks.
        side_limit: no picture is wider or higher, in pixels; at least 1024.
        show: called with the place of each cell and its tile (None: there is none), for what else is drawn of it.

    Yields:
        What to add to the file's name, and the picture, drawn when it is asked for: "" for the only sheet, or else
        "-p01", "-p02", ... for the pages, then "" for the overview.

    Raises:
        ValueError: there are no cells, more than an overview can hold, or the limit is too low.
    """
    if side_limit < 1024:
        raise ValueError(f"side_limit is {side_limit} px; allowed: 1024 px or more")
    words = Heading(title, "", subtitle, footer)
    tile = min(usual_side(cells), side_limit // 4)
    sheet = _best(cells, words, tile, side_limit)
    if sheet is not None:
        yield "", _draw(sheet, show)
        return
    pages = _paginate(cells, words, tile, side_limit)
    overview = Drawing(_overview(cells, words, len(pages), tile, side_limit))

    def show_on_overview(place: int, tile: Image.Image | None) -> None:
        overview.put(place, tile)
        show(place, tile)

    size = len(pages[0].cells)
    for number, page in enumerate(pages):
        yield f"-p{number + 1:02d}", _draw(page, show_on_overview, number * size)
    yield "", overview.picture


def _draw(sheet: Sheet, show: Show, first: int = 0) -> Image.Image:
    """A sheet drawn whole, its tiles shown elsewhere too, where its first cell has that place."""
    drawing = Drawing(sheet)
    for place, cell in enumerate(sheet.cells):
        with cell.opened() as tile:
            drawing.put(place, tile)
            show(first + place, tile)
    return drawing.picture


def usual_side(cells: Sequence[Cell]) -> int:
    """The tiles' usual side, in pixels; times a whole number where it is too small to look at."""
    if not cells:
        raise ValueError("an atlas needs at least one cell")
    sides = []
    there = [cell.open for cell in cells if cell.open is not None]
    for opened in there[:: ceil(len(there) / SAMPLE) or 1]:
        with opened() as image:
            sides.append(max(image.size))
    side = median_high(sides) if sides else 128
    return side * ceil((64 if len(cells) > 12 else 96) / side)


def _columns(cells: int, tile: int) -> list[int]:
    """Numbers of columns, the best first: near the landscape shape, the last row full, and easy to count by."""

    def badness(columns: int) -> float:
        rows = ceil(cells / columns)
        width = max(columns * tile, 520) * 1.05
        height = rows * (tile * 1.16 + 8) + max(0.09 * width, 120)
        uneven = 0.12 if columns > 10 and columns % 4 and columns % 5 else 0.0
        return abs(log(width / height / LANDSCAPE)) + 1 - cells / (columns * rows) + uneven

    return sorted(range(1, min(cells, 4 * ceil(sqrt(cells))) + 1), key=badness)


def _fits(sheet: Sheet, side: int) -> bool:
    return max(sheet.width, sheet.height) <= side


def _best(cells: Sequence[Cell], words: Heading, tile: int, side: int) -> Sheet | None:
    """The best shaped sheet within `side`; None where none fits."""
    for columns in _columns(len(cells), tile):
        if max(columns, ceil(len(cells) / columns)) * tile <= side:
            sheet = lay_out(cells, words, columns, tile)
            if _fits(sheet, side):
                return sheet
    return None


def _overview(cells: Sequence[Cell], words: Heading, pages: int, tile: int, side_limit: int) -> Sheet:
    """All cells on one sheet, their tiles as large as a screen's worth of pixels allows, else the limit."""
    words = replace(words, note=f"all {len(cells)} {_noun(cells)}s, full size on {pages} pages")
    for side, smallest in ((min(OVERVIEW_SIDE, side_limit), 48), (side_limit, 4)):
        for small in range(min(tile, 160), smallest - 1, -4):
            columns = _columns(len(cells), small)[0]
            if columns * small <= side:
                sheet = lay_out(cells, words, columns, small)
                if _fits(sheet, side):
                    return sheet
    raise ValueError(f"{len(cells)} cells are too many for an overview of {side_limit} px")


def _paginate(cells: Sequence[Cell], words: Heading, tile: int, side: int) -> list[Sheet]:
    """As few pages as hold all cells, about equally full, each but the last in full rows of the same length."""
    at_most = range(min(len(cells) - 1, (side // tile) ** 2), 0, -1)
    for fewest in dict.fromkeys(ceil(len(cells) / ceil(len(cells) / most)) for most in at_most):
        first = _best(cells[:fewest], _page_words(words, cells, fewest, 0), tile, side)
        if first is not None:
            size = first.columns * ceil(fewest / first.columns)
            sheets = [
                lay_out(cells[at : at + size], _page_words(words, cells, size, at), first.columns, tile)
                for at in range(0, len(cells), size)
            ]
            if all(_fits(sheet, side) for sheet in sheets):
                return sheets
    raise AssertionError("a page of one cell fits")


def _page_words(words: Heading, cells: Sequence[Cell], size: int, at: int) -> Heading:
    page, pages = at // size + 1, ceil(len(cells) / size)
    return replace(words, note=f"page {page} of {pages}, {_span(cells[at : at + size])}")


def _noun(cells: Sequence[Cell]) -> str:
    return "feature" if all(cell.label.isdigit() for cell in cells) else "tile"


def _span(cells: Sequence[Cell]) -> str:
    first, last = cells[0].label, cells[-1].label
    if _noun(cells) == "tile":
        return first if len(cells) == 1 else f"{first} to {last}"
    return f"feature {first}" if len(cells) == 1 else f"features {first}-{last}"
