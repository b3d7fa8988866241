"""How much is read of a run's files that its tiles fill: what is larger is no run's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from featlight.config.inputs.sizes import both_sides
from featlight.errors import StorageError
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.guard.atomic import reading_errors
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import PLAN

FREE = 64 << 20  # bytes, whatever the plan: a tile may fail ten thousand times
PER_PLAN_BYTE = 512  # a tile takes 70 bytes of the plan at least, some 200 as it is written: it may be made 20 times
LINE, UNREADABLE, FILE = 2 << 10, 16 << 10, 4 << 10  # what reading one costs besides its bytes
LINE_BYTES = 1 << 16  # of a record, which has some 2 kB; what is longer is none
T = TypeVar("T")
STUFFED, BLOCK = 512, 1 << 20  # bytes of JSON for each of its values, and beside them; what has more is mostly blanks


def most_bytes(folder: RunFolder) -> int:
    """That files may have which hold something of each tile."""
    plan = folder.root / PLAN
    return FREE + PER_PLAN_BYTE * folder.sizes([plan]).get(plan, 0)


def tile_bytes(planned: PlannedTile, plan: Plan) -> int:
    """That a picture or an array of one tile may have: four for each pixel and channel, or term, and its text."""
    sides = [both_sides(octave.size) for octave in plan.settings[planned.variant].recipe.octaves]
    deep = max(4, plan.network.in_channels, len(planned.tile.terms))
    return (1 << 20) + 4 * deep * max(height * width for height, width in sides)


class Allowance:
    """What may still be read.

    Args:
        folder: the run directory.
        path: what is read, for the message.
    """

    def __init__(self, folder: RunFolder, path: Path) -> None:
        self._left = most_bytes(folder)
        self._path = path

    def take(self, cost: int) -> None:
        """Raise StorageError where that is more than is left."""
        self._left -= cost
        if self._left < 0:
            raise StorageError(f"{self._path}: more than a run of this plan writes; take away what is not the run's")


def line_cost(line: bytes, value: object) -> int:
    """What reading a line costs, given what it says; None where that is nothing."""
    return len(line) + (UNREADABLE if value is None and not line.isspace() else LINE)


def read_lines(
    file: IO[bytes], parse: Callable[[bytes], T | None], allowance: Allowance, most: int = LINE_BYTES
) -> Iterator[tuple[bytes, T | None]]:
    """The lines from here on with what each says; what is far longer than one may be comes in pieces.

    Args:
        file: stands where its lines begin.
        parse: gives what a line says; None where that is nothing.
        allowance: for all of them.
        most: bytes of a line.
    """
    for line in iter(lambda: file.readline(most), b""):
        value = parse(line) if len(line) < most else None
        allowance.take(line_cost(line, value))
        yield line, value


def read_json(folder: RunFolder, path: Path, most: int, values: int) -> bytes | None:
    """The text of a JSON file, of which no more than a block is held before its size is borne out; None without a file.

    Args:
        folder: the run directory.
        path: of the file.
        most: bytes that it may have.
        values: that it may hold.

    Raises:
        ValueError: it is stuffed, or holds too many values.
        StorageError: it cannot be read.
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
