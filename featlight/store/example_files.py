"""The dataset examples of a run, read from its directory. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from featlight.config.schema import MOST_TOP
from featlight.console import printable
from featlight.store.guard.bounds import Allowance, read_lines
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES, RECORDS_BYTES, Number, TileName

MOST_LAYERS = 1000  # with a path similarity
MOST_BINS = 1000  # of a histogram
LONGEST_NAME = 4096
LINE_BYTES = 4 << 20  # of a tile's examples: a hundred of the longest names
ABOUT_BYTES = 32 << 20

Name = Annotated[str, Field(max_length=LONGEST_NAME)]
PrintableName = Annotated[Name, AfterValidator(printable)]


class Example(BaseModel):
    """One of the images that excite a tile most.

    Args:
        file: path of the image in the dataset's folder.
        value: mean activation of the objective's neurons on the image.
        box: left, top, right and bottom of the strongest neuron's receptive field, in pixels of the image.
        neuron: row and column of the strongest neuron on the map of the tile's first term.
        class_name: class of the image, from its folder; None if the folder names no class.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    file: Name
    value: float
    box: tuple[Number, Number, Number, Number]
    neuron: tuple[Number, Number]
    class_name: Annotated[Name | None, Field(alias="class")] = None


class TileExamples(BaseModel):
    """The examples and the activation histogram of a tile.

    Args:
        tile: file of the tile.
        images: images that excite the tile most, best first.
        histogram: number of the first bin that is not empty, and the image count of each bin from there; four bins
            cover a factor of two, see docs/examples.md.
        paths: path similarity by layer, in the order of the layers; empty if it was not measured.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    tile: TileName
    images: Annotated[tuple[Example, ...], Field(max_length=MOST_TOP)]
    histogram: tuple[Number, Annotated[tuple[Number, ...], Field(max_length=MOST_BINS)]] = (0, ())
    paths: Annotated[Mapping[Name, float], Field(max_length=MOST_LAYERS)] = {}

    @property
    def path(self) -> float | None:
        """Median path similarity of the layers behind the first, which has a small scale; None without values."""
        values = list(self.paths.values())
        return median(values[1:] or values) if values else None


class About(BaseModel):
    """The dataset of a search for examples.

    Args:
        stamp: checksum of the images, the settings and the tiles.
        folder: name of the dataset's folder.
        images: number of images with distinct contents.
        duplicates: number of further files with the same contents.
        refused: number of unreadable files.
        refused_files: reasons of the first unreadable files, by name.
        top: number of examples kept for each tile.
    """

    model_config = ConfigDict(frozen=True)

    stamp: str
    folder: PrintableName
    images: Number
    duplicates: Number
    refused: Number
    refused_files: Annotated[Mapping[PrintableName, PrintableName], Field(max_length=10_000)]
    top: Number


def read_examples(folder: RunFolder) -> dict[str, tuple[Example, ...]]:
    """Return the examples of each tile by its file, best first; an empty dict if no search has run.

    Raises:
        StorageError: the examples cannot be read.
    """
    return {file: examples.images for file, examples in read_answers(folder).items()}


def read_answers(folder: RunFolder) -> dict[str, TileExamples]:
    """Return the examples and histogram of each tile by its file; unreadable lines are skipped."""
    return {examples.tile: examples for _, examples in example_lines(folder) if examples is not None}


def example_lines(folder: RunFolder) -> Iterator[tuple[bytes, TileExamples | None]]:
    """Yield each line, and its examples; None if it cannot be parsed or repeats a tile.

    Raises:
        StorageError: the file cannot be read, or is too large.
    """
    path, seen = folder.root / EXAMPLES, set()
    with suppress(FileNotFoundError), folder.open(path, RECORDS_BYTES) as file:
        for line, examples in read_lines(file, _parsed, Allowance(folder, path), LINE_BYTES):
            is_new = examples is not None and examples.tile not in seen
            seen.add(examples and examples.tile)
            yield line, examples if is_new else None


def beaten(best: Mapping[str, Sequence[Example]], ends: Mapping[str, float | None]) -> tuple[int, int]:
    """Count the tiles that excite their feature more than every image does, and the tiles that can be compared.

    Args:
        best: examples of each tile by its file, best first.
        ends: final activation of each tile by its file; None if it has none.
    """
    pairs = [(end, best[file][0].value) for file, end in ends.items() if end is not None and best.get(file)]
    return sum(end > value for end, value in pairs), len(pairs)


def _parsed(line: bytes) -> TileExamples | None:
    try:
        return TileExamples.model_validate_json(line, strict=True)
    except ValueError:
        return None


def read_about(folder: RunFolder) -> About | None:
    """Return the description of the search for examples; None if there is none.

    Raises:
        StorageError: the file cannot be read.
    """
    content = folder.read_if_there(folder.root / ABOUT_EXAMPLES, ABOUT_BYTES)
    try:
        return About.model_validate_json(content or b"", strict=True)
    except ValueError:
        return None


def found_files(folder: RunFolder) -> list[Path]:
    """Return the files with the intermediate results of the example workers, one of each."""
    results = folder.root / "examples" / "found"
    return [results / name for name in folder.names(results) if name.endswith(".safetensors")]
