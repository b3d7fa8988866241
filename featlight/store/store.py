"""The run directory: tiles are written atomically, and each has a record on disk before it counts as made."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from featlight.config.schema import Extra
from featlight.errors import Interrupted, StorageError, UsageError
from featlight.files import walk
from featlight.plan.parsing import read_plan
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.guard.atomic import storage_errors
from featlight.store.guard.bounds import Allowance, read_json, read_lines
from featlight.store.guard.drawn import DrawnFiles
from featlight.store.guard.run_folder import DEEPEST, RunFolder
from featlight.store.paths import OUTPUTS, OWN_NAMES, PLAN, PLAN_BYTES, PLAN_VALUES, TEXT_BYTES, RunPaths, is_run_name
from featlight.store.records import RecordLog, TileRecord, line_of


class Store(RunPaths):
    """A run directory as one worker uses it.

    Args:
        root: run directory; the first write creates it.
        worker: name of this worker's record file.
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
        """Return the run's plan; None if there is no run yet.

        Raises:
            UsageError: the plan is damaged.
            StorageError: the plan cannot be read.
        """
        path = self.root / PLAN
        try:
            content = read_json(self.folder, path, PLAN_BYTES, PLAN_VALUES)
            return None if content is None else read_plan(content.decode())
        except ValueError as error:
            raise UsageError(f"{path}: {error}; put back a copy of it, or give another --out") from None

    def need_plan(self, flag: str = "--out") -> Plan:
        """Return the plan of an existing run.

        Args:
            flag: flag that named the directory, for the message.

        Raises:
            UsageError: the directory holds no run, or its plan is damaged.
        """
        plan = self.plan()
        if plan is None:
            raise UsageError(f"{flag}: {self.root} holds no run")
        return plan

    def records(self) -> dict[str, TileRecord]:
        """Return the last record of each tile, by its file.

        Raises:
            StorageError: the records cannot be read, or are missing although tiles exist.
        """
        if self.lacks_records():
            path = self.root / "records"
            way_out = "put it back, or make an empty folder of that name to make all tiles again"
            raise StorageError(f"{path}: missing, though tiles exist; {way_out}")
        self._record_log.refresh()
        return dict(self._record_log.records)

    def lacks_records(self) -> bool:
        """Return whether tiles exist without the folder of records, which is made before the first tile."""
        if "records" in self.folder.names(self.root) or not self.folder.names(self.root / "tiles"):
            return False
        names = (name for _, _, names in walk(self.root / "tiles", deepest=DEEPEST) for name in names)
        return any(name.endswith(".png") and not name.startswith(".") for name in names)

    def record_log(self) -> RecordLog:
        """Return a separate reader that continues after the current records."""
        self._record_log.refresh()
        return self._record_log.copy()

    def made(self, plan: Plan, tiles: Iterable[PlannedTile], extras: Sequence[Extra] = ()) -> dict[str, TileRecord]:
        """Return the records of the tiles that this run made and whose files all exist, in the tiles' order.

        Args:
            plan: plan of the run.
            tiles: tiles to look up.
            extras: additional files that each tile must have.
        """
        records = self.records()
        digests = {variant: plan.digest(variant) for variant in plan.settings}
        recorded: dict[str, tuple[PlannedTile, TileRecord]] = {}
        for planned in tiles:
            record = records.get(planned.file)
            if record and record["status"] != "failed" and record.get("fingerprint") == digests[planned.variant]:
                recorded[planned.file] = planned, record
        needed = {
            file: [*self.parts(planned, plan), *self.extra_paths(planned, plan, extras)]
            for file, (planned, _) in recorded.items()
        }
        sizes = self.folder.sizes(path for paths in needed.values() for path in paths)
        return {
            file: record
            for file, (_, record) in recorded.items()
            if sizes.get(self.root / file, -1) == record["bytes"] and sizes.keys() >= set(needed[file])
        }

    def lacking_vectors(self, plan: Plan, numbers: Iterable[int]) -> set[int]:
        """Return the chunks whose vectors are missing; none for a run without any vectors, such as an exported zip.

        Args:
            plan: plan of the run.
            numbers: numbers of the chunks to look up.
        """
        if not self.folder.is_folder(self.root / "vectors" / "chunks"):
            return set()
        paths = {n: self.vector_path(plan.tiles[i].file for i in plan.chunks[n]) for n in numbers}
        existing = self.folder.sizes(paths.values())
        return {number for number, path in paths.items() if path not in existing}

    def outputs(self) -> list[str]:
        """Return the paths of derived files, from the run directory; invalid lines of the list are skipped.

        Raises:
            StorageError: the list cannot be read.
        """
        path = self.root / OUTPUTS
        try:
            with self.folder.open(path, TEXT_BYTES) as file:
                names = [name for _, name in read_lines(file, _output, Allowance(self.folder, path))]
        except FileNotFoundError:
            return []
        return [name for name in names if name is not None]

    # Writing

    def check_writable(self) -> None:
        """Check that a run can be written here, and delete temporary files of processes that no longer exist.

        Raises:
            UsageError: the directory holds no run, but files that a run would overwrite.
            StorageError: the directory cannot be made or written to.
        """
        self._make()
        names = self.folder.names(self.root)
        taken = [name for name in OWN_NAMES if name in names]
        if taken and PLAN not in names:
            raise UsageError(f"{self.root} holds {taken[0]}, but no run ({PLAN}); give another --out")
        self.folder.probe()
        self.folder.remove_abandoned(OWN_NAMES)

    def _make(self) -> None:
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)

    def hold(self, plan: Plan) -> None:
        """From now on, refuse to write if the directory no longer holds this run."""
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
        """Raise Interrupted if the directory no longer holds the run of `hold`."""
        stamp = self.folder.stamp(self.root / PLAN)
        if self._held is None or (stamp is not None and stamp == self._stamp):
            return
        current = self.plan() if stamp is not None else None
        if current is None:
            raise Interrupted(f"{self.root}: the run was deleted; the same command starts it again")
        if not self._held.is_same_run(current):
            raise Interrupted(
                f"{self.root}: another run has replaced this one; nothing more is written, give another --out"
            )
        self._stamp = stamp

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of the run atomically."""
        with self._holding():
            self.folder.write(path, content)

    def write_output(self, name: str, content: bytes) -> None:
        """Write a file that is derived from tiles and records, and list it as the run's own.

        Raises:
            StorageError: the file cannot be written, and does not already have this content.
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
        """Create this worker's record file before its first tile, so that tiles without it show a loss."""
        with self._holding():
            self.folder.touch(self._record_file)

    def commit(self, png: bytes | None, record: TileRecord) -> None:
        """Write a tile, then its record.

        Args:
            png: encoded tile; None if it failed.
            record: record of the tile.
        """
        if png is not None:
            self.write(self.root / record["file"], png)
            record = {**record, "sha256": sha256(png).hexdigest(), "bytes": len(png)}
        with self._holding():
            self.folder.append_line(self._record_file, line_of(record))

    def write_plan(self, plan: Plan) -> None:
        """Write the plan of a new or extended run; a missing directory is created."""
        self._make()
        self.folder.write(self.root / PLAN, plan.to_json().encode())

    def extended_plan(self, plan: Plan) -> Plan:
        """Return a plan, merged with the tiles that another process has added to it on disk."""
        self.check_held()
        latest = self.plan()
        if latest is None or (latest == plan and latest.titles == plan.titles):
            return plan
        latest.take_up(plan)
        self.write_plan(latest)
        return latest

    def create_plan(self, plan: Plan) -> bool:
        """Write the plan of a new run atomically; return False if another process has written one first."""
        self._make()
        return self.folder.create(self.root / PLAN, plan.to_json().encode())


def _output(line: bytes) -> str | None:
    """Return the path in a line of the list of outputs; None if it is invalid."""
    name = line.decode(errors="replace").rstrip("\r\n")
    return name if is_run_name(name) else None
