"""The first worker's monitor of all workers, from the records on disk: progress, TensorBoard, completion."""

import logging
import threading
import time
from contextlib import ExitStack
from types import TracebackType

from featlight.console import say
from featlight.distributed.signals import Stop
from featlight.engine.progress import Progress
from featlight.report.build import is_rendered, render
from featlight.report.tensorboard.writer import TensorBoard
from featlight.run.outcome import Outcome, outcome_of, summary
from featlight.run.shard import Shard, waiting_for
from featlight.store.heartbeat import PATIENCE, Heartbeat
from featlight.store.records import RecordLog

log = logging.getLogger("featlight")

POLL = 0.5  # seconds
LOOK_EVERY = 1.0  # seconds, while a chunk is optimized


class Monitor:
    """Follows the tiles of all workers while its context is entered.

    Args:
        share: share of the first worker.
        record_log: record log in its state at the start of the run.
        quiet: whether to print nothing.
    """

    def __init__(self, share: Shard, record_log: RecordLog, *, quiet: bool) -> None:
        self._share, self._record_log, self._quiet = share, record_log, quiet
        self._job, self._store, self._plan = share.job, share.store, share.job.plan
        self._digests = {self._plan.digest(variant) for variant in self._plan.settings}
        before = {file: record for file, record in share.existing.items() if record_log.has_made(file)}
        self._asked = {planned.file for planned in self._job.wanted}
        self._new = self._asked - before.keys()  # including tiles that others have made since this process started
        self.pending = set(self._new)  # neither made nor failed
        self._own = set(share.files)  # tiles that this worker makes
        self._others_seen = False
        self._silent = False
        self._failed: set[str] = set()
        self._slowest = 0.0  # seconds of the slowest chunk
        self._looked = 0.0
        self._lock = threading.Lock()  # the optimization and the background writer both call `look`
        self._heartbeat = Heartbeat(self._store.folder)
        self._exit = ExitStack()
        self.board = TensorBoard(self._store, self._plan, before, self._new)
        self.progress = Progress(len(self._new), quiet=quiet, look=self._glance)

    def __enter__(self) -> "Monitor":
        other = self._heartbeat.other()
        if other is not None:
            where = self._store.root
            log.warning("%s seems to be at work in %s too; both make the same tiles, so stop one of them", other, where)
        self._exit.enter_context(self._heartbeat)
        self._exit.callback(self.progress.close)
        if self._new:
            self.board.start(self._job.config.to_yaml())
        self.look()
        self.progress.early = self.progress.done
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def look(self) -> bool:
        """Read new records and return whether there were any; thread-safe."""
        with self._lock:
            return self._look()

    def _look(self) -> bool:
        self._looked = time.monotonic()
        self._heartbeat.beat()
        new = []
        for record in self._record_log.refresh():
            file, failed = record["file"], record["status"] == "failed"
            if record["fingerprint"] not in self._digests or not (file in self.pending or file in self._failed):
                continue
            self._others_seen |= file not in self._own
            self._slowest = max(self._slowest, (record["seconds"] or 0.0) * self._plan.largest_batch)
            if file in self.pending:
                new.append(record)
            self.pending.discard(file)
            (self._failed.add if failed else self._failed.discard)(file)
        if new:
            self.progress.add(new)
            self.board.add(new, self.progress.tiles_per_second)
        return bool(new)

    def _glance(self) -> None:
        if time.monotonic() - self._looked > LOOK_EVERY:
            self.look()

    def follow(self, stop: Stop, others_gone: threading.Event | None) -> None:
        """Wait until the run is complete and drawn, or no other worker is running.

        Args:
            stop: stop request, checked while waiting.
            others_gone: set when the other workers have ended; None if there is no supervisor.
        """
        self._draws = not self.pending or self._job.worker.world_size == 1  # this worker made the last tile
        if self._draws:
            return
        last = time.monotonic()
        if self.pending and others_gone is None and not self._quiet:
            say(waiting_for(self._share, self.pending))
        while True:
            gone = others_gone is not None and others_gone.is_set()  # read before the records
            if self.look():
                last = time.monotonic()
            if not self.pending and is_rendered(self._store, self._plan):
                return
            self._silent = others_gone is None and time.monotonic() - last > max(PATIENCE, 2 * self._slowest)
            if gone or self._silent:
                return
            stop.check()
            self.progress.show("waiting for the other workers" if self.pending else "drawing")
            time.sleep(POLL)

    def abandoned_chunk(self) -> Shard | None:
        """Return a chunk that no worker makes, if this worker had no chunk itself and has seen no other worker.

        The same command can thus finish a run whose other workers never start. Tiles of a worker that was lost during
        the run are reported instead.
        """
        if self._share.chunks or self._others_seen or not self._silent or not self.pending:
            return None
        share = self._share.last_chunk(self.pending)
        self._own |= share.files
        return share

    def finish(self) -> Outcome:
        """Draw what is missing, and write the summary to TensorBoard."""
        self.progress.close()
        plan = self._store.extended_plan(self._plan)
        if (self._draws and self._share.chunks) or not is_rendered(self._store, plan):
            render(self._store, plan)
        rate = self.progress.tiles_per_second if self._new else 0.0
        outcome = outcome_of(self._job, self._store, self._asked, self._new, rate)
        if self._new:
            self.board.finish(summary(outcome, plan))
        return outcome
