"""What a run will cost, from a few timed steps; nothing is written."""

import time
from pathlib import Path

import torch

from featlight.config import Config
from featlight.image import blur, starting_images, to_bytes
from featlight.job import Job, prepare
from featlight.objective import Objective
from featlight.plan import Chunk
from featlight.render import sections
from featlight.run import repeatable
from featlight.store import Store

TIMED_STEPS = 2
PNG_SHARE = 0.6  # of the raw bytes, as measured on the quickstart's 192 tiles
TENSORBOARD = 6 * 2**20  # bytes of a layer's mosaics and curves, measured likewise


def estimate(config: Config, *, fresh: bool = False) -> dict[str, str]:
    """Tiles, chunks, disk and time of a run, in words.

    Args:
        config: settled.
        fresh: whether what is there will be deleted first.

    Raises:
        FeatlightError: as the run itself would.
    """
    assert config.out is not None
    store = Store(Path(config.out))
    job = prepare(config, None if fresh else store.plan())
    plan = job.plan
    there = {} if fresh else store.made(plan, job.wanted, with_floats=config.float_images)
    missing = {planned.file for planned in job.wanted} - there.keys()
    numbers = [n for n, members in enumerate(plan.chunks) if any(plan.tiles[i].file in missing for i in members)]
    chunks = [plan.chunk(number, job.settings) for number in numbers]
    pixels = sum(3 * chunk.settings.recipe.final_size**2 * len(chunk.tiles) for chunk in chunks)
    shown = len(sections(plan)) * TENSORBOARD if numbers else 0
    disk = pixels * (2 * PNG_SHARE + (4 if config.float_images else 0)) + shown  # the atlas holds each tile once more
    with repeatable(plan.threads):
        kinds = {_kind(chunk): chunk for chunk in chunks}
        costs = {kind: _chunk_seconds(job, chunk) for kind, chunk in kinds.items()}
    seconds = sum(costs[_kind(chunk)] for chunk in chunks)
    return {
        "network": f"{plan.network['model']}, {plan.network['weights']}",
        "layers": ", ".join(dict.fromkeys(term.layer for planned in job.wanted for term in planned.tile.terms)),
        "tiles": f"{len(job.wanted)}, {len(missing)} of them to be made",
        "chunks": f"{len(chunks)} of up to {plan.batch_size} tiles",
        "workers": f"1, on {job.device.type}, {plan.threads} threads; its share: all chunks",
        "disk": f"about {disk / 2**20:.1f} MiB in {config.out}",
        "time": f"about {seconds / 3600:.2f} hours ({seconds:.0f} s), from {TIMED_STEPS} timed steps an octave",
    }


def _kind(chunk: Chunk) -> tuple[str, tuple[str, ...]]:
    """Chunks of one kind take the same time."""
    return chunk.settings.variant, chunk.layers


def _chunk_seconds(job: Job, chunk: Chunk) -> float:
    recipe = chunk.settings.recipe
    network = job.network_at(chunk.layers)
    tiles = [chunk.tiles[0]] * job.plan.batch_size
    objective = Objective(tiles, chunk.settings.metric, chunk.settings.target, job.first_maps[recipe.first_size])
    total = 0.0
    for octave in recipe.octaves:
        images = (
            starting_images("noise", octave.size, 999, tiles).to(job.device).contiguous(memory_format=network.format)
        )
        for step in range(1 + TIMED_STEPS):  # the first one warms up
            if step == 1:
                started = time.perf_counter()
            images.requires_grad_(True)
            objective(network(images)).loss.sum().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                images = blur(images - images.grad, 1.0)  # type: ignore[operator]
        to_bytes(images)  # waits for the device
        total += (time.perf_counter() - started) / TIMED_STEPS * octave.steps
    return total
