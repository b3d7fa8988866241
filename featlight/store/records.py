"""Records: one line of JSON for each tile that was made. The files of all workers are read as they grow."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from featlight.config.user_text import check_word
from featlight.store.guard.bounds import FILE, LINE_BYTES, Allowance, line_cost, read_lines
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import RECORDS_BYTES, Number, TileName

Status = Literal["ok", "dead", "failed"]
CURVE_POINTS = 60  # of a record, at most


def _word(word: str) -> str:
    check_word(word)
    return word


Word = Annotated[str, AfterValidator(_word)]


@with_config(ConfigDict(allow_inf_nan=False))
class TileRecord(TypedDict):
    """The record of a tile.

    The status is `ok`, `dead` (its gradient was exactly zero at every step) or `failed` (image or activation not
    finite; it has no file, and the next run tries again). Activations are means over the neurons of the objective, in
    the layer's own units. Values that an older version did not write, or that a failed tile lacks, are None.
    """

    file: TileName
    status: Status
    name: Word | None  # `layer/feature`, or the user's name of the tile
    layer: Word | None
    feature: Number | None  # None: all features
    variant: Word | None
    reason: Word | None
    activation_start: float | None
    activation_end: float | None
    gradient_norm: float | None  # L2 norm of the gradient by the pixels, mean over all steps
    total_variation: float | None
    high_frequency_share: float | None
    curve: Annotated[list[tuple[Number, float | None]], Field(max_length=CURVE_POINTS)] | None  # step and activation
    seconds: float | None
    sha256: Word | None  # checksum of the tile's file
    bytes: Number | None
    alpha_sha256: Word | None  # checksum of the opacity picture, if the recipe makes one
    float_sha256: Word | None  # checksum of the float image, if it is kept
    chunk: Number | None
    batch_size: Number | None  # images that were optimized together
    fingerprint: Word | None  # digest of the settings


_RECORD = TypeAdapter(TileRecord)
_NOTHING: dict[str, None] = dict.fromkeys(TileRecord.__annotations__)


def line_of(record: TileRecord) -> bytes:
    """Return a record as a line of JSON, without the line's end."""
    return json.dumps(record, allow_nan=False).encode()


def parse_line(line: bytes) -> TileRecord | None:
    """Return the record of a line; None if the line is incomplete or no record."""
    try:
        values = from_json(line)
        return _RECORD.validate_python(_NOTHING | values) if isinstance(values, dict) and "file" in values else None
    except ValueError:  # including pydantic's
        return None


def status_of(records: Mapping[str, TileRecord], file: str) -> Status | None:
    """Return the status of a tile, given its file; None without a record."""
    record = records.get(file)
    return None if record is None else record["status"]


def failed_of(records: Mapping[str, TileRecord], files: Iterable[str]) -> dict[str, str | None]:
    """Return the reasons of failed tiles, by file.

    Args:
        records: last record of each tile, by file.
        files: files of the tiles to look up.
    """
    return {file: records[file]["reason"] for file in files if status_of(records, file) == "failed"}


def record_files(folder: RunFolder) -> list[Path]:
    """Return the record files, one of each worker.

    Raises:
        StorageError: the folder cannot be read.
    """
    records = folder.root / "records"
    return [records / name for name in folder.names(records) if name.endswith(".jsonl")]


def keep_last(records: dict[str, TileRecord], record: TileRecord) -> None:
    """Add a record to the last records by file; a later failure does not replace a tile that was made."""
    previous = records.get(record["file"])
    if previous is None or previous["status"] == "failed" or record["status"] != "failed":
        records[record["file"]] = record


class RecordLog:
    """The records of a run directory, merged.

    Args:
        folder: run directory.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[int, int]] = {}  # by file: its inode, and the number of bytes read
        self._cost = 0  # of the lines read
        self.records: dict[str, TileRecord] = {}  # last record of each tile, by file

    def refresh(self) -> list[TileRecord]:
        """Read the lines that were appended since the last call.

        Returns:
            The new records, file by file. A last line without an end is left for the next call.

        Raises:
            StorageError: a file cannot be read, or is too large.
        """
        allowance = Allowance(self._folder, self._folder.root / "records")
        allowance.take(self._cost)
        read: dict[Path, tuple[int, int]] = {}
        new: list[TileRecord] = []
        for path in record_files(self._folder):
            allowance.take(FILE)
            with suppress(FileNotFoundError), self._folder.open(path, RECORDS_BYTES) as file:
                status = os.fstat(file.fileno())  # after opening, which refreshes a network file system's view
                inode, start = self._read.get(path, (status.st_ino, 0))
                if inode != status.st_ino or start > status.st_size:
                    return self._restart()
                file.seek(start)
                for line, record in read_lines(file, parse_line, allowance):
                    if not line.endswith(b"\n") and len(line) < LINE_BYTES:
                        break
                    start += len(line)
                    self._cost += line_cost(line, record)
                    if record is not None:
                        new.append(record)
                read[path] = inode, start
        if self._read.keys() - read.keys():
            return self._restart()
        self._read = read
        for record in new:
            keep_last(self.records, record)
        return new

    def has_made(self, file: str) -> bool:
        """Return whether the records read so far say that a tile was made."""
        record = self.records.get(file)
        return record is not None and record["status"] != "failed"

    def copy(self) -> "RecordLog":
        """Return another log that has read the same lines."""
        other = RecordLog(self._folder)
        other._read, other._cost, other.records = dict(self._read), self._cost, dict(self.records)
        return other

    def _restart(self) -> list[TileRecord]:
        """Read everything again, after another process has deleted the run."""
        self._read, self._cost, self.records = {}, 0, {}
        return self.refresh()


def record_lines(folder: RunFolder, path: Path, allowance: Allowance) -> Iterator[tuple[int, bytes, TileRecord | None]]:
    """Yield the offset of each line of a record file, the line, and its record; None if the line is incomplete.

    Raises:
        StorageError: the file cannot be read, or is too large.
    """
    start = 0
    allowance.take(FILE)
    with suppress(FileNotFoundError), folder.open(path, RECORDS_BYTES) as file:
        for line, record in read_lines(file, parse_line, allowance):
            yield start, line, record
            start += len(line)
