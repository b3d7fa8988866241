"""What is known of each tile, a line of JSON each; all workers' lines read as they grow, none of them twice."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from featlight.config.text_checks import check_word
from featlight.store.guard.bounds import FILE, LINE_BYTES, Allowance, line_cost, read_lines
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import RECORDS_BYTES, is_tile_name

Status = Literal["ok", "dead", "failed"]
CURVE_POINTS = 60  # of a record, at most


def _tile(name: str) -> str:
    if not is_tile_name(name):
        raise ValueError("no tile's name")
    return name


def _word(word: str) -> str:
    check_word(word)
    return word


Word = Annotated[str, AfterValidator(_word)]
Number = Annotated[int, Field(ge=0, lt=2**53)]


@with_config(ConfigDict(allow_inf_nan=False))
class TileRecord(TypedDict):
    """One tile as a worker has made it.

    `ok`; `dead`: its gradient was exactly zero at every step; `failed`: not finite, no file, tried again by the next
    run. Activations are the mean of the neurons that the tile's objective chooses, in the layer's own units. What an
    older version has not written, and what a failed tile does not have, is None.
    """

    file: Annotated[str, AfterValidator(_tile)]  # its path in the run directory
    status: Status
    name: Word | None  # of the tile: `layer/feature`, or as the user named it
    layer: Word | None
    feature: Number | None  # None: all of them
    variant: Word | None
    reason: Word | None
    activation_start: float | None
    activation_end: float | None
    gradient_norm: float | None  # mean over the steps of the pixel gradient's L2 norm
    total_variation: float | None
    high_frequency_share: float | None
    curve: Annotated[list[tuple[Number, float | None]], Field(max_length=CURVE_POINTS)] | None  # step and activation
    seconds: float | None
    sha256: Word | None  # of the file
    bytes: Number | None
    alpha_sha256: Word | None  # of its transparency, where its recipe makes one
    float_sha256: Word | None  # of the float image, where it is kept
    chunk: Number | None
    batch_size: Number | None  # images that were optimised together
    fingerprint: Word | None  # digest of the settings


_RECORD = TypeAdapter(TileRecord)
_NOTHING: dict[str, None] = dict.fromkeys(TileRecord.__annotations__)


def line_of(record: TileRecord) -> bytes:
    """A record as a line, without its end."""
    return json.dumps(record, allow_nan=False).encode()


def parse_line(line: bytes) -> TileRecord | None:
    """What a line says; None for one that a dying process has torn, or that is no record."""
    try:
        values = from_json(line)
        return _RECORD.validate_python(_NOTHING | values) if isinstance(values, dict) and "file" in values else None
    except ValueError:  # pydantic's own is one
        return None


def status_of(records: Mapping[str, TileRecord], file: str) -> Status | None:
    """What has become of a tile, given its file; None where no record says."""
    record = records.get(file)
    return None if record is None else record["status"]


def failed_of(records: Mapping[str, TileRecord], files: Iterable[str]) -> dict[str, str | None]:
    """Reasons of the tiles whose last try has failed, by file.

    Args:
        records: last record of each tile, by file.
        files: files of the tiles to look up.
    """
    return {file: records[file]["reason"] for file in files if status_of(records, file) == "failed"}


def record_files(folder: RunFolder) -> list[Path]:
    """The files of records, one of each worker.

    Raises:
        StorageError: it cannot be told whether there are any.
    """
    records = folder.root / "records"
    return [records / name for name in folder.names(records) if name.endswith(".jsonl")]


def keep_last(records: dict[str, TileRecord], record: TileRecord) -> None:
    """Take a record up among the last of each tile, by its file; a made tile beats a failed one."""
    before = records.get(record["file"])
    if before is None or before["status"] == "failed" or record["status"] != "failed":
        records[record["file"]] = record


class RecordLog:
    """The records of a run directory, merged.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[int, int]] = {}  # by file: its inode, and the bytes that were read
        self._cost = 0  # of the lines that were read
        self.records: dict[str, TileRecord] = {}  # the last of each tile, by its file; a made tile beats a failed one

    def refresh(self) -> list[TileRecord]:
        """Read what was appended since the last time.

        Returns:
            The new records, file by file. A last line that is not ended yet, or torn by a process that died, waits.

        Raises:
            StorageError: something cannot be read, which is not to be taken for empty, or there is too much of it.
        """
        allowance = Allowance(self._folder, self._folder.root / "records")
        allowance.take(self._cost)
        found: dict[Path, tuple[int, int]] = {}
        new: list[TileRecord] = []
        for path in record_files(self._folder):
            allowance.take(FILE)
            with suppress(FileNotFoundError), self._folder.open(path, RECORDS_BYTES) as file:
                # opening has had a shared disk look again
                status = os.fstat(file.fileno())
                inode, start = self._read.get(path, (status.st_ino, 0))
                if inode != status.st_ino or start > status.st_size:
                    return self._again()
                file.seek(start)
                for line, record in read_lines(file, parse_line, allowance):
                    if not line.endswith(b"\n") and len(line) < LINE_BYTES:
                        break
                    start += len(line)
                    self._cost += line_cost(line, record)
                    if record is not None:
                        new.append(record)
                found[path] = inode, start
        if self._read.keys() - found.keys():
            return self._again()
        self._read = found
        for record in new:
            keep_last(self.records, record)
        return new

    def has_made(self, file: str) -> bool:
        """Whether a tile was made, as far as was read."""
        record = self.records.get(file)
        return record is not None and record["status"] != "failed"

    def copy(self) -> "RecordLog":
        """Another one that has read as far."""
        other = RecordLog(self._folder)
        other._read, other._cost, other.records = dict(self._read), self._cost, dict(self.records)
        return other

    def _again(self) -> list[TileRecord]:
        """All of it, where another process has deleted the run."""
        self._read, self._cost, self.records = {}, 0, {}
        return self.refresh()


def record_lines(folder: RunFolder, path: Path, allowance: Allowance) -> Iterator[tuple[int, bytes, TileRecord | None]]:
    """Where each line of a record file begins, the line, and its record; None for what a dying process has torn.

    Raises:
        StorageError: it cannot be read, or there is too much of it.
    """
    start = 0
    allowance.take(FILE)
    with suppress(FileNotFoundError), folder.open(path, RECORDS_BYTES) as file:
        for line, record in read_lines(file, parse_line, allowance):
            yield start, line, record
            start += len(line)
