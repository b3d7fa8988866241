"""Sheets of small tiles that the viewer draws from: JPEGs of a bounded size, kept where no tile has changed."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from PIL import Image

from featlight.drawing.sheet import Cell
from featlight.image_io import encode_jpeg

COLUMNS = 16
PER_SHEET = COLUMNS * COLUMNS
LARGE, SMALL = (
    96,
    64,
)  # px; whole JPEG blocks of 8 px and full colour, so that no tile shines through into its neighbour
MANY = 2048  # tiles; a browser that holds all sheets of 10,000 tiles needs 164 MB at 64 px
QUALITY = 82


def sprite_side(tiles: int) -> int:
    """The side of a small tile, in pixels, in a layer of so many."""
    return LARGE if tiles <= MANY else SMALL


def sprite_sheets(
    cells: Sequence[Cell], digests: Sequence[str | None], stem: str, root: Path
) -> Iterator[tuple[str, bytes | None]]:
    """The sheets of a layer, 256 tiles on each, 16 in a row; places of tiles that are not there stay gray.

    Args:
        cells: in the order of the viewer.
        digests: checksums of their tiles; None where there is none.
        stem: path of the sheets from the run directory, to which `00.jpg` and so on are added.
        root: the run directory.

    Yields:
        A path, and the JPEG to write there; None where the one that is there shows these very tiles.
    """
    side = sprite_side(len(cells))
    for number, start in enumerate(range(0, len(cells), PER_SHEET)):
        name = _sheet(stem, number)
        digest = sha256(repr((side, QUALITY, digests[start : start + PER_SHEET])).encode()).hexdigest()
        if _comment(root / name) == digest:
            yield name, None
        else:
            sheet = _draw(cells[start : start + PER_SHEET], side)
            yield name, encode_jpeg(sheet, QUALITY, comment=digest, full_color=True)


def small_tiles(root: Path, stem: str, count: int) -> Iterator[Image.Image]:
    """The small tiles of a layer of so many, as its sheets on disk show them, in order."""
    side = sprite_side(count)
    for number, start in enumerate(range(0, count, PER_SHEET)):
        with Image.open(root / _sheet(stem, number), formats=("JPEG",)) as sheet:
            for i in range(min(PER_SHEET, count - start)):
                left, top = i % COLUMNS * side, i // COLUMNS * side
                yield sheet.crop((left, top, left + side, top + side))


def _sheet(stem: str, number: int) -> str:
    return f"{stem}{number:02d}.jpg"


def _draw(cells: Sequence[Cell], side: int) -> Image.Image:
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * side, rows * side), (128, 128, 128))
    for i, cell in enumerate(cells):
        if cell.open is not None:
            with cell.open() as image:
                small = image.resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (i % COLUMNS * side, i // COLUMNS * side))
    return sheet


def _comment(path: Path) -> str | None:
    """The comment in a sheet; None where there is no such sheet."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            comment = image.info.get("comment", b"")
    except (OSError, SyntaxError):
        return None
    return comment.decode("ascii", "replace") if isinstance(comment, bytes) else None
