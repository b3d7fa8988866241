"""A run directory: atomic tiles, one fsynced line of record each, and nothing lost when a process dies."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from featlight.config.schema import Extra
from featlight.errors import StorageError, UsageError
from featlight.plan.plan import Plan, Planned
from featlight.store.paths import Layout
from featlight.store.records import Record as Record
from featlight.store.records import RecordLog

PLAN = "plan.json"
OWN_NAMES = (
    *("assets", "atlas", "config.yaml", "figures", "floats", "index.html", "maps"),
    *("octaves", "records", "tensorboard", "tiles", "vectors"),
)
NOTE = ".running"  # who is at work here
OUTPUTS = "outputs.txt"  # what is made from tiles and records, a path a line, so that --fresh knows its own files
_OURS = int.from_bytes(os.urandom(6), "big")  # in temporary names; workers in containers share a process number
TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")  # as `write` names them


class Store(Layout):
    """One run directory, as one worker sees it.

    Args:
        root: the directory; it need not exist before the first write.
        worker: names this worker's own file of records.
    """

    def __init__(self, root: Path, worker: str = "worker-0") -> None:
        super().__init__(root)
        self._record_file = root / "records" / f"{worker}.jsonl"
        self._record_log = RecordLog(root / "records")

    # Reading

    def plan(self) -> Plan | None:
        """The run's plan; None where there is no run yet.

        Raises:
            UsageError: the plan is damaged.
        """
        try:
            text = (self.root / PLAN).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.root / PLAN}: {error.strerror}") from None
        try:
            return Plan.from_json(text)
        except ValueError as error:
            raise UsageError(f"{self.root / PLAN}: {error}; remove it to start again there") from None

    def records(self) -> dict[str, Record]:
        """The last record of each tile, by its file; a made tile beats a failed one."""
        self._record_log.refresh()
        return dict(self._record_log.records)

    def record_log(self) -> RecordLog:
        """Another reader of the records, which stands at what is there now, for one who follows them as they grow."""
        self._record_log.refresh()
        return self._record_log.copy()

    def made(self, plan: Plan, tiles: Iterable[Planned], extras: Sequence[Extra] = ()) -> dict[str, Record]:
        """The records of those tiles that this very run made and whose files are all there, in the tiles' order.

        Args:
            plan: of the run.
            tiles: of it.
            extras: what must be there besides the tile's picture.
        """
        records = self.records()
        digests = {variant: plan.digest(variant) for variant in plan.settings}
        found = {}
        for planned in tiles:
            record = records.get(planned.file)
            if record is None or record["status"] == "failed" or record.get("fingerprint") != digests[planned.variant]:
                continue
            path = self.root / planned.file
            if not path.is_file() or path.stat().st_size != record.get("bytes"):
                continue
            if not all(path.is_file() for path in self.extra_paths(planned, plan, extras)):
                continue
            found[planned.file] = record
        return found

    def outputs(self) -> list[str]:
        """What was made here from tiles and records: paths from the run directory."""
        try:
            return (self.root / OUTPUTS).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    # Writing

    def check_writable(self) -> None:
        """Make sure that a run can be written here.

        Raises:
            UsageError: there are files that a run would overwrite, and no run.
            StorageError: the directory cannot be made or written to.
        """
        strange = [name for name in OWN_NAMES if (self.root / name).exists()]
        if strange and not (self.root / PLAN).is_file():
            raise UsageError(f"{self.root} holds {strange[0]}, but no run ({PLAN}); give another --out")
        with _storage(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{_OURS}.tmp"
            probe.write_bytes(b"")
            probe.unlink()

    def write(self, path: Path, content: bytes) -> None:
        """Put a file in its place all at once: a reader sees the old one or the new one, never a part.

        Raises:
            StorageError: no room, or no right to write.
        """
        with replacing(path) as file:
            file.write(content)

    def write_output(self, name: str, content: bytes) -> None:
        """A file that is made from tiles and records, noted as the run's own."""
        self.note_output(name)
        self.write(self.root / name, content)

    def note_output(self, name: str) -> None:
        path = self.root / OUTPUTS
        if name not in self.outputs():
            with _storage(path), path.open("a", encoding="utf-8") as file:
                file.write(name + "\n")

    def commit(self, png: bytes | None, record: Record) -> None:
        """Write a tile, then the line that says so.

        Args:
            png: the tile; None where it failed.
            record: its `file` names the tile.
        """
        if png is not None:
            self.write(self.root / record["file"], png)
            record = {**record, "sha256": sha256(png).hexdigest(), "bytes": len(png)}
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with _storage(self._record_file):
            self._record_file.parent.mkdir(parents=True, exist_ok=True)
            with self._record_file.open("ab+") as file:
                if file.tell() and not _ends_line(file):
                    line = b"\n" + line  # a torn line of a process that died must not swallow this one
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    def write_plan(self, plan: Plan) -> None:
        self.write(self.root / PLAN, plan.to_json().encode())

    def create_plan(self, plan: Plan) -> bool:
        """Write the plan of a new run, whole or not at all; False where another run has come first."""
        path = self.root / PLAN
        draft = path.with_name(f".{PLAN}.{_OURS}.new")
        self.write(draft, plan.to_json().encode())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            with _storage(path):
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return True

    def clear(self) -> None:
        """Delete the run's own files, those that its records name, and the folders that are empty then.

        Raises:
            UsageError: the directory holds files, but no run.
        """
        if not self.root.is_dir() or not any(self.root.iterdir()):
            return
        plan = self.plan()
        if plan is None:
            raise UsageError(f"--fresh: {self.root} holds files but no {PLAN}: not a run, nothing was deleted")
        files = [self.root / name for name in self.outputs()]
        files += [self.root / name for name in self.records()]
        for planned in plan.tiles:
            files += [self.root / planned.file, *self.extra_paths(planned, plan)]
        files += [self.vector_path(plan.tiles[i].file for i in members) for members in plan.chunks]
        files += [
            *self.root.glob("records/*.jsonl"),
            self.root / OUTPUTS,
            self.root / NOTE,
            self.root / PLAN,
        ]  # the plan last: until
        root = self.root.resolve()  # then it is a run, and --fresh can be typed again
        files = [path for path in files if path.resolve().is_relative_to(root)]
        ours = set(files)
        torn = [path for path in self.root.rglob("*.tmp") if path.with_name(TEMPORARY.sub(r"\1", path.name)) in ours]
        with _storage(self.root):
            for path in [*torn, *files]:
                path.unlink(missing_ok=True)
            folders = {folder for path in files for folder in path.parents if folder.is_relative_to(self.root)}
            for folder in sorted(folders - {self.root}, reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def remove(self, path: Path) -> bool:
        """Delete one file, and say so, unless a link leads out of the run directory on the way to it."""
        inside = path.parent.resolve().is_relative_to(self.root.resolve())
        if inside:
            with _storage(path):
                path.unlink(missing_ok=True)
        return inside

    def blank(self, path: Path, start: int, length: int) -> None:
        """Overwrite a part of a record file with spaces, in place: who appends to it meanwhile loses nothing."""
        with _storage(path), path.open("r+b") as file:
            file.seek(start)
            file.write(b" " * length)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its place all at once when it is whole.

    Raises:
        StorageError: no room, or no right to write.
    """
    with _storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{_OURS}.tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def _ends_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Turn what a file system refuses into one line."""
    try:
        yield
    except OSError as error:
        word = "no room left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StorageError(f"{path}: {word}; the same command goes on from here once that is mended") from None
