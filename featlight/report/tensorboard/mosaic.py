"""Small pictures of a whole layer: all of its tiles side by side, and a few on their way through the octaves."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from featlight.config.inputs.sizes import ImageSize, size_words
from featlight.drawing.rows import Row, draw_rows
from featlight.drawing.sheet import Cell
from featlight.plan.plan import OCTAVE_PICTURE
from featlight.store.contents import read_picture
from featlight.store.guard.run_folder import RunFolder

LARGEST_TILE, SIDE = 128, 2048  # px, of a tile and of a mosaic at most


class Mosaic:
    """The tiles of one atlas side by side, as they come.

    Args:
        files: of the tiles, in the order of the atlas.
        folder: the run directory.
    """

    def __init__(self, files: Sequence[str], folder: RunFolder) -> None:
        self._files, self._folder = files, folder
        self._columns = int(np.ceil(np.sqrt(len(files) * 1.5)))
        self._tile = max(8, min(LARGEST_TILE, SIDE // self._columns))
        rows = -(-len(files) // self._columns)
        self._sheet = Image.new("RGB", (self._columns * self._tile, rows * self._tile), "white")
        self._drawn: set[str] = set()

    def draw(self, there: Mapping[str, object]) -> Image.Image:
        """The mosaic with the tiles that are there by now; each is opened once."""
        for i, file in enumerate(self._files):
            if file in there and file not in self._drawn:
                picture = read_picture(self._folder, self._folder.root / file)
                small = picture.resize((self._tile, self._tile), Image.Resampling.LANCZOS)
                self._sheet.paste(small, (i % self._columns * self._tile, i // self._columns * self._tile))
                self._drawn.add(file)
        return self._sheet


def draw_evolution(
    folder: RunFolder, tiles: Mapping[str, Sequence[Path]], sizes: Sequence[ImageSize], title: str
) -> Image.Image:
    """A row for each tile, from the end of its first octave to that of its last.

    Args:
        folder: the run directory.
        tiles: by label, the pictures of the octaves' ends.
        sizes: of the octaves, in pixels.
        title: of the picture.
    """
    rows = [
        Row(label, [Cell("", partial(read_picture, folder, path)) for path in paths]) for label, paths in tiles.items()
    ]
    return draw_rows(rows, title=title, columns=[f"{size_words(size)} px" for size in sizes], tile=OCTAVE_PICTURE)
