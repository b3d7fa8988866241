"""The first worker's view of all workers, from the records on disk: progress, TensorBoard, and when all is done."""

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
LOOK_EVERY = 1.0  # seconds, while a chunk is in hand


class Monitor:
    """What all workers have made since a run began; entered for as long as it is watched.

    Args:
        share: of the first worker.
        record_log: as it stood when the run began.
        quiet: whether to say nothing.
    """

    def __init__(self, share: Shard, record_log: RecordLog, *, quiet: bool) -> None:
        self._share, self._record_log, self._quiet = share, record_log, quiet
        self._job, self._store, self._plan = share.job, share.store, share.job.plan
        self._digests = {self._plan.digest(variant) for variant in self._plan.settings}
        before = {file: record for file, record in share.there.items() if record_log.has_made(file)}
        self._asked = {planned.file for planned in self._job.wanted}
        self._new = self._asked - before.keys()  # with what others have made since this process began
        self.pending = set(self._new)  # neither made nor failed
        self._own = set(share.files)  # made by this worker, sooner or later
        self._others_seen = False  # at work
        self._silent = False
        self._failed: set[str] = set()
        self._slowest = 0.0  # seconds of a chunk
        self._looked = 0.0
        self._lock = threading.Lock()  # the descent glances while the writer looks
        self._heartbeat = Heartbeat(self._store.folder)
        self._exit = ExitStack()
        self.board = TensorBoard(self._store, self._plan, before, self._new)
        self.progress = Progress(len(self._new), quiet=quiet, look=self._glance)

    def __enter__(self) -> "Monitor":
        other = self._heartbeat.other()
        if other is not None:
            where = self._store.root
            log.warning("%s seems to be at work in %s too: both make the same tiles, only time is lost", other, where)
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
        """Take in the records that are new; whether there were any. Safe from several threads."""
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
        """Wait for the other workers, until the run is complete and drawn or there is nothing to wait for.

        Args:
            stop: asked all the while.
            others_gone: set once the other workers have ended; None where nobody can tell.
        """
        self._draws = not self.pending or self._job.worker.world_size == 1  # it has made the last tile itself
        if self._draws:
            return
        last = time.monotonic()
        if self.pending and others_gone is None and not self._quiet:
            say(waiting_for(self._share, self.pending))
        while True:
            gone = others_gone is not None and others_gone.is_set()  # before looking, so that nothing is missed
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

    def deserted(self) -> Shard | None:
        """A chunk that nobody makes, where this worker had nothing to make itself and has seen nobody else at work.

        So the same command ends a run whose other workers never come; one that is lost at work is said, and waited for
        again.
        """
        if self._share.chunks or self._others_seen or not self._silent or not self.pending:
            return None
        share = self._share.of_chunk_with(self.pending)
        self._own |= share.files
        return share

    def finish(self) -> Outcome:
        """Draw what is not drawn yet, and have TensorBoard say the last word."""
        self.progress.close()
        plan = self._store.extended_plan(self._plan)
        if (self._draws and self._share.chunks) or not is_rendered(self._store, plan):
            render(self._store, plan)
        rate = self.progress.tiles_per_second if self._new else 0.0
        outcome = outcome_of(self._job, self._store, self._asked, self._new, rate)
        if self._new:
            self.board.finish(summary(outcome, plan))
        return outcome
