"""Sprite sheets of small tiles for the viewer: JPEGs of bounded size, written again only when a tile has changed."""

from collections.abc import Sequence
from contextlib import nullcontext
from hashlib import sha256

from PIL import Image

from featlight.config.image_shape import fitted, image_size
from featlight.drawing.sheet import Cell
from featlight.errors import FeatlightError
from featlight.image_io import decode_jpeg, encode_jpeg
from featlight.store.paths import PICTURE_BYTES
from featlight.store.store import Store

COLUMNS = 16
PER_SHEET = COLUMNS * COLUMNS
# px; multiples of JPEG's 8 px blocks, with full-resolution color, so that tiles do not bleed into their neighbors
LARGE, SMALL = 96, 64
MANY = 2048  # tiles; all sheets of 10,000 tiles take 164 MB in a browser at 64 px
QUALITY = 82


def sprite_side(tiles: int) -> int:
    """Return the side of a small tile in pixels, given the number of tiles in the layer."""
    return LARGE if tiles <= MANY else SMALL


class SpriteSheets:
    """Writer of a layer's sprite sheets, with 16 x 16 tiles each. Places of missing tiles are gray.

    A tile that is not square is centered in its place. Each sheet is written when its last tile has been drawn; a sheet
    on disk that already shows these tiles is kept.

    Args:
        digests: checksums of the layer's tiles in the viewer's order; None for missing tiles.
        stem: path of the sheets in the run directory, without `00.jpg` and so on.
        store: store of the run.
    """

    def __init__(self, digests: Sequence[str | None], stem: str, store: Store) -> None:
        self._digests, self._stem, self._store = list(digests), stem, store
        self._side = sprite_side(len(self._digests))
        self._sheet: Image.Image | None = None  # current sheet; None if the one on disk is kept
        self._digest = ""  # of the tiles on the current sheet
        self.names: list[str] = []  # paths of the finished sheets in the run directory

    def draw(self, cells: Sequence[Cell]) -> list[str]:
        """Draw all tiles, opening none of a kept sheet; return the sheets' paths in the run directory."""
        for place, cell in enumerate(cells):
            self._turn_to(place)
            with nullcontext() if self._sheet is None else cell.opened() as tile:
                self._put(place, tile)
        return self.names

    def put(self, place: int, tile: Image.Image | None) -> None:
        """Draw the tile of a place, or nothing if it is None. Call this for all places in order."""
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
    """Reader of a layer's small tiles from its sprite sheets. Memory holds one sheet at a time.

    Args:
        store: store of the run.
        stem: path of the sheets in the run directory, without `00.jpg` and so on.
        count: number of tiles in the layer.
    """

    def __init__(self, store: Store, stem: str, count: int) -> None:
        self._store, self._stem, self._count = store, stem, count
        self._number, self._sheet = -1, Image.new("RGB", (0, 0))

    def __getitem__(self, place: int) -> Image.Image:
        """Return the tile at a place in the viewer's order.

        Raises:
            FeatlightError: the sheet is missing or damaged.
        """
        number, i = divmod(place, PER_SHEET)
        if number != self._number:
            name = _sheet(self._stem, number)
            sheet = _on_disk(self._store, name, sheet_size(self._count, number))
            if sheet is None:
                raise FeatlightError(f"{self._store.root / name}: damaged; --render-only draws it again")
            self._number, self._sheet = number, sheet
        side = sprite_side(self._count)
        left, top = i % COLUMNS * side, i // COLUMNS * side
        return self._sheet.crop((left, top, left + side, top + side))


def sheet_size(count: int, number: int) -> tuple[int, int]:
    """Return width and height of a sheet in pixels, given the layer's number of tiles and the sheet's number."""
    side = sprite_side(count)
    return COLUMNS * side, -(-min(PER_SHEET, count - number * PER_SHEET) // COLUMNS) * side


def _sheet(stem: str, number: int) -> str:
    return f"{stem}{number:02d}.jpg"


def _on_disk(store: Store, name: str, size: tuple[int, int]) -> Image.Image | None:
    """Read a sheet of the given size; None if it is missing or damaged."""
    content = store.folder.read_if_there(store.root / name, PICTURE_BYTES)
    sheet = None if content is None else decode_jpeg(content, size[0] * size[1])
    return sheet if sheet is not None and sheet.size == size else None
