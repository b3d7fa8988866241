"""A run as it is found on disk: what all that is drawn or exported from it shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featlight.errors import FeatlightError, UsageError
from featlight.plan.plan import Plan
from featlight.store.records import TileRecord, status_of
from featlight.store.store import Store

State = Literal["ok", "dead", "failed", "missing"]


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
    records: Mapping[str, TileRecord]
    there: Mapping[str, TileRecord]

    @classmethod
    def of(cls, store: Store, plan: Plan) -> "Snapshot":
        """A run as it stands now."""
        records = store.records()
        there = {
            planned.file: records[planned.file]
            for planned in plan.tiles
            if status_of(records, planned.file) in ("ok", "dead") and (store.root / planned.file).is_file()
        }
        return cls(store, plan, records, there)

    def state(self, file: str) -> State:
        """What has become of a tile."""
        record = self.there.get(file)
        if record is not None:
            return record["status"]
        return "failed" if status_of(self.records, file) == "failed" else "missing"


def take_snapshot(out: Path) -> Snapshot:
    """A run that is to be exported.

    Args:
        out: the run directory.

    Raises:
        UsageError: there is no run, or it has no tile yet.
        FeatlightError: a tile is not of its record's size, or lies elsewhere.
    """
    store, root = Store(out), out.resolve()
    snapshot = Snapshot.of(store, store.need_plan())
    for file, record in snapshot.there.items():
        path = out / file
        if not path.resolve().is_relative_to(root):
            raise FeatlightError(f"{path}: it leads out of the run directory")
        if path.stat().st_size != record["bytes"]:
            raise FeatlightError(f"{path}: damaged; `featlight verify --repair` removes it")
    if not snapshot.there:
        raise UsageError(f"--out: {out} holds no tile yet; the run's own command makes them")
    return snapshot
