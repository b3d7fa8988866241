"""One worker's share of a scan: its chunks are decoded and scored, and its state is written after each."""

import os
import time
from collections.abc import Callable

import torch

from featlight.config.user_text import shared_reason
from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.engine.device import is_out_of_memory, repeatable
from featlight.errors import FeatlightError, one_line
from featlight.examples.decoding import ChunkDataset, DecodedChunk, decoded
from featlight.examples.histogram import count
from featlight.examples.manifest import Echo, ScanManifest
from featlight.examples.scorer import ActivationScorer
from featlight.examples.worker_state import WorkerState, missing_parts, read_states
from featlight.store.store import Store

THREADS = 1  # per CPU worker: bits must not depend on the number of workers
MOST_DECODERS = 8  # processes per worker
Progress = Callable[[int, int], object]  # takes the newly scored images and those left to this worker


def decoding_processes(device: torch.device, workers: int) -> int:
    """Return the number of decoding processes for each of the workers on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if device.type == "cpu" else max(1, min(MOST_DECODERS, cores // workers))


def scan_share(
    store: Store,
    manifest: ScanManifest,
    scorer: ActivationScorer,
    worker: Worker,
    stop: Stop,
    progress: Progress,
    processes: int,
) -> int:
    """Score a worker's share of the remaining chunks.

    Args:
        store: store of the run.
        manifest: manifest of the scan.
        scorer: scorer of the run.
        worker: this worker.
        stop: request to stop, checked before every chunk.
        progress: callback before the first chunk and after every chunk.
        processes: decoding processes; 0 for decoding in this process.

    Returns:
        Number of images that all workers together had left at the start.
    """
    name = f"worker-{worker.rank}"
    states = read_states(store, manifest)
    missing = missing_parts(manifest, states)
    share = {chunk: parts for chunk, parts in missing.items() if chunk % worker.world_size == worker.rank}
    remaining = manifest.image_count(share)
    progress(0, remaining)
    if not share:
        return manifest.image_count(missing)
    own = next((state.to(scorer.device) for state in states if state.worker == name), None)
    state = own or WorkerState.empty(manifest, name, scorer.device)
    ranks = manifest.ranks.to(scorer.device)
    dataset = ChunkDataset(manifest.folder, manifest.images.entries, manifest.chunks, scorer.fit, scorer.channels)
    scorers = {parts: scorer.subset(manifest.keys(parts)) for parts in set(share.values())}
    with repeatable(THREADS):
        for chunk in decoded(dataset, list(share), processes):
            stop.check()
            parts = share[chunk.number]
            tiles = manifest.rows(parts).to(scorer.device)
            _add_chunk(state, chunk, scorers[parts], tiles, ranks, manifest.settings["batch_size"])
            for part in parts:
                state.done[part].add(chunk.number)
            state.write(store, manifest)
            images = len(manifest.chunks[chunk.number])
            remaining -= images
            progress(images, remaining)
    return manifest.image_count(missing)


def _add_chunk(
    state: WorkerState,
    chunk: DecodedChunk,
    scorer: ActivationScorer,
    tiles: torch.Tensor,
    ranks: torch.Tensor,
    batch_size: int,
) -> None:
    """Score a chunk for some tiles and add the results to a state."""
    state.refused |= {number: shared_reason(reason) for number, reason in chunk.refused.items()}
    numbers = list(chunk.images)
    is_unfitted = scorer.fit.size is None  # images of several sizes: one at a time, without padding of the batch
    for batch in [[number] for number in numbers] if is_unfitted else [numbers] if numbers else []:
        try:
            images = [image() if callable(image := chunk.images[number]) else image for number in batch]
        except ValueError as error:
            state.refused[batch[0]] = shared_reason(str(error))
            continue
        images += images[-1:] * (0 if is_unfitted else batch_size - len(batch))
        try:
            outputs = scorer.forward(scorer.pixels(images))
        except Exception as error:
            if is_out_of_memory(error):
                hint = "give a smaller --batch-size" if len(images) > 1 else "use a machine with more memory"
                raise FeatlightError(f"out of memory with {len(images)} images in a batch; {hint}") from None
            if not is_unfitted:
                raise
            text = one_line(f"{type(error).__name__}: {error}", 160)
            state.refused[batch[0]] = shared_reason(f"the network cannot process it ({text})")
            continue
        values = scorer.activations(outputs)[: len(batch)]  # (B, N)
        count(state.histogram, values, tiles)
        new = state.top.update(values, torch.tensor(batch, device=scorer.device), ranks, tiles)
        state.top.places[tiles[new.columns], new.slots] = scorer.activations.places(outputs, new.images, new.columns)


class ProgressLine:
    """Prints the speed of a worker at intervals.

    Args:
        echo: prints a line.
        workers: number of workers of the scan.
        interval: seconds between lines.
    """

    def __init__(self, echo: Echo, workers: int = 1, interval: float = 10.0) -> None:
        self._echo, self._interval = echo, interval
        self._prefix = "" if workers == 1 else f"one of {workers} workers: "
        self._start = self._printed = time.monotonic()
        self.scored = 0

    def __call__(self, count: int, remaining: int) -> None:
        now = time.monotonic()
        self.scored += count
        if not count:
            self._start = self._printed = now
        elif now - self._printed > self._interval and remaining:
            self._printed = now
            rate = self.rate(self.scored)
            left = f"{remaining} left, {rate:.0f} images/s, {remaining / rate:.0f} s"
            self._echo(f"{self._prefix}{self.scored} images scanned, {left}")

    def rate(self, images: int) -> float:
        """Return the images per second if this many were scored since the start."""
        return images / max(time.monotonic() - self._start, 1e-9)
