"""A worker's main function: make the missing tiles of a run, report progress, and draw the page."""

import threading
from pathlib import Path

from featlight.config.schema import Config
from featlight.console import say
from featlight.distributed.env import ALONE, Worker
from featlight.distributed.signals import Stop
from featlight.engine.job import RunJob
from featlight.engine.setup import prepare
from featlight.errors import listed
from featlight.plan.plan import Plan
from featlight.plan.request import RunRequest
from featlight.run.disk_space import check_room, expected_bytes
from featlight.run.follower import make_for_others
from featlight.run.monitor import Monitor
from featlight.run.outcome import Outcome
from featlight.run.shard import Shard
from featlight.store.own_files import Deletion
from featlight.store.records import RecordLog
from featlight.store.store import Store


def make(
    request: RunRequest,
    *,
    worker: Worker = ALONE,
    stop: Stop | None = None,
    record_log: RecordLog | None = None,
    others_gone: threading.Event | None = None,
) -> Outcome:
    """Make a worker's share of the requested tiles that are missing.

    Args:
        request: config and Python objects of the call, with a run directory, which only the first worker deletes.
        worker: this worker.
        stop: stop request, checked before every step.
        record_log: record log in its state at the start of this process; later records count as made in this run.
        others_gone: set when the other workers have ended; None if there is no supervisor.

    Raises:
        FeatlightError: the run fails.
    """
    assert request.config.out is not None
    stop = stop or Stop()
    store = Store(Path(request.config.out), f"worker-{worker.rank}")
    fresh, quiet = request.fresh and worker.rank == 0, request.quiet
    if fresh:
        Deletion.from_store(store)  # fails early if deletion is refused
    job = prepare(request, None if fresh else store.plan(), worker)
    stop.check()
    if fresh:
        _clear(store, job.plan, quiet=quiet)
    job = _write_or_adopt_plan(job, store, fresh=fresh)
    store.hold(job.plan)
    before = store.record_log() if fresh or record_log is None else record_log  # no record may come between
    share = Shard.for_worker(job, store)
    if worker.rank == 0 and not quiet:
        say(_header(job))
        say(f"input        {job.network.input_description}")
    if worker.world_size > 1:
        say(str(share))
    check_room(store.root, expected_bytes(job.plan, share.existing, share.missing, job.config.extras))
    if worker.rank > 0:
        return make_for_others(share, stop, others_gone)
    store.write_output("config.yaml", _config_text(job.config, job.plan).encode())
    with Monitor(share, before, quiet=quiet) as monitor:
        share.make(stop, look=monitor.look, callbacks=[monitor.progress])
        monitor.follow(stop, others_gone)
        while (chunk := monitor.abandoned_chunk()) is not None:
            chunk.make(stop, look=monitor.look, callbacks=[monitor.progress])
            monitor.look()
        return monitor.finish()


def _clear(store: Store, plan: Plan, *, quiet: bool) -> None:
    """Delete the existing run and print a list; its plan stays until the new one replaces it."""
    deletion = Deletion.from_store(store)
    parts = (path for planned in plan.tiles for path in store.parts(planned, plan))
    deletion.check_room_for({path.relative_to(store.root).as_posix() for path in parts})
    for line in [] if quiet else deletion.announcement():
        say(line)
    deletion.carry_out()


def _write_or_adopt_plan(job: RunJob, store: Store, *, fresh: bool) -> RunJob:
    """Write the plan, or adopt the plan that another worker has written in the meantime.

    Args:
        job: job that was prepared from the previous content of the directory.
        store: store of the run.
        fresh: whether the plan on disk is obsolete.
    """
    store.check_writable()
    if fresh:
        store.begin_records()  # first: workers that wait for the plan need them
        store.write_plan(job.plan)
        return job
    if job.known is None and store.create_plan(job.plan):
        return job
    current = store.plan()
    if current == job.plan and current.titles == job.plan.titles:  # another worker of this run has written it
        return job
    if current != job.known:
        job = prepare(job.request, current, job.worker)
    store.write_plan(job.plan)
    return job


def _config_text(config: Config, plan: Plan) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in plan.versions.items())
    return f"# {versions}\n{config.to_yaml()}"


def _header(job: RunJob) -> str:
    layers = listed(dict.fromkeys(term.layer for planned in job.wanted for term in planned.tile.terms))
    plan = job.plan
    threads = "1 CPU thread" if plan.threads == 1 else f"{plan.threads} CPU threads"
    graphs = "compiled" if job.config.compile == "on" else "not compiled"
    return (
        f"{plan.network.model} ({plan.network.weights}), {layers}: {len(job.wanted)} tiles, "
        f"{plan.largest_batch} at a time, {job.config.precision}, {graphs}, on {job.device.type} with {threads}, "
        f"into {job.config.out}"
    )
