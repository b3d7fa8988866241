"""A run as it is found on disk: what all that is drawn or exported from it shares."""

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
    """A run, and which of its tiles are there.

    Args:
        store: of the run.
        plan: of the run.
        records: by file.
        there: those of the tiles that are there, with their transparencies where they have any, in the plan's order.
    """

    store: Store
    plan: Plan
    records: Mapping[str, TileRecord]
    there: Mapping[str, TileRecord]

    @classmethod
    def from_store(cls, store: Store, plan: Plan) -> "Snapshot":
        """A run as it stands now."""
        records = store.records()
        made = [planned for planned in plan.tiles if status_of(records, planned.file) in ("ok", "dead")]
        parts = {planned.file: list(store.parts(planned, plan)) for planned in made}
        sizes = store.folder.sizes(path for paths in parts.values() for path in paths)
        there = {file: records[file] for file, paths in parts.items() if sizes.keys() >= set(paths)}
        return cls(store, plan, records, there)

    def state(self, file: str) -> TileState:
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
        FeatlightError: a tile is not of its record's size, or a link or the like stands in its place.
    """
    store = Store(out)
    snapshot = Snapshot.from_store(store, store.need_plan())
    plan = snapshot.plan
    sizes = store.folder.sizes(path for planned in plan.tiles for path in store.parts(planned, plan))
    for planned in plan.tiles:
        path, record = out / planned.file, snapshot.there.get(planned.file)
        vouched = status_of(snapshot.records, planned.file) in ("ok", "dead")
        for strange in store.parts(planned, plan) if vouched else ():
            if strange not in sizes and os.path.lexists(strange):
                what = "no regular file of the run directory; what lies behind a link is not taken"
                raise FeatlightError(f"{strange}: {what}")
        if record is not None and sizes.get(path) != record["bytes"]:
            raise FeatlightError(f"{path}: damaged; `featlight verify --repair` removes it")
    if not snapshot.there:
        raise UsageError(f"--out: {out} holds no tile yet; the run's own command makes them")
    return snapshot
