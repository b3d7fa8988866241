"""Make a run from the command line: start and supervise workers, and print the summary."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from featlight.config.schema import Config
from featlight.console import lacking, link, say
from featlight.distributed.env import LAUNCHER, Launch, Worker, launch_from_env, worker_from_env
from featlight.distributed.launcher import Supervisor, check_gpus, exit_code, listen, stamp, workers_of
from featlight.distributed.signals import Stop
from featlight.errors import FeatlightError, Interrupted, UsageError, plural
from featlight.plan.batching import fewest_chunks
from featlight.plan.request import RunRequest
from featlight.store.paths import PLAN
from featlight.store.records import TileRecord
from featlight.store.store import Store


def launch_of(config: Config) -> Launch:
    auto = partial(workers_of, config.accelerator, fewest_chunks(config))
    return launch_from_env(config.devices, config.num_nodes, os.environ, auto)


def make_run(request: RunRequest, stop: Stop, command: Sequence[str]) -> int:
    """Make a run or this worker's share of it, or start several workers; return the exit code."""
    config, fresh = request.config, request.fresh
    assert config.out is not None
    first = worker_from_env(os.environ).rank == 0
    store = Store(Path(config.out))
    record_log = store.record_log()  # read it before other workers can add records
    if not fresh and _is_finished(config, store, speak=first):
        return 0
    launch = launch_of(config)
    worker = launch.worker
    if fresh and worker.world_size > 1 and worker.launcher != LAUNCHER:
        raise UsageError(
            f"--fresh: given to {worker.world_size} workers, which would delete each other's work; give another --out, "
            "or delete the run"
        )
    if launch.local > 1:
        check_gpus(config.accelerator, launch.local)
        return _supervise(config, stop, command, launch.workers, fresh=fresh)
    alone = listen(stop) if worker.launcher == LAUNCHER else None
    from featlight.run.worker import make

    outcome = make(request, worker=worker, stop=stop, record_log=record_log, others_gone=alone)
    if worker.rank == 0:
        records, rate = outcome.records.values(), outcome.tiles_per_second
        last_lines(store, made=outcome.made, present=records, failed=outcome.failed, rate=rate)
        if outcome.missing:
            raise Interrupted(lacking(outcome.missing, len(outcome.tiles)))
    return 1 if outcome.failed else Interrupted.exit_code if outcome.missing else 0


def _is_finished(config: Config, store: Store, *, speak: bool = True) -> bool:
    from featlight.run.resume import finished

    records = finished(config, store)
    if records is not None and speak:
        last_lines(store, made=0, present=records.values(), failed={}, rate=0.0)
    return records is not None


def _supervise(config: Config, stop: Stop, command: Sequence[str], workers: Sequence[Worker], *, fresh: bool) -> int:
    assert config.out is not None
    store = Store(Path(config.out))
    plan = store.root / PLAN
    before = stamp(plan)
    supervisor = Supervisor(command, workers, stop)
    # the first worker deletes the old run before the others start
    supervisor.run(hold=lambda: fresh and stamp(plan) in (None, before))
    code = exit_code(supervisor.codes, workers[0].rank)
    if code == 0 and stamp(plan) is None:
        raise FeatlightError(f"{config.model}: its own code ended the workers before they wrote a plan")
    if code == Interrupted.exit_code and supervisor.codes[workers[0].rank] != code and stop.asked_by is None:
        if _is_finished(config, store):  # the other workers finished the run
            return 0
        current = store.plan()
        files = [] if current is None else [planned.file for planned in current.tiles]
        made = {} if current is None else store.made(current, current.tiles)
        raise Interrupted(lacking([file for file in files if file not in made], len(files)))
    return code


def last_lines(
    store: Store, *, made: int, present: Collection[TileRecord], failed: Mapping[str, str | None], rate: float
) -> None:
    """Print the number of tiles, the reasons of failures, and the locations of atlas, page and log."""
    from featlight.report.sections import sections

    dead = sum(record["status"] == "dead" for record in present)
    speed = f"; {rate:.2f} tiles/s" if made else ""
    total = len(present) + len(failed)
    say(f"{plural(total, 'tile')}: {made} made, {len(present) - made} kept, {dead} dead, {len(failed)} failed{speed}")
    for reason, count in Counter(failed.values()).most_common(5):
        say(f"failed       {count}: {reason or 'no reason recorded'}")
    plan = store.need_plan()
    if plan.network.asked == "none":
        say(f"note         {plan.network.weights}: these features were never trained")
    files = {record["file"] for record in present}
    for section in sections(plan):
        if files & {planned.file for planned in section.tiles}:
            say("atlas        ", link(store.root / section.atlas))
    say("page         ", link(store.root / "index.html"))
    if store.folder.is_folder(store.root / "tensorboard"):
        say("TensorBoard  tensorboard --logdir ", link(store.root / "tensorboard"))
