"""Limits on how much is read of a run's files, in proportion to its plan."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from featlight.config.image_shape import both_sides
from featlight.errors import StorageError
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.guard.atomic import reading_errors
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import PLAN

FREE = 64 << 20  # bytes for any plan: a tile may fail ten thousand times
PER_PLAN_BYTE = 512  # a tile has at least 70 bytes in the plan, usually 200, and may be made 20 times
LINE, UNREADABLE, FILE = 2 << 10, 16 << 10, 4 << 10  # cost of reading one, besides its bytes
LINE_BYTES = 1 << 16  # longest line of records, which have about 2 kB
T = TypeVar("T")
STUFFED, BLOCK = 512, 1 << 20  # most bytes of JSON for each value, and besides; more is mostly whitespace


def most_bytes(folder: RunFolder) -> int:
    """Return the largest size of a file that has an entry for each tile."""
    plan = folder.root / PLAN
    return FREE + PER_PLAN_BYTE * folder.sizes([plan]).get(plan, 0)


def tile_bytes(planned: PlannedTile, plan: Plan) -> int:
    """Return the largest size of a tile's picture or array: four bytes for each pixel and channel or term, and text."""
    sides = [both_sides(octave.size) for octave in plan.settings[planned.variant].recipe.octaves]
    depth = max(4, plan.network.in_channels, len(planned.tile.terms))
    return (1 << 20) + 4 * depth * max(height * width for height, width in sides)


class Allowance:
    """The number of bytes that may still be read.

    Args:
        folder: run directory.
        path: file or folder to read, for the message.
    """

    def __init__(self, folder: RunFolder, path: Path) -> None:
        self._left = most_bytes(folder)
        self._path = path

    def take(self, cost: int) -> None:
        """Subtract a cost; raise StorageError if it exceeds the rest."""
        self._left -= cost
        if self._left < 0:
            raise StorageError(f"{self._path}: more than a run of this plan writes; move away other files")


def line_cost(line: bytes, value: object) -> int:
    """Return the cost of reading a line, given its parsed value; None if it cannot be parsed."""
    return len(line) + (UNREADABLE if value is None and not line.isspace() else LINE)


def read_lines(
    file: IO[bytes], parse: Callable[[bytes], T | None], allowance: Allowance, most: int = LINE_BYTES
) -> Iterator[tuple[bytes, T | None]]:
    """Yield each remaining line of a file with its parsed value; a line that is too long comes in pieces.

    Args:
        file: open file, at the beginning of a line.
        parse: returns the value of a line; None if it cannot be parsed.
        allowance: allowance for all lines.
        most: largest size of a line in bytes.
    """
    for line in iter(lambda: file.readline(most), b""):
        value = parse(line) if len(line) < most else None
        allowance.take(line_cost(line, value))
        yield line, value


def read_json(folder: RunFolder, path: Path, most: int, values: int) -> bytes | None:
    """Return the text of a JSON file; None if it is missing. Its values are counted block by block before it is read.

    Args:
        folder: run directory.
        path: path of the file.
        most: largest size in bytes.
        values: largest number of values.

    Raises:
        ValueError: the file is mostly whitespace, or has too many values.
        StorageError: the file cannot be read.
    """
    try:
        with folder.open(path, most) as file, reading_errors(path):
            commas = sum(block.count(b",") for block in iter(lambda: file.read(BLOCK), b""))
            size = file.tell()
            if commas > values:
                raise ValueError(f"{commas:,} values; at most {values:,} are read")
            if size > BLOCK + STUFFED * commas:
                raise ValueError(f"{size:,} bytes for {commas:,} values")
            file.seek(0)
            return file.read(most)
    except FileNotFoundError:
        return None
