"""Sheets of small tiles that the viewer draws from: JPEGs of a bounded size, kept where no tile has changed."""

from collections.abc import Iterator, Sequence
from hashlib import sha256

from PIL import Image

from featlight.config.inputs.sizes import fitted, image_size
from featlight.drawing.sheet import Cell
from featlight.errors import FeatlightError
from featlight.image_io import decode_jpeg, encode_jpeg
from featlight.store.paths import PICTURE_BYTES
from featlight.store.store import Store

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
    cells: Sequence[Cell], digests: Sequence[str | None], stem: str, store: Store
) -> Iterator[tuple[str, bytes | None]]:
    """The sheets of a layer, 256 tiles on each, 16 in a row; places of tiles that are not there stay gray.

    A tile that is no square stands in the middle of its place, all of it to be seen.

    Args:
        cells: in the order of the viewer.
        digests: checksums of their tiles; None where there is none.
        stem: path of the sheets from the run directory, to which `00.jpg` and so on are added.
        store: of the run.

    Yields:
        A path, and the JPEG to write there; None where the one that is there shows these very tiles.
    """
    side = sprite_side(len(cells))
    for number, start in enumerate(range(0, len(cells), PER_SHEET)):
        name = _sheet(stem, number)
        digest = sha256(repr((side, QUALITY, digests[start : start + PER_SHEET])).encode()).hexdigest()
        before = _on_disk(store, name, sheet_size(len(cells), number))
        if before is not None and before.info["comment"] == digest.encode():
            yield name, None
        else:
            sheet = _draw(cells[start : start + PER_SHEET], side)
            yield name, encode_jpeg(sheet, QUALITY, comment=digest, full_color=True)


class SmallTiles:
    """The small tiles of a layer, as its sheets on disk show them; one sheet at a time is held.

    Args:
        store: of the run.
        stem: path of the sheets from the run directory.
        count: of the layer's tiles.
    """

    def __init__(self, store: Store, stem: str, count: int) -> None:
        self._store, self._stem, self._count = store, stem, count
        self._number, self._sheet = -1, Image.new("RGB", (0, 0))

    def __getitem__(self, place: int) -> Image.Image:
        """The one at a place in the order of the viewer.

        Raises:
            FeatlightError: its sheet is missing or damaged.
        """
        number, i = divmod(place, PER_SHEET)
        if number != self._number:
            name = _sheet(self._stem, number)
            sheet = _on_disk(self._store, name, sheet_size(self._count, number))
            if sheet is None:
                raise FeatlightError(f"{self._store.root / name}: damaged; --render-only makes it again")
            self._number, self._sheet = number, sheet
        side = sprite_side(self._count)
        left, top = i % COLUMNS * side, i // COLUMNS * side
        return self._sheet.crop((left, top, left + side, top + side))


def sheet_size(count: int, number: int) -> tuple[int, int]:
    """Width and height of one of the sheets of so many tiles, in pixels."""
    side = sprite_side(count)
    return COLUMNS * side, -(-min(PER_SHEET, count - number * PER_SHEET) // COLUMNS) * side


def _sheet(stem: str, number: int) -> str:
    return f"{stem}{number:02d}.jpg"


def _draw(cells: Sequence[Cell], side: int) -> Image.Image:
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * side, rows * side), (128, 128, 128))
    for i, cell in enumerate(cells):
        if cell.open is not None:
            with cell.open() as image:
                height, width = fitted(image_size(image.height, image.width), side)
                small = image.resize((width, height), Image.Resampling.LANCZOS)
            left, top = (side - width) // 2, (side - height) // 2
            sheet.paste(small, (i % COLUMNS * side + left, i // COLUMNS * side + top))
    return sheet


def _on_disk(store: Store, name: str, size: tuple[int, int]) -> Image.Image | None:
    """A sheet of that size; None where there is none, or what cannot be shown."""
    content = store.folder.read_if_there(store.root / name, PICTURE_BYTES)
    return None if content is None else decode_jpeg(content, size)
