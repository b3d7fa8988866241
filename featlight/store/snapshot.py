"""What a run has made, as it is found on disk: the one view that everything exported from it shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from featlight.errors import FeatlightError, UsageError
from featlight.plan.plan import Plan
from featlight.store.records import Record
from featlight.store.store import Store


@dataclass(frozen=True)
class Snapshot:
    """A run, and which of its tiles are there.

    Args:
        store: of the run.
        plan: of the run.
        records: by file.
        there: those of the tiles whose pictures are there, in the plan's order.
    """

    store: Store
    plan: Plan
    records: Mapping[str, Record]
    there: Mapping[str, Record]

    def state(self, file: str) -> str:
        """What has become of a tile: ok, dead, failed or missing."""
        if file in self.there:
            return str(self.there[file]["status"])
        return "failed" if self.records.get(file, {}).get("status") == "failed" else "missing"


def take_snapshot(out: Path) -> Snapshot:
    """Look what there is.

    Args:
        out: the run directory.

    Raises:
        UsageError: there is no run, or it has no tile yet.
        FeatlightError: a tile is not of its record's size, or lies elsewhere.
    """
    store = Store(out)
    plan = store.plan()
    if plan is None:
        raise UsageError(f"--out: {out} holds no run")
    records, there, root = store.records(), {}, out.resolve()
    for planned in plan.tiles:
        record, path = records.get(planned.file), out / planned.file
        if record is None or record["status"] == "failed" or not path.is_file():
            continue
        if not path.resolve().is_relative_to(root):
            raise FeatlightError(f"{path}: it leads out of the run directory")
        if path.stat().st_size != record.get("bytes"):
            raise FeatlightError(f"{path}: damaged; `featlight verify --repair` removes it")
        there[planned.file] = record
    if not there:
        raise UsageError(f"--out: {out} holds no tile yet; the run's own command makes them")
    return Snapshot(store, plan, records, there)
