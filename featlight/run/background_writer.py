"""Commits in the background: what a chunk gave is encoded and written while the next one is computed."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType

import torch

WAITING = 1  # chunks, besides the one that is being written: memory must not grow with a slow disk


class BackgroundWriter:
    """Runs the work that it is given in order, in one thread, and gives back what that met.

    Leaving its context waits for all of it; an error of the work is raised by the next `submit` or on leaving.
    """

    def __init__(self) -> None:
        self._work: queue.Queue[Callable[[], object] | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="featlight-writer")

    def __enter__(self) -> "BackgroundWriter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._work.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def submit(self, work: Callable[[], object]) -> None:
        """Have it done after all that was given before; waits where too much is waiting."""
        self._raise()
        self._work.put(work)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread alone: the descent has the cores
        while (work := self._work.get()) is not None:
            if self._error is not None:
                continue  # in order or not at all
            try:
                work()
            except BaseException as error:
                self._error = error
