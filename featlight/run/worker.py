"""The main job: make what is missing of a run, show it while it is made, and lay it out."""

import logging
import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from featlight.config.schema import Config
from featlight.console import say
from featlight.distributed.env import ALONE, Worker
from featlight.distributed.signals import Stop
from featlight.engine.chunk_result import ChunkResult
from featlight.engine.progress import Progress
from featlight.engine.setup import Job, prepare
from featlight.engine.trainer import descend
from featlight.errors import FeatlightError
from featlight.plan.plan import Plan
from featlight.report.build import is_rendered, render
from featlight.run.background_writer import BackgroundWriter
from featlight.run.commit import commit
from featlight.run.disk_space import check_room, expected_bytes
from featlight.run.monitor import Monitor
from featlight.store.heartbeat import Heartbeat
from featlight.store.records import RecordLog
from featlight.store.store import Record, Store

log = logging.getLogger("featlight")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: for the first worker all of it, for another one its own share."""

    records: Mapping[str, Record]  # of every tile that was asked for and is there, by file
    failed: Sequence[str]  # files of the tiles whose last try has failed
    missing: Sequence[str]  # files of the others that are not there: some worker's share was not made
    made: int
    tiles_per_second: float  # 0 where none was made

    @property
    def wanted(self) -> int:
        return len(self.records) + len(self.failed) + len(self.missing)

    @property
    def dead(self) -> int:
        """Among all that are there."""
        return sum(record["status"] == "dead" for record in self.records.values())


def make(
    config: Config,
    *,
    worker: Worker = ALONE,
    fresh: bool = False,
    stop: Stop | None = None,
    record_log: RecordLog | None = None,
    others_gone: threading.Event | None = None,
) -> Outcome:
    """Make what a config asks for and its directory lacks: a worker's share of it.

    Args:
        config: settled.
        worker: this one.
        fresh: whether to delete the run that is there first.
        stop: asked before every step.
        record_log: as it was when this process began; what has come since counts as made in this run.
        others_gone: set once the other workers have ended; None where nobody can tell.

    Raises:
        FeatlightError: see its kinds.
    """
    assert config.out is not None
    stop = stop or Stop()
    store = Store(Path(config.out), f"worker-{worker.rank}")
    prepare_here = partial(prepare, worker=worker)
    job = prepare_here(config, None if fresh else store.plan())
    stop.check()
    if fresh:
        store.clear()
    job = settle(job, store, prepare_here)
    if worker.rank == 0:
        say(_header(job))
    return make_tiles(job, store, stop=stop, record_log=None if fresh else record_log, others_gone=others_gone)


def settle(job: Job, store: Store, prepare_again: Callable[[Config, Plan | None], Job]) -> Job:
    """Write the plan, or follow the one that another worker has written here in the meantime.

    Args:
        job: prepared on what the directory held.
        store: of the run directory.
        prepare_again: makes the job anew on another worker's plan; it refuses what does not fit.
    """
    store.check_writable()
    if job.known is None and store.create_plan(job.plan):
        return job
    now = store.plan()
    if now == job.plan:  # the other workers of a run settle it alike
        return job
    if now != job.known:
        job = prepare_again(job.config, now)
    store.write_plan(job.plan)
    return job


def make_tiles(
    job: Job,
    store: Store,
    *,
    stop: Stop,
    init: Tensor | None = None,
    quiet: bool = False,
    record_log: RecordLog | None = None,
    others_gone: threading.Event | None = None,
) -> Outcome:
    """Descend, commit and render, given a prepared job whose plan is written."""
    plan, worker, extras = job.plan, job.worker, job.config.extras
    record_log = record_log or store.record_log()
    there = store.made(plan, plan.tiles, extras)
    missing = {planned.file for planned in job.wanted} - there.keys()
    numbers = plan.share(worker.rank, worker.world_size, missing)
    if worker.world_size > 1:
        say(_share(job, numbers))
    check_room(store.root, expected_bytes(plan, there, missing, extras))
    examples = {file for files in plan.examples().values() for file in files}

    def work(look: Callable[[], object], callbacks: Sequence[Progress] = ()) -> None:
        if not numbers:
            return

        def finish(result: ChunkResult) -> None:
            try:
                commit(result, plan, store, there.keys(), extras, examples)
            except MemoryError as error:  # another batch size would not help
                raise FeatlightError(
                    f"no memory to write {result.chunk.tiles[0].name} and its chunk ({error})"
                ) from None
            look()

        with BackgroundWriter() as writer:
            descend(
                job,
                numbers,
                lambda result: writer.submit(partial(finish, result)),
                callbacks=callbacks,
                before_step=stop.check,
                init=init,
            )

    if worker.rank > 0:
        work(lambda: None)
        if numbers and not _outcome(job, store, missing).missing:
            render(store, _newest(store, plan))  # whoever commits the last tile draws
        return _outcome(job, store, {plan.tiles[i].file for n in numbers for i in plan.chunks[n]} & missing)

    store.write_output("config.yaml", _config_text(job.config, plan).encode())
    heartbeat = Heartbeat(store.root)
    other = heartbeat.other()
    if other is not None:
        log.warning(
            "%s seems to be at work in %s too: both make the same tiles, nothing but time is lost", other, store.root
        )
    before = {file: record for file, record in there.items() if record_log.has_made(file)}
    missing = {planned.file for planned in job.wanted} - before.keys()  # now with what others have made meanwhile
    with heartbeat:
        view = Monitor(store, plan, record_log, before, missing, heartbeat, quiet=quiet)
        if missing:
            view.board.start(job.config.to_yaml())
        view.look()
        view.progress.early = view.progress.done
        try:
            work(view.look, [view.progress])
            last = not view.pending or worker.world_size == 1
            if not last:
                view.follow(stop, others_gone)
        finally:
            view.progress.close()
        newest = _newest(store, plan)
        if (last and numbers) or not is_rendered(store, newest):
            render(store, newest)
        rate = view.progress.tiles_per_second if missing else 0.0
        outcome = _outcome(job, store, {planned.file for planned in job.wanted}, missing, rate)
        if missing:
            view.board.finish(_summary(outcome, newest))
    return outcome


def _newest(store: Store, plan: Plan) -> Plan:
    """The plan, or what another run has made of it in the meantime, so that all of it is shown."""
    latest = store.plan()
    if latest is None or latest == plan:
        return plan
    latest.add(plan.tiles)
    store.write_plan(latest)
    return latest


def _outcome(
    job: Job, store: Store, asked: Collection[str], new: Collection[str] = (), tiles_per_second: float = 0.0
) -> Outcome:
    """How it stands with those tiles, of which some were missing at the start."""
    wanted = [planned for planned in job.wanted if planned.file in asked]
    records = store.made(job.plan, wanted, job.config.extras)
    lost = [planned.file for planned in wanted if planned.file not in records]
    last = store.records()
    failed = [file for file in lost if last.get(file, {}).get("status") == "failed"]
    missing = [file for file in lost if file not in failed]
    return Outcome(records, failed, missing, len(records.keys() & set(new)), tiles_per_second)


def _header(job: Job) -> str:
    layers = ", ".join(dict.fromkeys(term.layer for planned in job.wanted for term in planned.tile.terms))
    plan = job.plan
    threads = "1 CPU thread" if plan.threads == 1 else f"{plan.threads} CPU threads"
    graphs = "compiled" if job.config.compile == "on" else "not compiled"
    return (
        f"{plan.network.model} ({plan.network.weights}), {layers}: {len(job.wanted)} tiles, "
        f"{plan.batch_size} at a time, {job.config.precision}, {graphs}, on {job.device.type} with {threads}, "
        f"into {job.config.out}"
    )


def _share(job: Job, numbers: Sequence[int]) -> str:
    worker, dealt = job.worker, len(range(job.worker.rank, len(job.plan.chunks), job.worker.world_size))
    return (
        f"worker {worker.rank + 1} of {worker.world_size} on {socket.gethostname()}, {job.device}: "
        f"{dealt} of {len(job.plan.chunks)} chunks, {len(numbers)} of them to be made"
    )


def _config_text(config: Config, plan: Plan) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in plan.versions.items())
    return f"# {versions}\n{config.to_yaml()}"


def _summary(outcome: Outcome, plan: Plan) -> dict[str, object]:
    return {
        "network": f"{plan.network.model}, {plan.network.weights}",
        "tiles": outcome.wanted,
        "made in this run": outcome.made,
        "dead": outcome.dead,
        "failed": len(outcome.failed),
        "missing": len(outcome.missing),
        "tiles/s": f"{outcome.tiles_per_second:.2f}",
        "dead tiles": ", ".join(r["name"] for r in outcome.records.values() if r["status"] == "dead") or "none",
        "page": "index.html, in the run directory",
    }
