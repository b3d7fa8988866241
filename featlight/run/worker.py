"""The main job: make what is missing of a run, show it while it is made, and lay it out."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featlight.config.schema import Config
from featlight.console import say
from featlight.distributed.env import ALONE, Worker
from featlight.distributed.signals import Stop
from featlight.engine.setup import RunJob, prepare
from featlight.errors import listed
from featlight.objectives.directions import Directions
from featlight.objectives.own import Function
from featlight.plan.plan import Plan
from featlight.run.disk_space import check_room, expected_bytes
from featlight.run.follower import make_for_others
from featlight.run.monitor import Monitor
from featlight.run.outcome import Outcome
from featlight.run.shard import Shard
from featlight.store.deletion import Deletion
from featlight.store.records import RecordLog
from featlight.store.store import Store


def make(
    config: Config,
    *,
    worker: Worker = ALONE,
    fresh: bool = False,
    stop: Stop | None = None,
    record_log: RecordLog | None = None,
    others_gone: threading.Event | None = None,
    network: nn.Module | None = None,
    device: torch.device | None = None,
    init: Any = None,
    directions: Directions | None = None,
    objective: Function | None = None,
    threads: int = 0,
    quiet: bool = False,
) -> Outcome:
    """Make what a config asks for and its directory lacks: a worker's share of it.

    Args:
        config: settled, with a directory.
        worker: this one.
        fresh: whether to delete the run that is there first.
        stop: asked before every step.
        record_log: as it was when this process began; what has come since counts as made in this run.
        others_gone: set once the other workers have ended; None where nobody can tell.
        network: instead of loading the config's.
        device: instead of the config's.
        init: starting images as `starts_from` takes them, instead of the config's.
        directions: instead of the config's.
        objective: that the config names.
        threads: what a new plan takes for `auto`; 0 for what suits as many workers as there are cores.
        quiet: whether to say nothing.

    Raises:
        FeatlightError: see its kinds.
    """
    assert config.out is not None
    stop = stop or Stop()
    store = Store(Path(config.out), f"worker-{worker.rank}")
    prepare_here = partial(
        prepare,
        worker=worker,
        network=network,
        device=device,
        init=init,
        directions=directions,
        objective=objective,
        threads=threads,
    )
    if fresh:
        Deletion.from_store(store)  # what refuses it does so at once
    job = prepare_here(config, None if fresh else store.plan())
    stop.check()
    if fresh:
        _clear(store, job.plan, quiet=quiet)
    job = _settle(job, store, prepare_here, fresh=fresh)
    store.hold(job.plan)
    before = store.record_log() if fresh or record_log is None else record_log  # no record may come between
    share = Shard.for_worker(job, store)
    if worker.rank == 0 and not quiet:
        say(_header(job))
        say(f"input        {job.network.input_words}")
    if worker.world_size > 1:
        say(str(share))
    check_room(store.root, expected_bytes(job.plan, share.there, share.missing, job.config.extras))
    if worker.rank > 0:
        return make_for_others(share, stop, others_gone)
    store.write_output("config.yaml", _config_text(job.config, job.plan).encode())
    with Monitor(share, before, quiet=quiet) as monitor:
        share.make(stop, look=monitor.look, callbacks=[monitor.progress])
        monitor.follow(stop, others_gone)
        while (chunk := monitor.deserted()) is not None:
            chunk.make(stop, look=monitor.look, callbacks=[monitor.progress])
            monitor.look()
        return monitor.finish()


def _clear(store: Store, plan: Plan, *, quiet: bool) -> None:
    """Delete the run that is there, and say what; its plan stays until this one takes its place."""
    deletion = Deletion.from_store(store)
    parts = (path for planned in plan.tiles for path in store.parts(planned, plan))
    deletion.check_room_for({path.relative_to(store.root).as_posix() for path in parts})
    for line in [] if quiet else deletion.announcement():
        say(line)
    deletion.carry_out()


def _settle(
    job: RunJob, store: Store, prepare_again: Callable[[Config, Plan | None], RunJob], *, fresh: bool = False
) -> RunJob:
    """Write the plan, or follow the one that another worker has written here in the meantime.

    Args:
        job: prepared on what the directory held.
        store: of the run directory.
        prepare_again: makes the job anew on another worker's plan; it refuses what does not fit.
        fresh: whether the plan that is there has had its day.
    """
    store.check_writable()
    if fresh:
        store.begin_records()  # first: who waits for the plan is to find them
        store.write_plan(job.plan)
        return job
    if job.known is None and store.create_plan(job.plan):
        return job
    now = store.plan()
    if now == job.plan and now.titles == job.plan.titles:  # the other workers of a run settle it alike
        return job
    if now != job.known:
        job = prepare_again(job.config, now)
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
