"""The atlas of a layer: a labeled grid of all tiles, split into pages when one picture would be too large.

    for suffix, picture in draw_atlas(cells, title="inception_v3 Mixed_6b", subtitle="300 steps · seed 999"):
        Path(f"Mixed_6b{suffix}.png").write_bytes(encode_png(picture, {"Title": "Mixed_6b"}))

Tiles are opened one at a time and pages are drawn one at a time, so memory holds one page and the overview.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import ceil, log, sqrt
from statistics import median_high

from PIL import Image

from featlight.drawing.sheet import Cell, Drawing, Heading, Sheet, Show, draw_sheet, lay_out

LANDSCAPE = 1.55  # width over height: between 3:2 and 16:10
OVERVIEW_SIDE = 4096
SAMPLE = 256  # tiles that are opened to find the usual size


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
    """Draw one labeled grid of any size, or of a limited width.

    Args:
        cells: cells in reading order.
        title: large text at the top left; cut after two lines.
        subtitle: smaller text below the title; cut after three lines.
        footer: text below the grid and the legend of its marks; cut after three lines.
        columns: number of cells in a row; by default the number that gives a picture of about 3:2.
        tile: side of the square that tiles are scaled to, in pixels; by default the tiles' own size.
        width_limit: maximum width, at least 640 px; tiles are scaled down until the grid fits.

    Returns:
        The RGB picture.

    Raises:
        ValueError: there are no cells, or too many for the width.
    """
    tile = tile or usual_side(cells)
    heading = Heading(title, "", subtitle, footer)
    while tile > 0:
        sheet = lay_out(cells, heading, columns or _columns(len(cells), tile)[0], tile)
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
    """Draw a layer as one sheet or, if that is too large, as pages with full tiles and an overview with small ones.

    Args:
        cells: cells in reading order; each tile is opened once, and a sample before that, to find the usual size.
        title: large text at the top left; pages append "page 1 of 3, features 0-255".
        subtitle: smaller text below the title.
        footer: text below the grid and the legend of its marks.
        side_limit: maximum width and height of a picture, at least 1024 px.
        show: callback with the index of each cell and its tile (None if it has none), for other drawings of the tile.

    Yields:
        Suffix of the file name and picture, drawn on demand: "" for a single sheet; otherwise "-p01", "-p02", ...
        for the pages, then "" for the overview.

    Raises:
        ValueError: there are no cells, more than an overview can hold, or the limit is too low.
    """
    if side_limit < 1024:
        raise ValueError(f"side_limit is {side_limit} px; allowed: 1024 px or more")
    heading = Heading(title, "", subtitle, footer)
    tile = min(usual_side(cells), side_limit // 4)
    sheet = _best(cells, heading, tile, side_limit)
    if sheet is not None:
        yield "", draw_sheet(sheet, show)
        return
    pages = _paginate(cells, heading, tile, side_limit)
    overview = Drawing(_overview(cells, heading, len(pages), tile, side_limit))

    def show_on_overview(first: int, place: int, tile: Image.Image | None) -> None:
        overview.put(first + place, tile)
        show(first + place, tile)

    size = len(pages[0].cells)
    for number, page in enumerate(pages):
        yield f"-p{number + 1:02d}", draw_sheet(page, partial(show_on_overview, number * size))
    yield "", overview.picture


def usual_side(cells: Sequence[Cell]) -> int:
    """Return the median side of the tiles in pixels; tiny tiles are enlarged by a whole factor."""
    if not cells:
        raise ValueError("an atlas needs at least one cell")
    sides = []
    tiles = [cell.open for cell in cells if cell.open is not None]
    for open_tile in tiles[:: ceil(len(tiles) / SAMPLE) or 1]:
        with open_tile() as image:
            sides.append(max(image.size))
    side = median_high(sides) if sides else 128
    return side * ceil((64 if len(cells) > 12 else 96) / side)


def _columns(cells: int, tile: int) -> list[int]:
    """Return numbers of columns, the best first: near landscape shape, a full last row, a multiple of 4 or 5."""

    def badness(columns: int) -> float:
        rows = ceil(cells / columns)
        width = max(columns * tile, 520) * 1.05
        height = rows * (tile * 1.16 + 8) + max(0.09 * width, 120)
        uneven = 0.12 if columns > 10 and columns % 4 and columns % 5 else 0.0
        return abs(log(width / height / LANDSCAPE)) + 1 - cells / (columns * rows) + uneven

    return sorted(range(1, min(cells, 4 * ceil(sqrt(cells))) + 1), key=badness)


def _fits(sheet: Sheet, side: int) -> bool:
    return max(sheet.width, sheet.height) <= side


def _best(cells: Sequence[Cell], heading: Heading, tile: int, side: int) -> Sheet | None:
    """Return the sheet of the best shape within `side` pixels, or None if none fits."""
    for columns in _columns(len(cells), tile):
        if max(columns, ceil(len(cells) / columns)) * tile <= side:
            sheet = lay_out(cells, heading, columns, tile)
            if _fits(sheet, side):
                return sheet
    return None


def _overview(cells: Sequence[Cell], heading: Heading, pages: int, tile: int, side_limit: int) -> Sheet:
    """Lay out all cells on one sheet within `OVERVIEW_SIDE` pixels or, if tiles were too small there, the limit."""
    heading = replace(heading, note=f"all {len(cells)} {_noun(cells)}s, full size on {pages} pages")
    for side, smallest in ((min(OVERVIEW_SIDE, side_limit), 48), (side_limit, 4)):
        for small in range(min(tile, 160), smallest - 1, -4):
            columns = _columns(len(cells), small)[0]
            if columns * small <= side:
                sheet = lay_out(cells, heading, columns, small)
                if _fits(sheet, side):
                    return sheet
    raise ValueError(f"{len(cells)} cells are too many for an overview of {side_limit} px")


def _paginate(cells: Sequence[Cell], heading: Heading, tile: int, side: int) -> list[Sheet]:
    """Lay out all cells on as few pages as possible, about equally full; only the last page may have a short row."""
    at_most = range(min(len(cells) - 1, (side // tile) ** 2), 0, -1)
    for fewest in dict.fromkeys(ceil(len(cells) / ceil(len(cells) / most)) for most in at_most):
        first = _best(cells[:fewest], _page_words(heading, cells, fewest, 0), tile, side)
        if first is not None:
            size = first.columns * ceil(fewest / first.columns)
            sheets = [
                lay_out(cells[at : at + size], _page_words(heading, cells, size, at), first.columns, tile)
                for at in range(0, len(cells), size)
            ]
            if all(_fits(sheet, side) for sheet in sheets):
                return sheets
    raise AssertionError("a page of one cell fits")


def _page_words(heading: Heading, cells: Sequence[Cell], size: int, at: int) -> Heading:
    page, pages = at // size + 1, ceil(len(cells) / size)
    return replace(heading, note=f"page {page} of {pages}, {_span(cells[at : at + size])}")


def _noun(cells: Sequence[Cell]) -> str:
    return "feature" if all(cell.label.isdigit() for cell in cells) else "tile"


def _span(cells: Sequence[Cell]) -> str:
    first, last = cells[0].label, cells[-1].label
    if _noun(cells) == "tile":
        return first if len(cells) == 1 else f"{first} to {last}"
    return f"feature {first}" if len(cells) == 1 else f"features {first}-{last}"
