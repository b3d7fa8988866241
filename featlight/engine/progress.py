"""Progress of a run: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from tqdm import tqdm

from featlight.console import say
from featlight.engine.module import FeatureVisualizer
from featlight.store.records import TileRecord

BAR_EVERY, LINE_EVERY = 0.1, 5.0  # seconds


class Progress(L.Callback):
    """Show the progress of a run.

    Args:
        total: number of tiles that all workers of this run have to make.
        quiet: whether to print nothing.
        look: function that counts newly made tiles; called before each display.
    """

    def __init__(self, total: int, *, quiet: bool = False, look: Callable[[], object] = lambda: None) -> None:
        self.total = total
        self.done = self.dead = self.failed = 0
        self.early = 0  # of them, made before this worker's first step
        self.started = self._added = time.perf_counter()
        self._last = self.started
        self._bar: tqdm[Any] | None = None
        self._quiet = quiet
        self._look = look
        if not quiet and sys.stdout is not None and sys.stdout.isatty():
            form = "{percentage:3.0f}%|{bar}| {n:.0f}/{total} tiles [{elapsed}<{remaining}{postfix}]"
            self._bar = tqdm(total=total, bar_format=form, file=sys.stdout, mininterval=BAR_EVERY)

    @property
    def tiles_per_second(self) -> float:
        """Average speed from the first step to the last finished tile."""
        return (self.done - self.early) / max(self._added - self.started, 1e-9)

    def add(self, records: Sequence[TileRecord]) -> None:
        """Count finished tiles."""
        self._added = time.perf_counter()
        self.done += len(records)
        self.dead += sum(record["status"] == "dead" for record in records)
        self.failed += sum(record["status"] == "failed" for record in records)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, FeatureVisualizer)
        chunk, step = pl_module.chunk, batch_idx + 1
        steps, octaves = chunk.settings.recipe.total_steps, len(chunk.settings.recipe.octaves)
        words = chunk.layers[0], f"octave {pl_module.octave}/{octaves}, step {step}/{steps}"
        self.show(*words, begun=len(chunk.tiles) * step / steps)

    def show(self, where: str, step: str = "", *, begun: float = 0.0) -> None:
        """Show the progress, at most once per interval.

        Args:
            where: layer or phase in progress.
            step: octave and step, for the bar.
            begun: unfinished work, as a number of tiles.
        """
        now = time.perf_counter()
        if self._quiet or now - self._last < (BAR_EVERY if self._bar is not None else LINE_EVERY):
            return
        self._last = now
        self._look()
        done = min(self.done + begun, self.total)
        rate = (done - self.early) / (now - self.started)
        if self._bar is not None:
            words = ", ".join(filter(None, [where, step, f"{self.dead} dead"]))
            self._bar.set_postfix_str(f"{rate:.1f} tiles/s, {words}", refresh=False)
            self._bar.update(done - self._bar.n)
        else:
            left = (self.total - done) / rate if rate else 0.0
            say(
                f"{done:.0f} of {self.total} tiles, {rate:.2f} tiles/s, {left:.0f} s left"
                f" ({where}, {self.dead} dead, {self.failed} failed)"
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.update(self.done - self._bar.n)
            self._bar.close()
