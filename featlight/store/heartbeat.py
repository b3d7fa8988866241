"""A note that a process is working in a run directory, so that others can report it; it is not a lock."""

import contextlib
import json
import os
import socket
import time
from types import TracebackType

from featlight.config.user_text import check_word
from featlight.errors import StorageError
from featlight.store.guard.atomic import runs
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import NOTE, NOTE_BYTES

BEAT, FRESH = 30.0, 300.0  # seconds between writes of the note; age up to which another machine's note counts
PATIENCE = 60.0  # seconds without a sign of another worker, after which none is expected any more


class Heartbeat:
    """The note of this process, present while the context is entered.

    Args:
        folder: run directory.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._path = folder, folder.root / NOTE
        self._text = json.dumps({"host": socket.gethostname(), "process": os.getpid()})
        self._written = time.monotonic()

    def other(self) -> str | None:
        """Return the name of another process that seems to work here; None if there is none or the note is invalid."""
        try:
            with self._folder.open(self._path, NOTE_BYTES) as file:
                text, age = file.read().decode(), time.time() - os.fstat(file.fileno()).st_mtime
            host, process = (json.loads(text)[key] for key in ("host", "process"))
            check_word(host, 255)
            if not (isinstance(process, int) and 0 < process < 2**31):
                return None
        except (OSError, StorageError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        is_local = host == socket.gethostname()
        if text == self._text or (is_local and not runs(process)) or (not is_local and abs(age) > FRESH):
            return None
        return f"process {process} on {host}"

    def __enter__(self) -> "Heartbeat":
        self._write()
        return self

    def beat(self) -> None:
        """Renew the note, at most every 30 s, for other machines, which cannot look for the process."""
        if time.monotonic() - self._written > BEAT and self._is_ours():
            self._written = time.monotonic()
            self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_ours():
            with contextlib.suppress(StorageError):
                self._folder.remove(self._path)

    def _write(self) -> None:
        with contextlib.suppress(StorageError):  # only a hint
            self._folder.write(self._path, self._text.encode())

    def _is_ours(self) -> bool:
        try:
            return self._folder.read_if_there(self._path, NOTE_BYTES) == self._text.encode()
        except StorageError:
            return False
