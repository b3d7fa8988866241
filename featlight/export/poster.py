"""A poster: all tiles of a layer on one page, drawn like the atlas."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, sqrt

from PIL import Image

from featlight.drawing.sheet import LABELLED, Cell, Heading, Sheet, caption_of, place_foot, place_head
from featlight.image_io import encode_png

PAPERS = {"A4": (210, 297), "A3": (297, 420), "A2": (420, 594), "A1": (594, 841), "A0": (841, 1189)}  # mm
DPI = range(50, 601)
MM, POINTS = 25.4, 72  # per inch
SMALLEST = 4  # px, side of a tile
READABLE = 6  # points, smallest label, unless that is more than a quarter of the tile
SPREAD = 0.25  # of a tile's side: largest extra gap to make the grid fill the page
JPEG_QUALITY = 95  # inside a PDF


def lay_out_poster(cells: Sequence[Cell], heading: Heading, paper: str, dpi: int) -> Sheet:
    """Lay out a layer on a page in the orientation with the larger tiles, without opening a tile.

    Args:
        cells: cells in reading order.
        heading: text of head and foot.
        paper: paper size, a key of `PAPERS`.
        dpi: pixels per inch.

    Raises:
        ValueError: there are no cells, or too many for the page.
    """
    if not cells:
        raise ValueError("a poster needs at least one cell")
    short, long = (round(side / MM * dpi) for side in PAPERS[paper])
    sheets = [_fill(cells, heading, width, height, dpi) for width, height in ((short, long), (long, short))]
    fitting = [sheet for sheet in sheets if sheet is not None]
    if not fitting:
        raise ValueError(f"{len(cells)} tiles do not fit {paper} at {dpi} dpi")
    return max(fitting, key=lambda sheet: sheet.tile)


def _fill(cells: Sequence[Cell], heading: Heading, width: int, height: int, dpi: int) -> Sheet | None:
    """Lay out a page of a size with the largest tiles, then the fullest last row; None if the tiles do not fit."""
    short = min(width, height)
    margin, small = round(short / 24), round(short / 90)
    inner = width - 2 * margin
    head, top = place_head(heading, margin, inner, small, larger=2.6)
    _, foot_height = place_foot(cells, heading.footer, margin, 0, inner, small)
    room = height - margin - foot_height - top
    columns, tile = _largest(cells, inner, room, small, dpi)
    if tile < SMALLEST:
        return None
    rows = ceil(len(cells) / columns)
    label = _label(tile, small, dpi)
    under = caption_of(cells, tile, label)
    across = tile + _gap(tile)
    across += _spread(inner - columns * across + _gap(tile), columns, tile)
    down = tile + under.height + under.below
    down += _spread(room - rows * down + under.below, rows, tile)
    left = margin + (inner - (columns - 1) * across - tile) // 2
    grid = (rows - 1) * down + tile + under.height
    above = (room - grid) // 2  # rest that spreading does not fill
    foot, _ = place_foot(cells, heading.footer, margin, top + grid + 2 * above, inner, small)
    aside = left - margin if left - margin < columns else 0  # rounding error: text starts where the tiles do
    return Sheet(
        cells=cells,
        columns=columns,
        tile=tile,
        left=left,
        top=top + above,
        across=across,
        down=down,
        label=label,
        label_lines=under.lines,
        text_lines=[replace(run, x=run.x + aside) for run in (*head, *foot)],
        width=width,
        height=height,
    )


def _largest(cells: Sequence[Cell], inner: int, room: int, small: int, dpi: int) -> tuple[int, int]:
    """Return the number of columns and the side of the largest tiles that fit; (0, 0) if none fits."""
    best = (0, 0.0, 0)  # side, share of filled cells, columns
    for columns in range(1, min(len(cells), 4 * ceil(sqrt(len(cells)))) + 1):
        rows = ceil(len(cells) / columns)
        tile = min(inner // columns, room // rows)
        while tile >= max(best[0], SMALLEST):
            under = caption_of(cells, tile, _label(tile, small, dpi))
            wide = columns * (tile + _gap(tile)) - _gap(tile)
            if wide <= inner and rows * (tile + under.height + under.below) - under.below <= room:
                best = max(best, (tile, len(cells) / (columns * rows), columns))
                break
            tile -= 1
    return best[2], best[0]


def _label(tile: int, small: int, dpi: int) -> int:
    """Return the font size of labels under tiles of a side; 0 if labels do not fit."""
    if tile < LABELLED:
        return 0
    return min(max(min(round(tile / 9), round(1.2 * small)), round(READABLE / POINTS * dpi)), tile // 4)


def _gap(tile: int) -> int:
    """Return the smallest gap between tiles of a side that is visible on paper."""
    return max(1, round(tile / 24))


def _spread(spare: int, count: int, tile: int) -> int:
    """Return the extra gap between tiles that share some spare pixels."""
    return min(spare // (count - 1), round(SPREAD * tile)) if count > 1 else 0


def encode_poster(picture: Image.Image, suffix: str, text: Mapping[str, str], dpi: int, created: str) -> bytes:
    """Encode a page with its physical size.

    Args:
        picture: drawn page.
        suffix: ".pdf" or ".png".
        text: metadata with the keys `Title` and `Software`.
        dpi: pixels per inch.
        created: ISO date of the run, the only date in the file: the same run gives the same bytes.
    """
    if suffix == ".png":
        return encode_png(picture, text, dpi)
    date = time.strptime(created, "%Y-%m-%d")
    buffer = io.BytesIO()
    picture.save(
        buffer,
        "PDF",
        resolution=float(dpi),
        quality=JPEG_QUALITY,
        subsampling=0,
        title=text["Title"],
        creator=text["Software"],
        creationDate=date,
        modDate=date,
    )
    return buffer.getvalue()
