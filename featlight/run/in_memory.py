"""A run without a directory: images and records are returned."""

from torch import Tensor

from featlight.console import say
from featlight.distributed.signals import Stop
from featlight.engine.chunk_result import ChunkResult
from featlight.engine.job import RunJob
from featlight.engine.progress import Progress
from featlight.engine.trainer import descend
from featlight.run.commit import records_of
from featlight.store.records import TileRecord


def make_in_memory(job: RunJob, stop: Stop) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, TileRecord]]:
    """Make all tiles of a job.

    Args:
        job: prepared job.
        stop: stop request, checked before every step.

    Returns:
        Unclipped images (C, H, W) on the CPU, opacities (H, W) in uint8 for tiles that have one, and records; all by
        file.
    """
    images: dict[str, Tensor] = {}
    alphas: dict[str, Tensor] = {}
    records: dict[str, TileRecord] = {}
    if not job.request.quiet:
        say(f"input        {job.network.input_description}")
    progress = Progress(len(job.wanted), quiet=job.request.quiet)

    def on_chunk(result: ChunkResult) -> None:
        made = list(records_of(result, job.plan))
        for place, record in made:
            images[record["file"]] = result.images[place].contiguous()
            if result.alphas is not None and record["status"] != "failed":
                alphas[record["file"]] = result.alphas[place].contiguous()
            records[record["file"]] = record
        progress.add([record for _, record in made])

    numbers = range(len(job.plan.chunks))
    try:
        descend(job, numbers, on_chunk, callbacks=[progress], before_step=stop.check)
    finally:
        progress.close()
    return images, alphas, records
