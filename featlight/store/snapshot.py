"""A consistent view of a run on disk, shared by all pictures and exports that are made from it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featlight.errors import FeatlightError, UsageError
from featlight.plan.plan import Plan
from featlight.store.records import TileRecord, status_of
from featlight.store.store import Store

TileState = Literal["ok", "dead", "failed", "missing"]


@dataclass(frozen=True)
class Snapshot:
    """A run and its existing tiles.

    Args:
        store: store of the run.
        plan: plan of the run.
        records: last record of each tile, by file.
        there: records of the tiles whose files exist, by file, in the plan's order.
    """

    store: Store
    plan: Plan
    records: Mapping[str, TileRecord]
    there: Mapping[str, TileRecord]

    @classmethod
    def from_store(cls, store: Store, plan: Plan) -> "Snapshot":
        """Read the current state of a run."""
        records = store.records()
        made = [planned for planned in plan.tiles if status_of(records, planned.file) in ("ok", "dead")]
        parts = {planned.file: list(store.parts(planned, plan)) for planned in made}
        sizes = store.folder.sizes(path for paths in parts.values() for path in paths)
        there = {file: records[file] for file, paths in parts.items() if sizes.keys() >= set(paths)}
        return cls(store, plan, records, there)

    def state(self, file: str) -> TileState:
        """Return the state of a tile, given its file."""
        record = self.there.get(file)
        if record is not None:
            return record["status"]
        return "failed" if status_of(self.records, file) == "failed" else "missing"


def take_snapshot(out: Path) -> Snapshot:
    """Return the state of a run that is to be exported.

    Args:
        out: run directory.

    Raises:
        UsageError: the directory holds no run, or no tile yet.
        FeatlightError: a tile differs in size from its record, or is no regular file.
    """
    store = Store(out)
    snapshot = Snapshot.from_store(store, store.need_plan())
    plan = snapshot.plan
    sizes = store.folder.sizes(path for planned in plan.tiles for path in store.parts(planned, plan))
    for planned in plan.tiles:
        path, record = out / planned.file, snapshot.there.get(planned.file)
        was_made = status_of(snapshot.records, planned.file) in ("ok", "dead")
        for part in store.parts(planned, plan) if was_made else ():
            if part not in sizes and os.path.lexists(part):
                raise FeatlightError(f"{part}: no regular file; links are not followed, copy the file in its place")
        if record is not None and sizes.get(path) != record["bytes"]:
            raise FeatlightError(f"{path}: damaged; `featlight verify --repair` removes it")
    if not snapshot.there:
        raise UsageError(f"--out: {out} holds no tile yet; run the command that made it again")
    return snapshot
