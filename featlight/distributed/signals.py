"""Stopping when told to: the commit in hand ends, and the same command goes on later."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from featlight.ending import SIGNALS, end_at_once, line_of
from featlight.errors import Interrupted

GRACE = 25.0  # seconds for a run to end by itself; schedulers kill after 30


class Stop:
    """Whether a signal, or the process that started this one, has asked the run to end.

    A second signal, or a run that does not end by itself, ends the process at once.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._timer: threading.Timer | None = None
        self._signalled = False
        self.asked_by: str | None = None
        self.at_once: Callable[[], None] = lambda: end_at_once(str(self.asked_by))

    def check(self) -> None:
        """Raise Interrupted where it has."""
        if self.asked_by is not None:
            raise Interrupted(line_of(self.asked_by))

    def ask(self, by: str) -> None:
        """Ask the run to end; asking twice is asking once."""
        if self.asked_by is not None:
            return
        self.asked_by = by
        self._timer = threading.Timer(GRACE, lambda: self.at_once())
        self._timer.daemon = True
        self._timer.start()

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Take the signals over, and give them back at the end.

        Lightning ends a run on SIGTERM with exit code 0, and on Ctrl-C kills its workers and exits with 1.
        """
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
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
        """Signals that are taken over; a handler that is not Python's own could not be given back."""
        return [number for number, before in self._before.items() if before is not None]

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:
            self.at_once()
        self._signalled = True  # Ctrl-C reaches a worker both by itself and through its supervisor
        self.ask(SIGNALS[number])


class CallStop(Stop):
    """The same for a call from Python: a signal does there what the caller's own handler does, and nothing else.

    What that handler raises is raised once the step in hand has ended, from `listening`: raised in the midst of a step,
    it would be taken for the network's.
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
            if self._raised is not None:  # the second one
                raise
            self._raised = error
            self.ask(SIGNALS[number])
