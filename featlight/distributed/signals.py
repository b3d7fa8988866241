"""Stopping when told to: the commit in hand ends, and the same command goes on later."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from featlight.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PATIENCE = 25.0  # seconds that a run has to end by itself; schedulers kill after 30


class Stop:
    """Whether a signal, or the process that started this one, has asked the run to end.

    Args:
        signals: which ones ask.
        ends_process: whether a second one, or a run that does not end by itself, ends the process at once; else a
            second one interrupts as Ctrl-C does.
    """

    def __init__(self, signals: Sequence[signal.Signals] = SIGNALS, *, ends_process: bool = True) -> None:
        self._signals = signals
        self._ends_process = ends_process
        self._timer: threading.Timer | None = None
        self._signalled = False
        self.asked_by: str | None = None
        self.at_once: Callable[[], None] = lambda: os._exit(Interrupted.exit_code)

    def check(self) -> None:
        """Raise Interrupted where it has."""
        if self.asked_by is not None:
            raise Interrupted(f"stopped by {self.asked_by}; the same command goes on from here")

    def ask(self, by: str) -> None:
        """Ask the run to end; asking twice is asking once."""
        if self.asked_by is not None:
            return
        self.asked_by = by
        if self._ends_process:
            self._timer = threading.Timer(PATIENCE, lambda: self.at_once())
            self._timer.daemon = True
            self._timer.start()

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Take the signals over, and give them back at the end.

        Lightning ends a run on SIGTERM with exit code 0, and on Ctrl-C kills its workers and exits with 1.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self  # only the main thread may set handlers
            return
        before = {number: signal.signal(number, self._take) for number in self._signals}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._timer is not None:
                self._timer.cancel()

    def _take(self, number: int, frame: FrameType | None) -> None:
        if not self._signalled:  # Ctrl-C reaches a worker both by itself and through its supervisor
            self._signalled = True
            self.ask(signal.Signals(number).name)
        elif self._ends_process:
            self.at_once()
        else:
            raise KeyboardInterrupt
