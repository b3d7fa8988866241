"""One worker's share of a pass: its chunks decoded, looked at, and the best of them kept after each."""

import os
import time
from collections.abc import Callable, Iterable, Mapping

import torch

from featlight.config.text_checks import shared_reason
from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.engine.device import is_out_of_memory, repeatable
from featlight.errors import FeatlightError
from featlight.examples.decoding import Chunks, Decoded
from featlight.examples.histogram import count
from featlight.examples.manifest import ScanManifest
from featlight.examples.scoring.scorer import ActivationScorer
from featlight.examples.worker_state import TileParts, WorkerState, all_worker_states, lacking
from featlight.store.store import Store

THREADS = 1  # of each worker on a CPU: the bits must not hang on how many workers there are
MOST_DECODERS = 8  # processes of each worker
Look = Callable[[int, int], object]  # told the images that were looked at since, and all that are left to this worker


def decoders(device: torch.device, workers: int) -> int:
    """Processes that decode for one worker of so many on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if device.type == "cpu" else max(1, min(MOST_DECODERS, cores // workers))


def share_of(worker: Worker, chunks: Mapping[int, TileParts]) -> dict[int, TileParts]:
    """What falls to a worker of the chunks that lack something, by number."""
    return {number: parts for number, parts in chunks.items() if number % worker.world_size == worker.rank}


def images_of(known: ScanManifest, chunks: Iterable[int]) -> int:
    """How many images are in some chunks."""
    return sum(len(known.chunks[number]) for number in chunks)


def work(
    store: Store, known: ScanManifest, scorer: ActivationScorer, worker: Worker, stop: Stop, look: Look, processes: int
) -> int:
    """Look at a worker's share of what is left; returns how many images were left to all workers.

    Args:
        store: of the run.
        known: the pass.
        scorer: of the run.
        worker: this one.
        stop: asked before every chunk.
        look: called after every chunk, and once before.
        processes: that decode; 0 for this one itself.
    """
    name = f"worker-{worker.rank}"
    every = all_worker_states(store, known)
    left = lacking(known, every)
    mine = share_of(worker, left)
    remaining = images_of(known, mine)
    look(0, remaining)
    if not mine:
        return images_of(known, left)
    own = next((each.to(scorer.device) for each in every if each.worker == name), None)
    findings = own or WorkerState.empty(known, name, scorer.device)
    ranks = known.ranks.to(scorer.device)
    chunks = Chunks(known.folder, known.images.entries, known.chunks, scorer.fit, scorer.channels)
    seeing = {parts: scorer.of(known.keys(parts)) for parts in set(mine.values())}
    with repeatable(THREADS):
        for decoded in chunks.loaded(list(mine), processes):
            stop.check()
            parts = mine[decoded.number]
            tiles = known.rows(parts).to(scorer.device)
            _take_in(findings, decoded, seeing[parts], tiles, ranks, known.settings["batch_size"])
            for part in parts:
                findings.done[part].add(decoded.number)
            findings.write(store, known)
            images = len(known.chunks[decoded.number])
            remaining -= images
            look(images, remaining)
    return images_of(known, left)


def _take_in(
    findings: WorkerState,
    decoded: Decoded,
    scorer: ActivationScorer,
    tiles: torch.Tensor,
    ranks: torch.Tensor,
    batch_size: int,
) -> None:
    """Look at a chunk and keep the best of these tiles."""
    findings.refused |= {number: shared_reason(why) for number, why in decoded.refused.items()}
    numbers = list(decoded.images)
    # images of several sizes make no batch, and by themselves they need no filling up
    batches = [[number] for number in numbers] if scorer.fit.size is None else [numbers]
    for batch in batches if numbers else ():
        images = [decoded.images[number] for number in batch]
        images += images[-1:] * (0 if scorer.fit.size is None else batch_size - len(batch))
        try:
            outputs = scorer.see(scorer.pixels(images))
        except Exception as error:
            if is_out_of_memory(error):
                flag = "--batch-size with a smaller number" if len(images) > 1 else "a machine with more"
                raise FeatlightError(f"no memory to look at {len(images)} images at once; {flag} helps") from None
            if scorer.fit.size is not None:
                raise
            words = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            findings.refused[batch[0]] = shared_reason(f"the network does not take it ({words})")
            continue
        values = scorer.activations(outputs)[: len(batch)]  # (B, N)
        count(findings.histogram, values, tiles)
        entered = findings.top.update(values, torch.tensor(batch, device=scorer.device), ranks, tiles)
        places = scorer.activations.places(outputs, entered.images, entered.columns)
        findings.top.places[tiles[entered.columns], entered.slots] = places


class Pace:
    """How fast a worker is, in a line now and then.

    Args:
        say: prints a line.
        workers: number of workers of the pass.
        every: seconds.
    """

    def __init__(self, say: Callable[[str], object], workers: int = 1, every: float = 10.0) -> None:
        self._say, self._every = say, every
        self._whose = "" if workers == 1 else f"one of {workers} workers: "
        self._start = self._said = time.monotonic()
        self.seen = 0

    def __call__(self, count: int, remaining: int) -> None:
        now = time.monotonic()
        self.seen += count
        if not count:
            self._start = self._said = now
        elif now - self._said > self._every and remaining:
            self._said = now
            rate = self.rate_of(self.seen)
            words = f"{self.seen} images looked at, {remaining} left, {rate:.0f} images/s, {remaining / rate:.0f} s"
            self._say(self._whose + words)

    def rate_of(self, images: int) -> float:
        """Of so many images since the beginning, images a second."""
        return images / max(time.monotonic() - self._start, 1e-9)
