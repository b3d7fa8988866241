"""All workers' records, read as they grow: what was read once is not read again."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class RecordLog:
    """The records of a run directory, merged.

    Args:
        folder: that holds a file of lines for each worker.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[int, int]] = {}  # by file: its inode, and the bytes that were read
        self.records: dict[str, Record] = {}  # the last of each tile, by its file; a made tile beats a failed one

    def refresh(self) -> list[Record]:
        """Read what was appended since the last time.

        Returns:
            The new records, file by file. A last line that is not ended yet, or torn by a process that died, waits.
        """
        found: dict[Path, tuple[int, int]] = {}
        new: list[Record] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            with suppress(FileNotFoundError), path.open("rb") as file:  # opening has a shared disk look again
                status = os.fstat(file.fileno())
                inode, start = self._read.get(path, (status.st_ino, 0))
                if inode != status.st_ino or start > status.st_size:
                    return self._again()
                file.seek(start)
                lines, newline, _ = file.read().rpartition(b"\n")
                found[path] = inode, start + len(lines) + len(newline)
                new += filter(None, map(_record, lines.splitlines()))
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

    def _again(self) -> list[Record]:
        """All of it, where another process has deleted the run."""
        self._read, self.records = {}, {}
        return self.refresh()


def record_lines(path: Path) -> Iterator[tuple[int, bytes, Record | None]]:
    """Where each line of a record file begins, the line, and its record; None for what a dying process has torn."""
    start = 0
    for line in path.read_bytes().splitlines(keepends=True):
        yield start, line, _record(line)
        start += len(line)


def _record(line: bytes) -> Record | None:
    """What a line says; None for one that a dying process has torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"file", "status"} <= record.keys() else None
