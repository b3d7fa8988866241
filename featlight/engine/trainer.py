"""Optimize the chunks of a plan with Lightning's trainer."""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
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


class _Chunks:
    """The chunks of a run, one after another; the current one stays until its result is taken.

    Args:
        job: prepared run.
        numbers: numbers of the chunks.
    """

    def __init__(self, job: RunJob, numbers: Iterable[int]) -> None:
        self._job, self._numbers = job, iter(numbers)
        self.unchanged: set[int] = set()  # numbers of the chunks that use the original network
        self.current: Chunk | None = None
        self.advance()

    def advance(self) -> None:
        number = next(self._numbers, None)
        self.current = None if number is None else self._job.plan.chunk(number, self._job.settings)

    def parts(self, batch_size: int) -> Iterator[Chunk]:
        """Yield the parts of every chunk, from the current one on; the last part's result advances to the next."""
        while self.current is not None:
            yield from self.current.parts(batch_size)


def descend(
    job: RunJob,
    numbers: Iterable[int],
    on_chunk: Callable[[ChunkResult], None],
    *,
    callbacks: Sequence[L.Callback] = (),
    before_step: Callable[[], None],
) -> None:
    """Optimize some chunks of a plan; halve the batch if memory runs out.

    Args:
        job: prepared run.
        numbers: numbers of the chunks; the next one is asked for when the one before is optimized.
        on_chunk: function that takes the result of each chunk.
        callbacks: callbacks of the trainer.
        before_step: function called before every step; its exceptions end the run.

    If the rewritten network differs from the original on a chunk's images, that chunk alone is recomputed with the
    original. So its bits depend neither on earlier chunks nor on the number of workers.

    Raises:
        UsageError: the original network too has changed its output during the run.
        StorageError: memory does not suffice for one image, or for the faces of one feature.
    """
    chunks, batch_size = _Chunks(job, numbers), job.plan.largest_batch
    while chunks.current is not None:
        try:
            _fit(job, chunks, batch_size, on_chunk, callbacks=callbacks, before_step=before_step)
            continue
        except OtherNetworkError as error:
            _go_on_unchanged(job, chunks.current, error.layer, chunks.unchanged)
            continue
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            chunk = chunks.current
            fewest = chunk.settings.diversity
            if batch_size // 2 < fewest:
                images = "one image" if fewest == 1 else f"the {fewest} images of a feature"
                raise StorageError(f"no memory for {images} of {chunk.layers[0]} ({error})") from None
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
    chunks: _Chunks,
    batch_size: int,
    on_chunk: Callable[[ChunkResult], None],
    *,
    callbacks: Sequence[L.Callback],
    before_step: Callable[[], None],
) -> None:
    waiting: list[ChunkResult] = []

    def on_part(result: ChunkResult) -> None:
        waiting.append(result)
        whole = chunks.current
        assert whole is not None
        if sum(len(part.chunk.tiles) for part in waiting) == len(whole.tiles):
            on_chunk(waiting[0] if len(waiting) == 1 else joined(waiting, whole))
            waiting.clear()
            chunks.advance()

    parts = chunks.parts(batch_size)
    module = FeatureVisualizer(job, parts, batch_size, on_part, unchanged=chunks.unchanged, before_step=before_step)
    with _quiet_lightning(), repeatable(job.plan.threads):
        trainer = L.Trainer(
            strategy=IndependentWorkers.strategy_name,
            plugins=[WorkerEnvironment(job.worker)],  # whatever the cluster's own variables say
            accelerator="gpu" if job.device.type == "cuda" else job.device.type,
            devices=[job.device.index or 0] if job.device.type == "cuda" else 1,
            default_root_dir=job.config.out or os.devnull,  # under SLURM, Lightning looks there for a checkpoint
            max_epochs=-1,  # the module stops after the last chunk
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
