"""A worker other than the first: it makes its share, and the rest if no other worker is running."""

import threading
import time

from featlight.console import lacking, say
from featlight.distributed.signals import Stop
from featlight.errors import AloneError
from featlight.report.build import render
from featlight.run.outcome import Outcome, outcome_of
from featlight.run.shard import Shard, waiting_for
from featlight.store.heartbeat import PATIENCE, Heartbeat

POLL = 1.0  # seconds


def make_for_others(share: Shard, stop: Stop, others_gone: threading.Event | None) -> Outcome:
    """Make the share of a worker other than the first; the worker that commits the last tile draws the page.

    Args:
        share: share of the worker.
        stop: stop request, checked before every step and while waiting.
        others_gone: set when the other workers have ended; None if there is no supervisor.

    Raises:
        AloneError: tiles of other workers are missing, and no other worker is running.
    """
    job, store = share.job, share.store
    watch = _OtherWorkers(share)
    share.make(stop)
    made, left = bool(share.chunks), _lacking(share)
    deserted = bool(left) and others_gone is None and not watch.sees_anybody(stop, left)
    while deserted and left and not share.chunks:
        chunk = share.last_chunk(left)
        watch.own |= chunk.files
        chunk.make(stop)
        made, left = True, _lacking(share)
        deserted = not watch.sees_now()
    if made and not left:
        render(store, store.extended_plan(job.plan))
    if deserted and left:
        raise AloneError(lacking(sorted(left), len(job.wanted)))
    return outcome_of(job, store, share.files)


def _lacking(share: Shard) -> set[str]:
    """Return the files of the tiles that no worker has made yet."""
    return set(outcome_of(share.job, share.store, share.missing).missing)


class _OtherWorkers:
    """Detects other workers by their records and the first worker's heartbeat.

    Args:
        share: share of this worker.
    """

    def __init__(self, share: Shard) -> None:
        self._share = share
        self._records = share.store.record_log()
        self._heartbeat = Heartbeat(share.store.folder)
        self.own = set(share.files)  # tiles that this worker makes

    def sees_now(self) -> bool:
        """Return whether the first worker is running, or another worker has made a tile."""
        foreign = [record for record in self._records.refresh() if record["file"] not in self.own]
        return bool(foreign) or self._heartbeat.other() is not None

    def sees_anybody(self, stop: Stop, left: set[str]) -> bool:
        """Wait up to `PATIENCE` seconds for a sign of another worker; return whether there was one."""
        if self.sees_now():
            return True
        say(waiting_for(self._share, left))
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            stop.check()
            time.sleep(min(POLL, PATIENCE))
            if self.sees_now():
                return True
        return False
