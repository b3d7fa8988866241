"""A run directory: atomic tiles, one fsynced line of record each, and nothing lost when a process dies."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from featlight.config.schema import Extra
from featlight.errors import StorageError, UsageError
from featlight.plan.plan import Plan, Planned
from featlight.store.atomic import OURS, append_line, create_file, storage_errors, write_file
from featlight.store.paths import OUTPUTS, OWN_NAMES, PLAN, RunPaths
from featlight.store.records import RecordLog, TileRecord, line_of


class Store(RunPaths):
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
            StorageError: it cannot be read.
        """
        path = self.root / PLAN
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from None
        try:
            return Plan.from_json(text)
        except ValueError as error:
            raise UsageError(f"{path}: {error}; remove it to start again there") from None

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
        """The last record of each tile, by its file; a made tile beats a failed one."""
        self._record_log.refresh()
        return dict(self._record_log.records)

    def record_log(self) -> RecordLog:
        """Another reader of the records, which stands at what is there now, for one who follows them as they grow."""
        self._record_log.refresh()
        return self._record_log.copy()

    def made(self, plan: Plan, tiles: Iterable[Planned], extras: Sequence[Extra] = ()) -> dict[str, TileRecord]:
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
            if not path.is_file() or path.stat().st_size != record["bytes"]:
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
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{OURS}.tmp"
            probe.write_bytes(b"")
            probe.unlink()

    def write_output(self, name: str, content: bytes) -> None:
        """A file that is made from tiles and records, noted as the run's own."""
        self.note_output(name)
        write_file(self.root / name, content)

    def note_output(self, name: str) -> None:
        path = self.root / OUTPUTS
        if name not in self.outputs():
            with storage_errors(path), path.open("a", encoding="utf-8") as file:
                file.write(name + "\n")

    def commit(self, png: bytes | None, record: TileRecord) -> None:
        """Write a tile, then the line that says so.

        Args:
            png: the tile; None where it failed.
            record: its `file` names the tile.
        """
        if png is not None:
            write_file(self.root / record["file"], png)
            record = {**record, "sha256": sha256(png).hexdigest(), "bytes": len(png)}
        append_line(self._record_file, line_of(record))

    def write_plan(self, plan: Plan) -> None:
        write_file(self.root / PLAN, plan.to_json().encode())

    def extended_plan(self, plan: Plan) -> Plan:
        """A plan, or what another run has made of it in the meantime, so that all of it is shown."""
        latest = self.plan()
        if latest is None or latest == plan:
            return plan
        latest.add(plan.tiles)
        self.write_plan(latest)
        return latest

    def create_plan(self, plan: Plan) -> bool:
        """Write the plan of a new run, whole or not at all; False where another run has come first."""
        return create_file(self.root / PLAN, plan.to_json().encode())
