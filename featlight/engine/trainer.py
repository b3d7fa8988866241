"""Optimize the chunks of a plan with Lightning's trainer."""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import lightning as L
import torch

from featlight.engine.chunk_result import ChunkResult, OtherNetworkError, joined
from featlight.engine.device import is_out_of_memory, repeatable
from featlight.engine.job import RunJob
from featlight.engine.module import FeatureVisualizer
from featlight.engine.strategy import IndependentWorkers, WorkerEnvironment
from featlight.errors import StorageError, UsageError
from featlight.plan.plan import Chunk

log = logging.getLogger("featlight")


def descend(
    job: RunJob,
    numbers: Sequence[int],
    on_chunk: Callable[[ChunkResult], None],
    *,
    callbacks: Sequence[L.Callback] = (),
    before_step: Callable[[], None],
) -> None:
    """Optimize some chunks of a plan; halve the batch if memory runs out.

    Args:
        job: prepared run.
        numbers: numbers of the chunks.
        on_chunk: function that takes the result of each chunk.
        callbacks: callbacks of the trainer.
        before_step: function called before every step; its exceptions end the run.

    If the rewritten network differs from the original on a chunk's images, that chunk alone is recomputed with the
    original. So its bits depend neither on earlier chunks nor on the number of workers.

    Raises:
        UsageError: the original network too has changed its output during the run.
        StorageError: memory does not suffice for one image, or for the faces of one feature.
    """
    left = [job.plan.chunk(number, job.settings) for number in numbers]
    batch_size = max((chunk.batch_size for chunk in left), default=1)
    unchanged: set[int] = set()

    def done(result: ChunkResult) -> None:
        left.pop(0)
        on_chunk(result)

    while left:
        try:
            _fit(job, list(left), batch_size, unchanged, done, callbacks=callbacks, before_step=before_step)
            break
        except OtherNetworkError as error:
            _go_on_unchanged(job, left[0], error.layer, unchanged)
            continue
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            fewest = left[0].settings.diversity
            if batch_size // 2 < fewest:
                images = "one image" if fewest == 1 else f"the {fewest} images of a feature"
                raise StorageError(f"no memory for {images} of {left[0].layers[0]} ({error})") from None
        log.warning(
            "no memory for %d images at a time: continuing with half as many, which changes the bits", batch_size
        )
        batch_size //= 2
        gc.collect()
        torch.cuda.empty_cache()


def _go_on_unchanged(job: RunJob, chunk: Chunk, layer: str, unchanged: set[int]) -> None:
    """Mark a chunk for recomputation with the original network; log the first one."""
    name = job.plan.network.model
    if chunk.number in unchanged:
        raise UsageError(
            f"layer {layer!r} in {name}: the same images give another output after the last step: "
            "it keeps state from call to call"
        )
    if not unchanged:
        log.warning(
            "%s: the rewritten network differs from the original at %s, on the final images: such chunks are "
            "recomputed with the original, which is slower",
            name,
            layer,
        )
    unchanged.add(chunk.number)


def _fit(
    job: RunJob,
    chunks: Sequence[Chunk],
    batch_size: int,
    unchanged: Collection[int],
    on_chunk: Callable[[ChunkResult], None],
    *,
    callbacks: Sequence[L.Callback],
    before_step: Callable[[], None],
) -> None:
    parts = [part for chunk in chunks for part in chunk.parts(batch_size)]
    whole = {chunk.number: chunk for chunk in chunks}
    waiting: list[ChunkResult] = []

    def on_part(result: ChunkResult) -> None:
        waiting.append(result)
        chunk = whole[result.chunk.number]
        if sum(len(part.chunk.tiles) for part in waiting) == len(chunk.tiles):
            on_chunk(waiting[0] if len(waiting) == 1 else joined(waiting, chunk))
            waiting.clear()

    module = FeatureVisualizer(job, parts, batch_size, on_part, unchanged=unchanged, before_step=before_step)
    with _quiet_lightning(), repeatable(job.plan.threads):
        trainer = L.Trainer(
            strategy=IndependentWorkers.strategy_name,
            plugins=[WorkerEnvironment(job.worker)],  # whatever the cluster's own variables say
            accelerator="gpu" if job.device.type == "cuda" else job.device.type,
            devices=[job.device.index or 0] if job.device.type == "cuda" else 1,
            default_root_dir=job.config.out or os.devnull,  # under SLURM, Lightning looks there for a checkpoint
            max_epochs=len(parts),
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            logger=False,
            callbacks=list(callbacks),
            enable_checkpointing=False,  # the truth is on disk, tile by tile
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        # Lightning would end the run on SIGTERM, beside whoever hears signals: `Stop`, or the caller's own handler
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        try:
            trainer.fit(module)
        except SystemExit as error:
            raise UsageError(f"{job.plan.network.model} ended the program (exit {error.code}) in its forward") from None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's hardware report and tips."""
    loggers = [
        logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning", "pytorch_lightning")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # lightning 2.6 with torch 2.14 and newer: its own use of torch's pytree
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
            warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
