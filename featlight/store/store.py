"""A run directory: atomic tiles, one fsynced line of record each, and nothing lost when a process dies."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from featlight.config.schema import Extra
from featlight.errors import Interrupted, StorageError, UsageError
from featlight.plan.parsing import read_plan
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.guard.atomic import storage_errors
from featlight.store.guard.bounds import Allowance, read_json, read_lines
from featlight.store.guard.drawn import DrawnFiles
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import OUTPUTS, OWN_NAMES, PLAN, PLAN_BYTES, PLAN_VALUES, TEXT_BYTES, RunPaths, is_run_name
from featlight.store.records import RecordLog, TileRecord, line_of


class Store(RunPaths):
    """One run directory, as one worker sees it.

    Args:
        root: the directory; it need not exist before the first write.
        worker: names this worker's own file of records.
    """

    def __init__(self, root: Path, worker: str = "worker-0") -> None:
        super().__init__(root)
        self.folder = RunFolder(root)
        self._record_file = root / "records" / f"{worker}.jsonl"
        self._record_log = RecordLog(self.folder)
        self.drawn = DrawnFiles(self.folder)
        self._held: Plan | None = None
        self._stamp: tuple[int, ...] | None = None

    # Reading

    def plan(self) -> Plan | None:
        """The run's plan; None where there is no run yet.

        Raises:
            UsageError: the plan is damaged.
            StorageError: it cannot be read.
        """
        path = self.root / PLAN
        try:
            content = read_json(self.folder, path, PLAN_BYTES, PLAN_VALUES)
            return None if content is None else read_plan(content.decode())
        except ValueError as error:
            raise UsageError(f"{path}: {error}; put back a copy of it, or give another --out") from None

    def need_plan(self, flag: str = "--out") -> Plan:
        """The plan of a run that must be there.

        Args:
            flag: that named the directory, for the message.

        Raises:
            UsageError: there is no run, or its plan is damaged.
        """
        plan = self.plan()
        if plan is None:
            raise UsageError(f"{flag}: {self.root} holds no run")
        return plan

    def records(self) -> dict[str, TileRecord]:
        """The last record of each tile, by its file; a made tile beats a failed one.

        Raises:
            StorageError: they cannot be read, or are gone while tiles are there.
        """
        if self.lacks_records():
            path = self.root / "records"
            way_out = "put it back, or make an empty folder of that name to have all tiles made again"
            raise StorageError(f"{path}: it is gone, though tiles are there; {way_out}")
        self._record_log.refresh()
        return dict(self._record_log.records)

    def lacks_records(self) -> bool:
        """Whether the folder of records is gone from a run that has tiles: it is there before the first of them."""
        if "records" in self.folder.names(self.root) or not self.folder.names(self.root / "tiles"):
            return False
        names = (name for _, _, names in os.walk(self.root / "tiles") for name in names)
        return any(name.endswith(".png") and not name.startswith(".") for name in names)

    def record_log(self) -> RecordLog:
        """Another reader of the records, which stands at what is there now, for one who follows them as they grow."""
        self._record_log.refresh()
        return self._record_log.copy()

    def made(self, plan: Plan, tiles: Iterable[PlannedTile], extras: Sequence[Extra] = ()) -> dict[str, TileRecord]:
        """The records of those tiles that this very run made and whose files are all there, in the tiles' order.

        Args:
            plan: of the run.
            tiles: of it.
            extras: what must be there besides the tile's picture.
        """
        records = self.records()
        digests = {variant: plan.digest(variant) for variant in plan.settings}
        vouched: dict[str, tuple[PlannedTile, TileRecord]] = {}
        for planned in tiles:
            record = records.get(planned.file)
            if record and record["status"] != "failed" and record.get("fingerprint") == digests[planned.variant]:
                vouched[planned.file] = planned, record
        needed = {
            file: [*self.parts(planned, plan), *self.extra_paths(planned, plan, extras)]
            for file, (planned, _) in vouched.items()
        }
        sizes = self.folder.sizes(path for paths in needed.values() for path in paths)
        return {
            file: record
            for file, (_, record) in vouched.items()
            if sizes.get(self.root / file, -1) == record["bytes"] and sizes.keys() >= set(needed[file])
        }

    def lacking_vectors(self, plan: Plan, numbers: Iterable[int]) -> set[int]:
        """Those chunks whose vectors are not there, unless the run has kept none at all, as one from a zip.

        Args:
            plan: of the run.
            numbers: of chunks.
        """
        if not self.folder.is_folder(self.root / "vectors" / "chunks"):
            return set()
        paths = {n: self.vector_path(plan.tiles[i].file for i in plan.chunks[n]) for n in numbers}
        there = self.folder.sizes(paths.values())
        return {number for number, path in paths.items() if path not in there}

    def outputs(self) -> list[str]:
        """What was made here from tiles and records: paths from the run directory; what cannot be one is passed over.

        Raises:
            StorageError: it cannot be read.
        """
        path = self.root / OUTPUTS
        try:
            with self.folder.open(path, TEXT_BYTES) as file:
                found = [name for _, name in read_lines(file, _output, Allowance(self.folder, path))]
        except FileNotFoundError:
            return []
        return [name for name in found if name is not None]

    # Writing

    def check_writable(self) -> None:
        """Make sure that a run can be written here, and delete what processes that are gone have left half written.

        Raises:
            UsageError: there are files that a run would overwrite, and no run.
            StorageError: the directory cannot be made or written to.
        """
        self._make()
        names = self.folder.names(self.root)
        strange = [name for name in OWN_NAMES if name in names]
        if strange and PLAN not in names:
            raise UsageError(f"{self.root} holds {strange[0]}, but no run ({PLAN}); give another --out")
        self.folder.probe()
        self.folder.remove_abandoned(OWN_NAMES)

    def _make(self) -> None:
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)

    def hold(self, plan: Plan) -> None:
        """From now on, write only while this run is there: its directory may vanish, or give way to another one."""
        self._held = plan

    @contextmanager
    def _holding(self) -> Iterator[None]:
        self.check_held()
        try:
            yield
        except StorageError:
            self.check_held()
            raise

    def check_held(self) -> None:
        """Raise Interrupted where the run that was held is not there any more."""
        stamp = self.folder.stamp(self.root / PLAN)
        if self._held is None or (stamp is not None and stamp == self._stamp):
            return
        there = self.plan() if stamp is not None else None
        if there is None:
            raise Interrupted(f"{self.root}: the run is gone from there; the same command begins it anew")
        if not self._held.is_same_run(there):
            raise Interrupted(
                f"{self.root}: another run has come there meanwhile; nothing of this one is written into it"
            )
        self._stamp = stamp

    def write(self, path: Path, content: bytes) -> None:
        """Put a file of the run in its place, all at once."""
        with self._holding():
            self.folder.write(path, content)

    def write_output(self, name: str, content: bytes) -> None:
        """A file that is made from tiles and records, noted as the run's own.

        Raises:
            StorageError: it cannot be written, and is not there with this very content.
        """
        self.note_output(name)
        try:
            self.write(self.root / name, content)
        except StorageError:
            if not self.folder.holds(self.root / name, content):
                raise
        self.drawn.note(name, content)

    def note_output(self, name: str) -> None:
        if name not in self.outputs():
            with self._holding():
                self.folder.append_line(self.root / OUTPUTS, name.encode())

    def begin_records(self) -> None:
        """Make this worker's file of records, before its first tile: tiles without any are then a sign of loss."""
        with self._holding():
            self.folder.touch(self._record_file)

    def commit(self, png: bytes | None, record: TileRecord) -> None:
        """Write a tile, then the line that says so.

        Args:
            png: the tile; None where it failed.
            record: its `file` names the tile.
        """
        if png is not None:
            self.write(self.root / record["file"], png)
            record = {**record, "sha256": sha256(png).hexdigest(), "bytes": len(png)}
        with self._holding():
            self.folder.append_line(self._record_file, line_of(record))

    def write_plan(self, plan: Plan) -> None:
        """Begin a run, or extend it; the directory is made where it is missing."""
        self._make()
        self.folder.write(self.root / PLAN, plan.to_json().encode())

    def extended_plan(self, plan: Plan) -> Plan:
        """A plan, or what another run has made of it in the meantime, so that all of it is shown."""
        self.check_held()
        latest = self.plan()
        if latest is None or (latest == plan and latest.titles == plan.titles):
            return plan
        latest.take_up(plan)
        self.write_plan(latest)
        return latest

    def create_plan(self, plan: Plan) -> bool:
        """Write the plan of a new run, whole or not at all; False where another run has come first."""
        self._make()
        return self.folder.create(self.root / PLAN, plan.to_json().encode())


def _output(line: bytes) -> str | None:
    """A line of the list of outputs; None where it is no name of a run's."""
    name = line.decode(errors="replace").rstrip("\r\n")
    return name if is_run_name(name) else None
