"""Which tiles of a run's layer are alike, as it is read from the run's directory. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from featlight.store.guard.bounds import most_bytes
from featlight.store.guard.run_folder import RunFolder

SmallCount = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(max_length=4096)]


class SimilarityTable(BaseModel):
    """The tiles of a layer on a plane, near ones alike, and in clusters.

    Args:
        of: a digest of the tiles, as they were.
        words: how the plane was made.
        tiles: their files, those alone that have a vector.
        x: where each stands on the plane, across.
        y: down.
        clusters: of each, the number of its own, from 1, the largest first.
        columns: of the grid, on which no two tiles share a place.
        rows: of it.
        places: of each tile, its place on the grid in reading order, from 0.
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
    places: Sequence[SmallCount]

    @property
    def is_sound(self) -> bool:
        """Whether its parts fit each other."""
        lengths = {len(each) for each in (self.tiles, self.x, self.y, self.clusters, self.places)}
        if lengths == {0} or len(lengths) > 1:
            return False
        places = set(self.places)
        fit = max(places) < self.columns * self.rows and max(self.clusters) <= len(self.tiles)
        return fit and len(places) == len(self.places) and len({*self.tiles}) == len(self.tiles)


def read_similarity(folder: RunFolder, path: Path) -> SimilarityTable | None:
    """The likeness of a layer's tiles; None where nobody has looked for it, or the file holds something else.

    Raises:
        StorageError: it cannot be read.
    """
    content = folder.read_if_there(path, most_bytes(folder))
    try:
        found = SimilarityTable.model_validate_json(content or b"", strict=True)
    except ValueError:
        return None
    return found if found.is_sound else None
