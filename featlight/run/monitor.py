"""The first worker's view of all workers, from the records on disk: progress, TensorBoard, and when all is done."""

import threading
import time
from collections.abc import Collection

from featlight.distributed.signals import Stop
from featlight.engine.progress import Progress
from featlight.plan.plan import Plan
from featlight.report.build import is_rendered
from featlight.report.tensorboard.writer import TensorBoard
from featlight.store.heartbeat import Heartbeat
from featlight.store.records import RecordLog
from featlight.store.store import Record, Store

POLL = 0.5  # seconds
PATIENCE = 60.0  # seconds without a new record, after which the other workers are taken to have ended
LOOK_EVERY = 1.0  # seconds, while a chunk is in hand


class Monitor:
    """What the other workers and this one have made since it began.

    Args:
        store: of the run.
        plan: of the run.
        record_log: as it stood when the run began.
        made: the records of the tiles that were there then.
        missing: files of the tiles that were to be made.
        heartbeat: kept alive while looking.
        quiet: whether to say nothing.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        record_log: RecordLog,
        made: dict[str, Record],
        missing: Collection[str],
        heartbeat: Heartbeat,
        *,
        quiet: bool,
    ) -> None:
        self._store, self._plan, self._record_log, self._heartbeat = store, plan, record_log, heartbeat
        self._digests = {plan.digest(variant) for variant in plan.settings}
        self.pending = set(missing)  # neither made nor failed
        self._failed: set[str] = set()
        self._slowest = 0.0  # seconds of a chunk
        self._looked = 0.0
        self._lock = threading.Lock()  # the descent glances while the writer looks
        self.progress = Progress(len(missing), quiet=quiet, look=self._glance)
        self.board = TensorBoard(store, plan, made, missing)

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
            if record.get("fingerprint") not in self._digests or file not in self.pending | self._failed:
                continue
            self._slowest = max(self._slowest, record.get("seconds", 0.0) * self._plan.batch_size)
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
        last = time.monotonic()
        while True:
            gone = others_gone is not None and others_gone.is_set()  # before looking, so that nothing is missed
            if self.look():
                last = time.monotonic()
            if not self.pending and is_rendered(self._store, self._plan):
                return
            silent = time.monotonic() - last > max(PATIENCE, 2 * self._slowest)
            if gone or (silent and others_gone is None):
                return
            stop.check()
            self.progress.show("waiting for the other workers" if self.pending else "drawing")
            time.sleep(POLL)
