"""The outcome of a run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from featlight.engine.job import RunJob
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.records import TileRecord, failed_of
from featlight.store.store import Store


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: of all tiles for the first worker, of its own share for another one.

    Args:
        tiles: requested tiles, in order.
        records: records of the tiles that exist, by file.
        failed: reasons of failed tiles, by file.
        missing: files of the other tiles that do not exist: some worker's share was not made.
        made: number of tiles that this run made.
        tiles_per_second: speed of the run; 0 if no tile was made.
    """

    tiles: Sequence[PlannedTile]
    records: Mapping[str, TileRecord]
    failed: Mapping[str, str | None]
    missing: Sequence[str]
    made: int
    tiles_per_second: float

    @property
    def dead(self) -> int:
        """Number of dead tiles."""
        return sum(record["status"] == "dead" for record in self.records.values())


def outcome_of(
    job: RunJob, store: Store, asked: Collection[str], new: Collection[str] = (), tiles_per_second: float = 0.0
) -> Outcome:
    """Return the outcome for some tiles of a job.

    Args:
        job: job of the run.
        store: store of the run.
        asked: files of the tiles to look up.
        new: files of the tiles that were missing at the start.
        tiles_per_second: speed of the run.
    """
    tiles = [planned for planned in job.wanted if planned.file in asked]
    made = store.made(job.plan, tiles, job.config.extras)
    lost = [planned.file for planned in tiles if planned.file not in made]
    records = store.records()
    failed = failed_of(records, lost)
    missing = [file for file in lost if file not in failed]
    return Outcome(tiles, made, failed, missing, len(made.keys() & set(new)), tiles_per_second)


def summary(outcome: Outcome, plan: Plan) -> dict[str, object]:
    """Return the summary of a run, for a table."""
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
