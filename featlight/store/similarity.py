"""The similarity table of a layer's tiles, read from the run directory. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from featlight.store.guard.bounds import most_bytes
from featlight.store.guard.run_folder import RunFolder

Text = Annotated[str, Field(max_length=4096)]


class SimilarityTable(BaseModel):
    """The tiles of a layer in a plane, similar tiles near each other, and in clusters.

    Args:
        of: digest of the tiles.
        words: description of the method.
        tiles: files of the tiles that have a vector.
        x: horizontal position of each tile.
        y: vertical position of each tile.
        clusters: cluster of each tile, from 1, the largest first.
        columns: columns of the grid, on which each tile has its own cell.
        rows: rows of the grid.
        places: cell of each tile in reading order, from 0.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    of: Text
    words: Text
    tiles: Sequence[Text]
    x: Sequence[float]
    y: Sequence[float]
    clusters: Sequence[Annotated[int, Field(ge=1)]]
    columns: Annotated[int, Field(ge=1, lt=2**20)]
    rows: Annotated[int, Field(ge=1, lt=2**20)]
    places: Sequence[Annotated[int, Field(ge=0, lt=2**31)]]

    @property
    def is_sound(self) -> bool:
        """Whether the fields agree with each other."""
        lengths = {len(values) for values in (self.tiles, self.x, self.y, self.clusters, self.places)}
        if lengths == {0} or len(lengths) > 1:
            return False
        places = set(self.places)
        in_range = max(places) < self.columns * self.rows and max(self.clusters) <= len(self.tiles)
        return in_range and len(places) == len(self.places) and len({*self.tiles}) == len(self.tiles)


def read_similarity(folder: RunFolder, path: Path) -> SimilarityTable | None:
    """Return the similarity table of a layer; None if the file is missing or invalid.

    Raises:
        StorageError: the file cannot be read.
    """
    content = folder.read_if_there(path, most_bytes(folder))
    try:
        table = SimilarityTable.model_validate_json(content or b"", strict=True)
    except ValueError:
        return None
    return table if table.is_sound else None
