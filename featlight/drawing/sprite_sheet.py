"""Sheets of small tiles that the viewer draws from: JPEGs of a bounded size, kept where no tile has changed."""

from collections.abc import Sequence
from contextlib import nullcontext
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


class SpriteSheets:
    """The sheets of a layer, 256 tiles on each, 16 in a row; places of tiles that are not there stay gray.

    A tile that is no square stands in the middle of its place, all of it to be seen. Sheets are written as tiles come;
    one that shows these very tiles already stays as it is.

    Args:
        digests: checksums of the layer's tiles, in the order of the viewer; None where there is none.
        stem: path of the sheets from the run directory, to which `00.jpg` and so on are added.
        store: of the run.
    """

    def __init__(self, digests: Sequence[str | None], stem: str, store: Store) -> None:
        self._digests, self._stem, self._store = list(digests), stem, store
        self._side = sprite_side(len(self._digests))
        self._sheet: Image.Image | None = None  # in hand; None where the one that is there stays
        self._digest = ""  # of the tiles on it
        self.names: list[str] = []  # paths of the sheets from the run directory, as they are done

    def draw(self, cells: Sequence[Cell]) -> list[str]:
        """Draw a layer's tiles, opening none whose sheet stays; the paths of the sheets from the run directory."""
        for place, cell in enumerate(cells):
            self._turn_to(place)
            with nullcontext() if self._sheet is None else cell.opened() as tile:
                self._put(place, tile)
        return self.names

    def put(self, place: int, tile: Image.Image | None) -> None:
        """Draw a tile, or none where there is none, at its place; all places come in order."""
        self._turn_to(place)
        self._put(place, tile)

    def _turn_to(self, place: int) -> None:
        number, within = divmod(place, PER_SHEET)
        if within:
            return
        size = sheet_size(len(self._digests), number)
        digests = self._digests[place : place + PER_SHEET]
        self._digest = sha256(repr((self._side, QUALITY, digests)).encode()).hexdigest()
        name = _sheet(self._stem, number)
        before = _on_disk(self._store, name, size)
        is_same = before is not None and before.info["comment"] == self._digest.encode()
        stays = is_same and self._store.drawn.keeps(name)
        self._sheet = None if stays else Image.new("RGB", size, (128, 128, 128))

    def _put(self, place: int, tile: Image.Image | None) -> None:
        number, within = divmod(place, PER_SHEET)
        if self._sheet is not None and tile is not None:
            height, width = fitted(image_size(tile.height, tile.width), self._side)
            left, top = (self._side - width) // 2, (self._side - height) // 2
            row, column = divmod(within, COLUMNS)
            small = tile.resize((width, height), Image.Resampling.LANCZOS)
            self._sheet.paste(small, (column * self._side + left, row * self._side + top))
        if within + 1 == PER_SHEET or place + 1 == len(self._digests):
            self._close(_sheet(self._stem, number))

    def _close(self, name: str) -> None:
        if self._sheet is None:
            self._store.note_output(name)
        else:
            jpeg = encode_jpeg(self._sheet, QUALITY, comment=self._digest, full_color=True)
            self._store.write_output(name, jpeg)
        self.names.append(name)


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


def _on_disk(store: Store, name: str, size: tuple[int, int]) -> Image.Image | None:
    """A sheet of that size; None where there is none, or what cannot be shown."""
    content = store.folder.read_if_there(store.root / name, PICTURE_BYTES)
    sheet = None if content is None else decode_jpeg(content, size[0] * size[1])
    return sheet if sheet is not None and sheet.size == size else None
