"""A note that a run is at work in a directory, so that a second one can say so; it holds nobody back."""

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from featlight.store.paths import NOTE

BEAT, FRESH = 30.0, 300.0  # seconds: how often the note is touched, and how long it vouches for another machine


class Heartbeat:
    """The note of this process, for as long as it is entered.

    Args:
        root: the run directory.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / NOTE
        self._text = json.dumps({"host": socket.gethostname(), "process": os.getpid()})
        self._beaten = time.monotonic()

    def other(self) -> str | None:
        """Who else seems to be at work here, in words."""
        try:
            text, age = self._path.read_text(), time.time() - self._path.stat().st_mtime
            host, process = (json.loads(text)[key] for key in ("host", "process"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        here = host == socket.gethostname()
        if text == self._text or (here and not _runs(process)) or (not here and age > FRESH):
            return None
        return f"process {process} on {host}"

    def __enter__(self) -> "Heartbeat":
        with contextlib.suppress(OSError):  # only a hint
            self._path.write_text(self._text)
        return self

    def beat(self) -> None:
        """Say that it is still there; for other machines, which cannot look for the process."""
        if time.monotonic() - self._beaten > BEAT:
            self._beaten = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            if self._path.read_text() == self._text:
                self._path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
