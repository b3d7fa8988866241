"""The main job: make what is missing of a run, show it while it is made, and lay it out."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from featlight.commit import commit
from featlight.config import Config
from featlight.errors import Interrupted, UsageError
from featlight.job import Job, prepare
from featlight.module import ChunkResult, FeatureVisualizer
from featlight.plan import Plan
from featlight.progress import Progress
from featlight.render import is_rendered, render
from featlight.signals import Stop
from featlight.speech import say
from featlight.store import Record, Store
from featlight.tensorboard import TensorBoard
from featlight.tile import Tile


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    records: Mapping[str, Record]  # of every tile that was asked for and is there, by file
    wanted: int
    made: int
    dead: int  # among all that are there
    tiles_per_second: float  # 0 where none was made

    @property
    def failed(self) -> int:
        return self.wanted - len(self.records)

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


def make(config: Config, *, fresh: bool = False, stop: Stop | None = None) -> Outcome:
    """Make what a config asks for and its directory lacks.

    Args:
        config: settled.
        fresh: whether to delete the run that is there first.
        stop: asked before every step.

    Raises:
        FeatlightError: see its kinds.
    """
    assert config.out is not None
    stop = stop or Stop()
    store = Store(Path(config.out))
    job = prepare(config, None if fresh else store.plan())
    stop.check()
    if fresh:
        store.clear()
    job = settle(job, store, prepare)
    say(_header(job))
    return make_tiles(job, store, stop=stop)


def settle(job: Job, store: Store, prepare_again: Callable[[Config, Plan | None], Job]) -> Job:
    """Write the plan, or follow the one that another run has written here in the meantime.

    Args:
        job: prepared on what the directory held.
        store: of the run directory.
        prepare_again: makes the job anew on another run's plan; it refuses what does not fit.
    """
    store.check_writable()
    if job.known is None and store.create_plan(job.plan):
        return job
    now = store.plan()
    if now != job.known:
        job = prepare_again(job.config, now)
    store.write_plan(job.plan)
    return job


def make_tiles(job: Job, store: Store, *, stop: Stop, init: Tensor | None = None, quiet: bool = False) -> Outcome:
    """Descend, commit and render, given a prepared job whose plan is written."""
    plan, floats = job.plan, job.config.float_images
    store.write_output("config.yaml", _config_text(job.config, plan).encode())
    everything = store.made(plan, plan.tiles, with_floats=floats)
    wanted = {planned.file for planned in job.wanted}
    missing = wanted - everything.keys()
    numbers = [n for n, members in enumerate(plan.chunks) if any(plan.tiles[i].file in missing for i in members)]
    progress = Progress(len(missing), quiet=quiet)
    if numbers:
        board = TensorBoard(store, plan, everything)
        board.start(job.config.to_yaml())

        def on_chunk(result: ChunkResult) -> None:
            written = commit(result, plan, store, everything.keys(), floats=floats)
            progress.add(written)
            board.chunk(result, written, progress.tiles_per_second)

        try:
            descend(job, numbers, on_chunk, callbacks=[progress], before_step=stop.check, init=init)
        finally:
            progress.close()
            board.flush()
    latest = store.plan()
    if latest is not None and latest != plan:  # another run has asked for more in the meantime: show all of it
        latest.add(plan.tiles)
        store.write_plan(latest)
        plan = latest
    records = store.made(plan, job.wanted, with_floats=floats)
    outcome = Outcome(
        records=records,
        wanted=len(wanted),
        made=len(records.keys() & missing),
        dead=sum(record["status"] == "dead" for record in records.values()),
        tiles_per_second=progress.tiles_per_second if numbers else 0.0,
    )
    if numbers or not is_rendered(store, plan):
        render(store, plan)
    if numbers:
        board.finish(_summary(outcome, plan))
    return outcome


def render_again(out: Path) -> Plan:
    """Build the atlases and the page of a run again, without its network.

    Raises:
        UsageError: there is no run.
    """
    store = Store(out)
    plan = store.plan()
    if plan is None:
        raise UsageError(f"--render-only: {out} holds no run")
    store.check_writable()
    render(store, plan)
    return plan


def descend(
    job: Job,
    numbers: Sequence[int],
    on_chunk: Callable[[ChunkResult], None],
    *,
    callbacks: Sequence[L.Callback] = (),
    before_step: Callable[[], None],
    init: Tensor | None = None,
) -> None:
    """Run the descent of some of a plan's chunks with Lightning.

    Args:
        job: prepared.
        numbers: of the chunks.
        on_chunk: called with what each gave.
        callbacks: for the trainer.
        before_step: called before every step; what it raises ends the run.
        init: starting images for the tiles that the job wants, (3, H, W) or (N, 3, H, W).
    """
    module = FeatureVisualizer(
        job.network_at,
        [job.plan.chunk(number, job.settings) for number in numbers],
        job.first_maps,
        job.plan.batch_size,
        on_chunk,
        init=None if init is None else _own_starts(job, init),
        keep_octaves=job.config.keep_octaves,
        double=job.config.precision == "fp64",
        before_step=before_step,
    )
    with _quiet_lightning(), repeatable(job.plan.threads):
        trainer = L.Trainer(
            plugins=[LightningEnvironment()],  # one process, whatever the cluster's variables say
            accelerator="gpu" if job.device.type == "cuda" else job.device.type,
            devices=[job.device.index or 0] if job.device.type == "cuda" else 1,
            max_epochs=len(numbers),
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            logger=False,
            callbacks=list(callbacks),
            enable_checkpointing=False,  # the truth is on disk, tile by tile
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(module)
        except SystemExit:  # Lightning's own end on SIGTERM, which would be exit code 0
            before_step()
            raise Interrupted("stopped by a signal; the same command goes on from here") from None


def _own_starts(job: Job, init: Tensor) -> Callable[[Sequence[Tile]], Tensor]:
    """Each tile's own starting image, where there is one for each."""
    if init.ndim == 3:
        return lambda _: init
    place = {planned.tile: i for i, planned in enumerate(job.wanted)}
    return lambda tiles: init[[place[tile] for tile in tiles]]


@contextmanager
def repeatable(threads: int) -> Iterator[None]:
    """For a while, arithmetic that gives the same bits again: this many CPU threads, and on a GPU no TF32."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.get_num_threads(), matmul.allow_tf32
    torch.set_num_threads(threads)
    matmul.allow_tf32 = False
    try:
        with (
            cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.random.fork_rng(devices=[]),  # a network that draws, a functional dropout say, leaves the caller's
            torch.enable_grad(),
        ):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(before[0])
        matmul.allow_tf32 = before[1]


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """No hardware report and no tips in a user's first minute."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # lightning 2.6 with torch 2.14 and newer: its own use of torch's pytree
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _header(job: Job) -> str:
    layers = ", ".join(dict.fromkeys(term.layer for planned in job.wanted for term in planned.tile.terms))
    plan = job.plan
    threads = "1 CPU thread" if plan.threads == 1 else f"{plan.threads} CPU threads"
    return (
        f"{plan.network['model']} ({plan.network['weights']}), {layers}: {len(job.wanted)} tiles, "
        f"{plan.batch_size} at a time, on {job.device.type} with {threads}, into {job.config.out}"
    )


def _config_text(config: Config, plan: Plan) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in plan.versions.items())
    return f"# {versions}\n{config.to_yaml()}"


def _summary(outcome: Outcome, plan: Plan) -> dict[str, object]:
    return {
        "network": f"{plan.network['model']}, {plan.network['weights']}",
        "tiles": outcome.wanted,
        "made in this run": outcome.made,
        "dead": outcome.dead,
        "failed": outcome.failed,
        "tiles/s": f"{outcome.tiles_per_second:.2f}",
        "dead tiles": ", ".join(r["name"] for r in outcome.records.values() if r["status"] == "dead") or "none",
        "page": "index.html, in the run directory",
    }
