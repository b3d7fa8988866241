"""A run's examples, the images that excite each of its tiles most, as they are read from its directory. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from featlight.config.schema import MOST_TOP
from featlight.console import printable
from featlight.store.guard.bounds import Allowance, read_lines
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES, RECORDS_BYTES, is_tile_name

MOST_BINS = 1000  # of a histogram
LONGEST_NAME = 4096
LINE_BYTES = 4 << 20  # of a tile's examples: a hundred of the longest names
ABOUT_BYTES = 32 << 20

Name = Annotated[str, Field(max_length=LONGEST_NAME)]  # as it was written
PrintableName = Annotated[Name, AfterValidator(printable)]
NumberOf = Annotated[int, Field(ge=0, lt=2**53)]


class Example(BaseModel):
    """One image that excites a tile.

    Args:
        file: its path in the images' folder.
        value: the mean activation on it, of the neurons that the tile's objective chooses.
        box: left, top, right and bottom of what the strongest of them sees, in the image's pixels.
        neuron: row and column of that one, on the map of the tile's first term.
        class_name: what the image shows, by its folder; None where that says nothing.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    file: Name
    value: float
    box: tuple[NumberOf, NumberOf, NumberOf, NumberOf]
    neuron: tuple[NumberOf, NumberOf]
    class_name: Annotated[Name | None, Field(alias="class")] = None


def _tile(name: str) -> str:
    if not is_tile_name(name):
        raise ValueError("no tile's name")
    return name


class TileExamples(BaseModel):
    """What a tile answers to a data set.

    Args:
        tile: its file.
        images: that excite it most, best first.
        histogram: the number of the first bin that is not empty, and how many images fall into each from there; bins
            are a quarter of a doubling wide, see docs/examples.md.
    """

    model_config = ConfigDict(frozen=True)

    tile: Annotated[str, AfterValidator(_tile)]
    images: Annotated[tuple[Example, ...], Field(max_length=MOST_TOP)]
    histogram: tuple[NumberOf, Annotated[tuple[NumberOf, ...], Field(max_length=MOST_BINS)]] = (0, ())


class About(BaseModel):
    """What examples were looked for among.

    Args:
        stamp: checksum of what was looked at, how, and for which tiles.
        folder: the name of the images' folder.
        images: that were looked at, each content once.
        duplicates: further files of the same contents.
        refused: files that could not be looked at.
        refused_files: the first of them by name, and why.
        top: how many were kept of each tile.
    """

    model_config = ConfigDict(frozen=True)

    stamp: str
    folder: PrintableName
    images: NumberOf
    duplicates: NumberOf
    refused: NumberOf
    refused_files: Annotated[Mapping[PrintableName, PrintableName], Field(max_length=10_000)]
    top: NumberOf


def read_examples(folder: RunFolder) -> dict[str, tuple[Example, ...]]:
    """By a tile's file, its examples, best first; none where nobody has looked for any.

    Raises:
        StorageError: they cannot be read.
    """
    return {file: found.images for file, found in read_answers(folder).items()}


def read_answers(folder: RunFolder) -> dict[str, TileExamples]:
    """The same with the histograms. What is no line is left out."""
    return {found.tile: found for _, found in example_lines(folder) if found is not None}


def example_lines(folder: RunFolder) -> Iterator[tuple[bytes, TileExamples | None]]:
    """Each line with its end, and what it says; None where it cannot be read, or an earlier one is of the same tile.

    Raises:
        StorageError: they cannot be read, or there is too much of them.
    """
    path, seen = folder.root / EXAMPLES, set()
    with suppress(FileNotFoundError), folder.open(path, RECORDS_BYTES) as file:
        for line, found in read_lines(file, _parsed, Allowance(folder, path), LINE_BYTES):
            is_new = found is not None and found.tile not in seen
            seen.add(found and found.tile)
            yield line, found if is_new else None


def beaten(best: Mapping[str, Sequence[Example]], ends: Mapping[str, float | None]) -> tuple[int, int]:
    """How many pictures excite their feature more than any image does, and of how many that can be said.

    Args:
        best: by the tile's file, its examples, best first.
        ends: by the tile's file, its activation in its own picture; None where there is none.
    """
    pairs = [(end, best[file][0].value) for file, end in ends.items() if end is not None and best.get(file)]
    return sum(end > value for end, value in pairs), len(pairs)


def _parsed(line: bytes) -> TileExamples | None:
    try:
        return TileExamples.model_validate_json(line, strict=True)
    except ValueError:
        return None


def read_about(folder: RunFolder) -> About | None:
    """What the examples were looked for among; None where nobody has looked for any.

    Raises:
        StorageError: it cannot be read.
    """
    content = folder.read_if_there(folder.root / ABOUT_EXAMPLES, ABOUT_BYTES)
    try:
        return About.model_validate_json(content or b"", strict=True)
    except ValueError:
        return None


def found_files(folder: RunFolder) -> list[Path]:
    """What each worker that has looked for examples has found, a file each."""
    found = folder.root / "examples" / "found"
    return [found / name for name in folder.names(found) if name.endswith(".safetensors")]
