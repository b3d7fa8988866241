"""What is known of each tile, a line of JSON each; all workers' lines read as they grow, none of them twice."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

Status = Literal["ok", "dead", "failed"]


@with_config(ConfigDict(allow_inf_nan=False))
class TileRecord(TypedDict):
    """One tile as a worker has made it.

    `ok`; `dead`: its gradient was exactly zero at every step; `failed`: not finite, no file, tried again by the next
    run. Activations are the mean of the neurons that the tile's objective chooses, in the layer's own units. What an
    older version has not written, and what a failed tile does not have, is None.
    """

    file: str  # its path in the run directory
    status: Status
    name: str | None  # of the tile: `layer/feature`, or as the user named it
    layer: str | None
    feature: int | None  # None: all of them
    variant: str | None
    reason: str | None
    activation_start: float | None
    activation_end: float | None
    gradient_norm: float | None  # mean over the steps of the pixel gradient's L2 norm
    total_variation: float | None
    high_frequency_share: float | None
    curve: list[tuple[int, float | None]] | None  # step and activation, at most 60 points
    seconds: float | None
    sha256: str | None  # of the file
    bytes: int | None
    float_sha256: str | None  # of the float image, where it is kept
    chunk: int | None
    batch_size: int | None  # images that were optimised together
    fingerprint: str | None  # digest of the settings


_RECORD = TypeAdapter(TileRecord)
_NOTHING: dict[str, None] = dict.fromkeys(TileRecord.__annotations__)


def line_of(record: TileRecord) -> bytes:
    """A record as a line, without its end."""
    return json.dumps(record, allow_nan=False).encode()


def parse_line(line: bytes) -> TileRecord | None:
    """What a line says; None for one that a dying process has torn, or that is no record."""
    try:
        values = from_json(line)
        return _RECORD.validate_python(_NOTHING | values) if isinstance(values, dict) else None
    except ValueError:  # pydantic's own is one
        return None


def status_of(records: Mapping[str, TileRecord], file: str) -> Status | None:
    """What has become of a tile, given its file; None where no record says."""
    record = records.get(file)
    return None if record is None else record["status"]


class RecordLog:
    """The records of a run directory, merged.

    Args:
        folder: that holds a file of lines for each worker.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[int, int]] = {}  # by file: its inode, and the bytes that were read
        self.records: dict[str, TileRecord] = {}  # the last of each tile, by its file; a made tile beats a failed one

    def refresh(self) -> list[TileRecord]:
        """Read what was appended since the last time.

        Returns:
            The new records, file by file. A last line that is not ended yet, or torn by a process that died, waits.
        """
        found: dict[Path, tuple[int, int]] = {}
        new: list[TileRecord] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            with suppress(FileNotFoundError), path.open("rb") as file:  # opening has a shared disk look again
                status = os.fstat(file.fileno())
                inode, start = self._read.get(path, (status.st_ino, 0))
                if inode != status.st_ino or start > status.st_size:
                    return self._again()
                file.seek(start)
                lines, newline, _ = file.read().rpartition(b"\n")
                found[path] = inode, start + len(lines) + len(newline)
                new += filter(None, map(parse_line, lines.splitlines()))
        if self._read.keys() - found.keys():
            return self._again()
        self._read = found
        for record in new:
            before = self.records.get(record["file"])
            if before is None or before["status"] == "failed" or record["status"] != "failed":
                self.records[record["file"]] = record
        return new

    def has_made(self, file: str) -> bool:
        """Whether a tile was made, as far as was read."""
        record = self.records.get(file)
        return record is not None and record["status"] != "failed"

    def copy(self) -> "RecordLog":
        """Another one that has read as far."""
        other = RecordLog(self._folder)
        other._read, other.records = dict(self._read), dict(self.records)
        return other

    def _again(self) -> list[TileRecord]:
        """All of it, where another process has deleted the run."""
        self._read, self.records = {}, {}
        return self.refresh()


def record_lines(path: Path) -> Iterator[tuple[int, bytes, TileRecord | None]]:
    """Where each line of a record file begins, the line, and its record; None for what a dying process has torn."""
    start = 0
    for line in path.read_bytes().splitlines(keepends=True):
        yield start, line, parse_line(line)
        start += len(line)
