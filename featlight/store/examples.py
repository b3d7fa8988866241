"""A run's examples, the images that excite each of its tiles most, as they are read from its directory. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import from_json

from featlight.console import printable
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES, RECORDS_BYTES, TEXT_BYTES, is_tile_name

MOST_TOP = 100  # examples of a tile
LONGEST_NAME = 4096

Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(printable)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Example(BaseModel):
    """One image that excites a tile.

    Args:
        file: its path in the images' folder.
        value: the mean activation on it, of the neurons that the tile's objective chooses.
        box: left, top, right and bottom of what the strongest of them sees, in the image's pixels.
        neuron: row and column of that one, on the map of the tile's first term.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    file: Name
    value: float
    box: tuple[Count, Count, Count, Count]
    neuron: tuple[Count, Count]


class TileExamples(BaseModel):
    """A tile's examples, best first."""

    model_config = ConfigDict(frozen=True)

    tile: str
    images: Annotated[tuple[Example, ...], Field(max_length=MOST_TOP)]


class About(BaseModel):
    """What examples were looked for among.

    Args:
        stamp: of the pass that found them.
        folder: the name of the images' folder.
        images: that were looked at, each content once.
        duplicates: further files of the same contents.
        refused: files that could not be looked at.
        refused_files: the first of them by name, and why.
        top: how many were kept of each tile.
    """

    model_config = ConfigDict(frozen=True)

    stamp: str
    folder: Name
    images: Count
    duplicates: Count
    refused: Count
    refused_files: Annotated[Mapping[Name, Name], Field(max_length=10_000)]
    top: Count


_LINE: TypeAdapter[TileExamples] = TypeAdapter(TileExamples)


def read_examples(folder: RunFolder) -> dict[str, tuple[Example, ...]]:
    """By a tile's file, its examples, best first; none where nobody has looked for any. What is no line is left out.

    Raises:
        StorageError: they cannot be read.
    """
    content = folder.read_if_there(folder.root / EXAMPLES, RECORDS_BYTES) or b""
    found = {}
    for line in content.splitlines():
        values = _parsed(line)
        if values is not None:
            found[values.tile] = values.images
    return found


def _parsed(line: bytes) -> TileExamples | None:
    try:
        values = _LINE.validate_python(from_json(line))
    except ValueError:
        return None
    return values if is_tile_name(values.tile) else None


def read_about(folder: RunFolder) -> About | None:
    """What the examples were looked for among; None where nobody has looked for any.

    Raises:
        StorageError: it cannot be read.
    """
    content = folder.read_if_there(folder.root / ABOUT_EXAMPLES, TEXT_BYTES)
    try:
        values: Any = from_json(content or b"")
        return About.model_validate(values)
    except ValueError:
        return None


def found_files(folder: RunFolder) -> list[Path]:
    """What each worker that has looked for examples has found, a file each."""
    found = folder.root / "examples" / "found"
    return [found / name for name in folder.names(found) if name.endswith(".safetensors")]
