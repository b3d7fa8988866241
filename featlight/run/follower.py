"""A worker that shows nothing: its share, and an eye on whether anybody is there to make the rest."""

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
    """The share of a worker other than the first; whoever commits the last tile draws.

    Args:
        share: of the worker.
        stop: asked before every step, and while it waits.
        others_gone: set once the other workers have ended; None where nobody can tell.

    Raises:
        AloneError: tiles of others are missing, and nobody else is at work; the next time they are made here.
    """
    job, store = share.job, share.store
    watch = _OtherWorkers(share)
    share.make(stop)
    made, left = bool(share.chunks), _lacking(share)
    deserted = bool(left) and others_gone is None and not watch.sees_anybody(stop, left)
    while deserted and left and not share.chunks:
        chunk = share.of_chunk_with(left)
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
    """Files of the run's tiles that nobody has made yet."""
    return set(outcome_of(share.job, share.store, share.missing).missing)


class _OtherWorkers:
    """Looks out for the other workers.

    Args:
        share: of this one.
    """

    def __init__(self, share: Shard) -> None:
        self._share = share
        self._records = share.store.record_log()
        self._heartbeat = Heartbeat(share.store.folder)
        self.own = set(share.files)  # what others have not made

    def sees_now(self) -> bool:
        """Whether the first worker is at work, or anybody has made a tile."""
        theirs = [record for record in self._records.refresh() if record["file"] not in self.own]
        return bool(theirs) or self._heartbeat.other() is not None

    def sees_anybody(self, stop: Stop, left: set[str]) -> bool:
        """The same, within a minute."""
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
