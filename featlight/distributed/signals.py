"""Stopping on a signal: the current commit is completed, and the same command continues the run later."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from featlight.ending import SIGNALS, end_at_once, line_of
from featlight.errors import Interrupted

GRACE = 25.0  # seconds for a run to end by itself; schedulers kill after 30


class Stop:
    """A request to stop the run, from a signal or from the supervisor.

    After a second signal, or after `GRACE` seconds, the process ends at once.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._timer: threading.Timer | None = None
        self._signalled = False
        self.asked_by: str | None = None
        self.at_once: Callable[[], None] = lambda: end_at_once(str(self.asked_by))

    def check(self) -> None:
        """Raise Interrupted if a stop was requested."""
        if self.asked_by is not None:
            raise Interrupted(line_of(self.asked_by))

    def ask(self, by: str) -> None:
        """Request a stop; further requests have no effect."""
        if self.asked_by is not None:
            return
        self.asked_by = by
        self._timer = threading.Timer(GRACE, lambda: self.at_once())
        self._timer.daemon = True
        self._timer.start()

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Handle the signals, and restore the previous handlers at the end.

        Lightning's own handlers would end a run on SIGTERM with exit code 0, and on Ctrl-C with 1.
        """
        if threading.current_thread() is threading.main_thread():  # other threads cannot set handlers
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number in self._taken():
                signal.signal(number, self._take)
            yield self
        finally:
            for number in self._taken():
                signal.signal(number, self._before[number])
            if self._timer is not None:
                self._timer.cancel()

    def _taken(self) -> list[int]:
        """Return the handled signals; a handler that was not set from Python could not be restored."""
        return [number for number, before in self._before.items() if before is not None]

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:
            self.at_once()
        self._signalled = True  # Ctrl-C reaches a worker directly and through its supervisor
        self.ask(SIGNALS[number])


class CallStop(Stop):
    """A stop request for calls from Python: a signal only calls the caller's own handler.

    `listening` raises the handler's exception after the current step. Raised during a step, it would be mistaken for
    an error of the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self._raised: BaseException | None = None

    def ask(self, by: str) -> None:
        self.asked_by = by

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        try:
            with super().listening():
                yield self
        finally:
            if self._raised is not None:
                raise self._raised from None

    def _taken(self) -> list[int]:
        return [number for number in super()._taken() if callable(self._before[number])]

    def _take(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        assert callable(before)
        try:
            before(number, frame)
        except BaseException as error:
            if self._raised is not None:  # the second signal
                raise
            self._raised = error
            self.ask(SIGNALS[number])
