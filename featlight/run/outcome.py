"""How a run ended."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from featlight.engine.setup import RunJob
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.records import TileRecord, failed_of
from featlight.store.store import Store


@dataclass(frozen=True)
class Outcome:
    """How a run ended: for the first worker all of it, for another one its own share.

    Args:
        tiles: that were asked for, in order.
        records: of every one of them that is there, by file.
        failed: reasons of the tiles whose last try has failed, by file.
        missing: files of the others that are not there: some worker's share was not made.
        made: how many were made by this run.
        tiles_per_second: 0 where none was made.
    """

    tiles: Sequence[PlannedTile]
    records: Mapping[str, TileRecord]
    failed: Mapping[str, str | None]
    missing: Sequence[str]
    made: int
    tiles_per_second: float

    @property
    def dead(self) -> int:
        """Among all that are there."""
        return sum(record["status"] == "dead" for record in self.records.values())


def outcome_of(
    job: RunJob, store: Store, asked: Collection[str], new: Collection[str] = (), tiles_per_second: float = 0.0
) -> Outcome:
    """How it stands with some tiles of a job.

    Args:
        job: of the run.
        store: of the run.
        asked: files of the tiles.
        new: files of those that were missing at the start.
        tiles_per_second: of the run.
    """
    tiles = [planned for planned in job.wanted if planned.file in asked]
    made = store.made(job.plan, tiles, job.config.extras)
    lost = [planned.file for planned in tiles if planned.file not in made]
    records = store.records()
    failed = failed_of(records, lost)
    missing = [file for file in lost if file not in failed]
    return Outcome(tiles, made, failed, missing, len(made.keys() & set(new)), tiles_per_second)


def summary(outcome: Outcome, plan: Plan) -> dict[str, object]:
    """A run's last words, for a table."""
    dead = [str(record["name"]) for record in outcome.records.values() if record["status"] == "dead"]
    return {
        "network": f"{plan.network.model}, {plan.network.weights}",
        "tiles": len(outcome.tiles),
        "made in this run": outcome.made,
        "dead": outcome.dead,
        "failed": len(outcome.failed),
        "missing": len(outcome.missing),
        "tiles/s": f"{outcome.tiles_per_second:.2f}",
        "dead tiles": ", ".join(dead) or "none",
        "page": "index.html, in the run directory",
    }
