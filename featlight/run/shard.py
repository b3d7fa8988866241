"""A worker's share of a run: its chunks with missing tiles."""

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

from featlight.distributed.env import announced_by
from featlight.distributed.signals import Stop
from featlight.engine.chunk_result import ChunkResult
from featlight.engine.job import RunJob
from featlight.engine.progress import Progress
from featlight.engine.trainer import descend
from featlight.errors import StorageError
from featlight.run.background_writer import BackgroundWriter
from featlight.run.commit import commit
from featlight.run.resume import work_left
from featlight.store.records import TileRecord
from featlight.store.store import Store


@dataclass(frozen=True)
class Shard:
    """A worker's part of a run.

    Args:
        job: prepared job, whose plan is on disk.
        store: store of the run.
        existing: records of the plan's existing tiles, by file.
        missing: files of all requested tiles that do not exist, for any worker.
        chunks: numbers of the worker's own chunks that lack a tile or their vectors.
    """

    job: RunJob
    store: Store
    existing: Mapping[str, TileRecord]
    missing: Set[str]
    chunks: Sequence[int]

    @classmethod
    def for_worker(cls, job: RunJob, store: Store) -> "Shard":
        """Return a worker's current share."""
        plan, worker = job.plan, job.worker
        left = work_left(store, plan, job.wanted, job.config.extras)
        own = [number for number in left.chunks if number % worker.world_size == worker.rank]
        return cls(job, store, left.existing, left.missing, own)

    @property
    def files(self) -> set[str]:
        """Files of the tiles that this share makes."""
        plan = self.job.plan
        return {plan.tiles[i].file for number in self.chunks for i in plan.chunks[number]} & self.missing

    def last_chunk(self, missing: Set[str]) -> "Shard":
        """Return the last chunk with a missing tile as a share; a worker that starts late begins with the first."""
        return replace(self, chunks=self.job.plan.share(0, 1, missing)[-1:], missing=missing)

    def make(
        self,
        stop: Stop,
        *,
        look: Callable[[], object] = lambda: None,
        callbacks: Sequence[Progress] = (),
    ) -> None:
        """Optimize and commit, chunk by chunk.

        Args:
            stop: stop request, checked before every step.
            look: called after every commit.
            callbacks: callbacks for the trainer.
        """
        if not self.chunks:
            return
        self.store.begin_records()
        plan, extras = self.job.plan, self.job.config.extras
        examples = {file for files in plan.octave_samples().values() for file in files}

        def finish(result: ChunkResult) -> None:
            try:
                commit(result, plan, self.store, self.existing.keys(), extras, examples)
            except MemoryError as error:  # a smaller batch would not help
                name = result.chunk.tiles[0].name
                raise StorageError(f"not enough memory to write the chunk of {name} ({error})") from None
            look()

        with BackgroundWriter() as writer:
            descend(
                self.job,
                self.chunks,
                lambda result: writer.submit(partial(finish, result)),
                callbacks=callbacks,
                before_step=stop.check,
            )

    def __str__(self) -> str:
        worker, chunks = self.job.worker, len(self.job.plan.chunks)
        own = len(range(worker.rank, chunks, worker.world_size))
        return (
            f"worker {worker.rank + 1} of {worker.world_size} on {socket.gethostname()}, {self.job.device}: "
            f"{own} of {chunks} chunks, {len(self.chunks)} of them to be made"
        )


def waiting_for(share: Shard, missing: Collection[str]) -> str:
    """Return a line that says which workers are waited for, what announced them, and how to work alone.

    Args:
        share: share of the waiting worker.
        missing: files of the missing tiles.
    """
    worker = share.job.worker
    ranks = {number % worker.world_size for number in share.job.plan.share(0, 1, missing)} - {worker.rank}
    others = [rank + 1 for rank in sorted(ranks)]
    named = ", ".join(map(str, others[:8])) + (", ..." if len(others) > 8 else "")
    source, alone = announced_by(worker, os.environ)
    return (
        f"worker {worker.rank + 1} of {worker.world_size} waits for worker{'' if len(others) == 1 else 's'} {named}, "
        f"announced by {source}; to work alone, {alone}"
    )
