"""Estimate of a run's time and disk space from a few timed steps; nothing is written."""

import time
from pathlib import Path

from featlight.console import format_bytes
from featlight.engine.device import repeatable
from featlight.engine.job import RunJob
from featlight.engine.setup import prepare
from featlight.engine.step import NEW, step
from featlight.errors import listed
from featlight.param.image import to_bytes
from featlight.param.registry import starting_parameters
from featlight.plan.plan import Chunk
from featlight.plan.request import RunRequest
from featlight.run.disk_space import expected_bytes, free_bytes
from featlight.store.store import Store

TIMED_STEPS = 2


def estimate(request: RunRequest, *, workers: int = 1) -> dict[str, str]:
    """Return a table of a run's tiles, chunks, disk space and time.

    Args:
        request: config and Python objects of the call, with a run directory.
        workers: workers on all machines; they are assumed not to slow each other down.

    Raises:
        FeatlightError: the run itself would fail.
    """
    config, fresh = request.config, request.fresh
    assert config.out is not None
    store = Store(Path(config.out))
    job = prepare(request, None if fresh else store.plan())
    plan = job.plan
    existing = {} if fresh else store.made(plan, plan.tiles, config.extras)
    missing = {planned.file for planned in job.wanted} - existing.keys()
    busy = range(min(workers, max(1, len(plan.chunks))))  # ranks with at least one chunk
    shares = [[plan.chunk(n, job.settings) for n in plan.share(rank, workers, missing)] for rank in busy]
    chunks = [chunk for share in shares for chunk in share]
    disk = expected_bytes(plan, existing, missing, config.extras)
    with repeatable(plan.threads):
        kinds = {_kind(chunk): chunk for chunk in chunks}
        costs = {kind: _chunk_seconds(job, chunk) for kind, chunk in kinds.items()}
    seconds = max(sum(costs[_kind(chunk)] for chunk in share) for share in shares)
    fewest, most = 0 if workers > len(busy) else min(map(len, shares)), max(map(len, shares))
    share = str(most) if fewest == most else f"{fewest} to {most}"
    return {
        "network": f"{plan.network.model}, {plan.network.weights}",
        "input": job.network.input_description,
        "layers": listed(dict.fromkeys(term.layer for planned in job.wanted for term in planned.tile.terms)),
        "tiles": f"{len(job.wanted)}, {len(missing)} of them to be made",
        "chunks": f"{len(chunks)} of up to {plan.largest_batch} tiles",
        "workers": f"{workers}, on {job.device.type}, {plan.threads} threads each; chunks of each: {share}",
        "disk": f"about {format_bytes(disk)} in {config.out}, where {format_bytes(free_bytes(store.root))} are free",
        "time": f"about {seconds / 3600:.2f} hours ({seconds:.0f} s), from {TIMED_STEPS} timed steps an octave",
    }


def _kind(chunk: Chunk) -> tuple[str, tuple[str, ...]]:
    """Return a key that chunks of equal duration share."""
    return chunk.variant, chunk.layers


def _chunk_seconds(job: RunJob, chunk: Chunk) -> float:
    recipe = chunk.settings.recipe
    network = job.form(chunk)
    tiles = [chunk.tiles[0]] * chunk.batch_size
    pipeline = job.pipeline(chunk, tiles)
    objective = job.objective(chunk, tiles, pipeline.views.boxes)
    opening = [settings for settings in recipe.steps() if settings.opens_octave]
    total = 0.0
    for octave, settings in zip(recipe.octaves, opening, strict=True):
        start = starting_parameters(pipeline.parameterization, "noise", settings.size, 999, tiles).to(job.device)
        parameters, state = pipeline.in_fast_layout(start, network.format), NEW
        for number in range(1 + TIMED_STEPS):  # the first step warms up
            if number == 1:
                started = time.perf_counter()
            parameters, state, _ = step(parameters, state, settings, network, objective, pipeline)
        to_bytes(pipeline.parameterization.image(parameters, settings.size), job.shown_channels)  # waits for the device
        total += (time.perf_counter() - started) / TIMED_STEPS * octave.steps
    return total
