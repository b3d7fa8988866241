"""One bar over the whole run on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import lightning as L
from tqdm import tqdm

from featlight.module import FeatureVisualizer
from featlight.speech import say
from featlight.store import Record

BAR_EVERY, LINE_EVERY = 0.1, 5.0  # seconds


class Progress(L.Callback):
    """How far a run has come.

    Args:
        total: tiles to be made in this run.
        quiet: whether to say nothing.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self.total = total
        self.done = self.dead = self.failed = 0
        self.started = time.perf_counter()
        self._last = self.started
        self._bar: tqdm[Any] | None = None
        self._quiet = quiet
        if not quiet and sys.stdout is not None and sys.stdout.isatty():
            form = "{percentage:3.0f}%|{bar}| {n:.0f}/{total} tiles [{elapsed}<{remaining}{postfix}]"
            self._bar = tqdm(total=total, bar_format=form, file=sys.stdout, mininterval=BAR_EVERY)

    @property
    def tiles_per_second(self) -> float:
        return self.done / max(time.perf_counter() - self.started, 1e-9)

    def add(self, records: Sequence[Record]) -> None:
        """Count the tiles of a chunk."""
        self.done += len(records)
        self.dead += sum(record["status"] == "dead" for record in records)
        self.failed += sum(record["status"] == "failed" for record in records)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, FeatureVisualizer)
        now = time.perf_counter()
        if self._quiet or now - self._last < (BAR_EVERY if self._bar is not None else LINE_EVERY):
            return
        self._last = now
        chunk, step = pl_module.chunk, trainer.fit_loop.epoch_loop.batch_idx + 1
        steps = chunk.settings.recipe.total_steps
        done = min(self.done + len(chunk.tiles) * step / steps, self.total)
        rate = done / (now - self.started)
        if self._bar is not None:
            octaves = len(chunk.settings.recipe.octaves)
            where = f"{chunk.layers[0]}, octave {pl_module.octave}/{octaves}, step {step}/{steps}, {self.dead} dead"
            self._bar.set_postfix_str(f"{rate:.1f} tiles/s, {where}", refresh=False)
            self._bar.update(done - self._bar.n)
        else:
            left = (self.total - done) / rate if rate else 0.0
            say(
                f"{done:.0f} of {self.total} tiles, {rate:.2f} tiles/s, {left:.0f} s left"
                f" ({chunk.layers[0]}, {self.dead} dead, {self.failed} failed)"
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.update(self.done - self._bar.n)
            self._bar.close()
