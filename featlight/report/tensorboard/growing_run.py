"""A growing run for TensorBoard: counts of its tiles, a mosaic of each layer, and octaves of some tiles."""

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from featlight.config.image_shape import ImageSize, size_words
from featlight.drawing.rows import Row, draw_rows
from featlight.drawing.sheet import Cell
from featlight.plan.plan import OCTAVE_PICTURE
from featlight.report.sections import Section
from featlight.store.contents import read_picture
from featlight.store.guard.run_folder import RunFolder
from featlight.store.records import TileRecord


class Tally:
    """Counts of a run's tiles, updated record by record, so that no chunk costs a pass over all tiles.

    Args:
        sections: sections of the run.
        made: records of the tiles that exist at the start, by file.
        missing: files of the tiles to make.
    """

    def __init__(self, sections: Sequence[Section], made: Mapping[str, TileRecord], missing: Collection[str]) -> None:
        self.made = dict(made)
        self.failed: set[str] = set()
        self.awaited = set(missing)
        self.dead = sum(record["status"] == "dead" for record in made.values())
        self._section_of = {planned.file: section.name for section in sections for planned in section.tiles}
        self.made_of = Counter(self._section_of[file] for file in made)  # by section
        self.failed_of: Counter[str] = Counter()

    def take(self, record: TileRecord) -> None:
        """Count a tile's record; a made tile overrides a failed one."""
        file, before = record["file"], self.made.get(record["file"])
        section = self._section_of[file]
        self.awaited.discard(file)
        if record["status"] == "failed":
            if before is None and file not in self.failed:
                self.failed.add(file)
                self.failed_of[section] += 1
            return
        if file in self.failed:
            self.failed.discard(file)
            self.failed_of[section] -= 1
        self.made[file] = record
        self.made_of[section] += before is None
        self.dead += (record["status"] == "dead") - (before is not None and before["status"] == "dead")


LARGEST_TILE, SIDE = 128, 2048  # px, maximum side of a tile and of a mosaic


class Mosaic:
    """Mosaic of an atlas that grows with the run.

    Args:
        files: files of the tiles, in the order of the atlas.
        folder: run directory.
    """

    def __init__(self, files: Sequence[str], folder: RunFolder) -> None:
        self._files, self._folder = files, folder
        self._columns = int(np.ceil(np.sqrt(len(files) * 1.5)))
        self._tile = max(8, min(LARGEST_TILE, SIDE // self._columns))
        rows = -(-len(files) // self._columns)
        self._sheet = Image.new("RGB", (self._columns * self._tile, rows * self._tile), "white")
        self._drawn: set[str] = set()

    def draw(self, made: Container[str]) -> Image.Image:
        """Add the tiles that have been made since the last call, and return the mosaic."""
        for i, file in enumerate(self._files):
            if file in made and file not in self._drawn:
                picture = read_picture(self._folder, self._folder.root / file)
                small = picture.resize((self._tile, self._tile), Image.Resampling.LANCZOS)
                self._sheet.paste(small, (i % self._columns * self._tile, i // self._columns * self._tile))
                self._drawn.add(file)
        return self._sheet


def draw_evolution(
    folder: RunFolder, tiles: Mapping[str, Sequence[Path]], sizes: Sequence[ImageSize], title: str
) -> Image.Image:
    """Draw a row for each tile, with its image at the end of each octave.

    Args:
        folder: run directory.
        tiles: paths of the octaves' pictures, by the tile's label.
        sizes: sizes of the octaves, in pixels.
        title: title of the picture.
    """
    rows = [
        Row(label, [Cell("", partial(read_picture, folder, path)) for path in paths]) for label, paths in tiles.items()
    ]
    return draw_rows(rows, title=title, columns=[f"{size_words(size)} px" for size in sizes], tile=OCTAVE_PICTURE)
