"""What is looked at, and what is found, where a run directory is verified."""

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
        path: of the record file.
        number: from 1.
        start: its first byte.
        length: in bytes, without its end.
        file: of the tile whose record it is; None where it is torn.
    """

    path: Path
    number: int
    start: int
    length: int
    file: str | None


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Args:
        path: of the file, from the run directory.
        what: is wrong with it.
        remove: files that must go.
        blank: lines of records that must go, so that they vouch for nothing that is not there.
    """

    path: str
    what: str
    remove: tuple[Path, ...] = ()
    blank: tuple[Line, ...] = ()


@dataclass
class VerifyReport:
    """What was found in a run directory.

    Args:
        tiles: how many the plan names.
        whole: files of the tiles that are as their records say.
        harmed: tiles whose records vouch for another file than is there, or for none that is there.
        failed: tiles that could not be made; the next run tries again.
        problems: in the order of tiles, their other files, records, leftovers.
        notes: what is no problem, but worth a word.
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
    """What is wrong with a file.

    Args:
        what: in words.
        surely: whether it was read, and is bad; else something else stands in its place, or it cannot be read.
    """

    what: str
    surely: bool


@dataclass(frozen=True)
class VerifyContext:
    """A run, all of it that is read once.

    Args:
        store: of the run.
        plan: of it.
        lines: of all its records.
        records: what they say in the end, by file.
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
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            if line.file is not None:
                found.setdefault(line.file, []).append(line)
        return found

    def name(self, path: Path) -> str:
        return path.relative_to(self.store.root).as_posix()

    def lines_of(self, tile: str) -> tuple[Line, ...]:
        """Those that vouch for a tile, given its file."""
        return tuple(self._lines_of.get(tile, ()))

    def harm(self, path: Path, most: int, size: int | None, sha256: str | None) -> Damage | None:
        """What is wrong with a file; None where nothing is.

        Args:
            path: of the file.
            most: bytes of it that are read.
            size: in bytes, by its record; None where that does not say.
            sha256: by its record.
        """
        try:
            with self.store.folder.open(path, ARRAY_BYTES) as file:
                there = file.seek(0, io.SEEK_END)
                if size is not None and there != size:
                    how = "truncated" if there < size else "too long"
                    return Damage(f"{how}: {there} bytes, {size} in its record", True)
                if there > most:
                    return Damage(f"{there:,} bytes; a file of this tile has {most:,} at most", False)
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return None
                return Damage("damaged: its checksum is not that of its record", True)
        except FileNotFoundError:
            return Damage("missing", False)
        except (StorageError, OSError) as error:
            return Damage(reason(error, path), False)

    def is_whole_png(self, path: Path) -> bool | None:
        """Whether a picture is whole in itself; None where it cannot be read."""
        try:
            return is_whole_png(self.store.folder.read(path, PICTURE_BYTES))
        except (FileNotFoundError, StorageError):
            return None


def reason(error: Exception, path: Path) -> str:
    """Why a file cannot be read, without the name that the line begins with."""
    return str(error).removeprefix(f"{path}: ")
