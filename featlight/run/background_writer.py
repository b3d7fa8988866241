"""Background commits: a chunk is encoded and written while the next one is computed."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType

import torch

WAITING = 1  # queued chunks, besides the one that is being written: bounds the memory when the disk is slow


class BackgroundWriter:
    """Runs submitted functions in order, in one thread.

    Leaving the context waits for all of them. The next `submit`, or leaving the context, raises their first error.
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
        """Queue a function; wait while the queue is full."""
        self._raise()
        self._work.put(work)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        torch.set_num_threads(1)  # for this thread only: the optimization uses the cores
        while (work := self._work.get()) is not None:
            if self._error is not None:
                continue  # after an error, skip the rest
            try:
                work()
            except BaseException as error:
                self._error = error
