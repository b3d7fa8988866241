"""What a verification reads and reports."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from featlight.errors import StorageError
from featlight.image_io import is_whole_png
from featlight.plan.plan import Plan
from featlight.store.paths import ARRAY_BYTES, PICTURE_BYTES
from featlight.store.records import TileRecord
from featlight.store.store import Store


@dataclass(frozen=True)
class Line:
    """A line of a record file.

    Args:
        path: path of the record file.
        number: line number, from 1.
        start: offset of the line in the file.
        length: bytes of the line without its end.
        file: file of the recorded tile; None if the line is damaged.
    """

    path: Path
    number: int
    start: int
    length: int
    file: str | None


@dataclass(frozen=True)
class Problem:
    """A problem in a run directory, and its repair.

    Args:
        path: path of the file, from the run directory.
        what: description of the problem.
        remove: files to remove.
        blank: record lines to overwrite, because their tile is missing or damaged.
    """

    path: str
    what: str
    remove: tuple[Path, ...] = ()
    blank: tuple[Line, ...] = ()


@dataclass
class VerifyReport:
    """The result of a verification.

    Args:
        tiles: number of planned tiles.
        whole: files of the tiles that agree with their records.
        harmed: number of tiles whose file is missing or differs from its record.
        failed: number of tiles that could not be made; the next run tries them again.
        problems: problems in the order tiles, files of tiles, records, leftovers.
        notes: remarks that are no problems.
    """

    tiles: int
    whole: set[str] = field(default_factory=set)
    harmed: int = 0
    failed: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def unmade(self) -> int:
        return self.tiles - len(self.whole) - self.harmed - self.failed


class Damage(NamedTuple):
    """Damage of a file.

    Args:
        what: description of the damage.
        certain: whether the content was read and is wrong; False for a file that is missing or cannot be read.
    """

    what: str
    certain: bool


@dataclass(frozen=True)
class VerifyContext:
    """The parts of a run that all checks share.

    Args:
        store: store of the run.
        plan: plan of the run.
        lines: lines of all record files.
        records: last record of each tile, by file.
    """

    store: Store
    plan: Plan
    lines: list[Line]
    records: Mapping[str, TileRecord]

    @cached_property
    def digests(self) -> dict[str, str]:
        return {variant: self.plan.digest(variant) for variant in self.plan.settings}

    @cached_property
    def _lines_of(self) -> dict[str, list[Line]]:
        lines: dict[str, list[Line]] = {}
        for line in self.lines:
            if line.file is not None:
                lines.setdefault(line.file, []).append(line)
        return lines

    def name(self, path: Path) -> str:
        return path.relative_to(self.store.root).as_posix()

    def lines_of(self, tile: str) -> tuple[Line, ...]:
        """Return the record lines of a tile, given its file."""
        return tuple(self._lines_of.get(tile, ()))

    def damage(self, path: Path, most: int, size: int | None, sha256: str | None) -> Damage | None:
        """Return the damage of a file; None if it is whole.

        Args:
            path: path of the file.
            most: largest size in bytes.
            size: recorded size in bytes; None if it is not recorded.
            sha256: recorded checksum.
        """
        try:
            with self.store.folder.open(path, ARRAY_BYTES) as file:
                actual = file.seek(0, io.SEEK_END)
                if size is not None and actual != size:
                    how = "truncated" if actual < size else "too long"
                    return Damage(f"{how}: {actual} bytes, {size} in its record", True)
                if actual > most:
                    return Damage(f"{actual:,} bytes; a file of this tile has {most:,} at most", False)
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return None
                return Damage("damaged: its checksum differs from its record", True)
        except FileNotFoundError:
            return Damage("missing", False)
        except (StorageError, OSError) as error:
            return Damage(reason(error, path), False)

    def is_whole_png(self, path: Path) -> bool | None:
        """Return whether the chunks of a PNG are complete; None if it cannot be read."""
        try:
            return is_whole_png(self.store.folder.read(path, PICTURE_BYTES))
        except (FileNotFoundError, StorageError):
            return None


def reason(error: Exception, path: Path) -> str:
    """Return an error's message without the path at its beginning."""
    return str(error).removeprefix(f"{path}: ")
