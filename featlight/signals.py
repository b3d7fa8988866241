"""Stopping when told to: the commit in hand ends, and the same command goes on later."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from featlight.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether a signal has asked the run to end.

    Args:
        signals: which ones ask.
        ends_process: whether a second one ends the process at once; else it interrupts as Ctrl-C does.
    """

    def __init__(self, signals: Sequence[signal.Signals] = SIGNALS, *, ends_process: bool = True) -> None:
        self._signals = signals
        self._ends_process = ends_process
        self.asked_by: signal.Signals | None = None

    def check(self) -> None:
        """Raise Interrupted where it has."""
        if self.asked_by is not None:
            raise Interrupted(f"stopped by {self.asked_by.name}; the same command goes on from here")

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

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked_by is not None:
            if self._ends_process:
                os._exit(Interrupted.exit_code)
            raise KeyboardInterrupt
        self.asked_by = signal.Signals(number)
