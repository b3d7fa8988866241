"""Atomic writing: a file is complete or absent, even if its process is killed.

A file is written under a temporary name that identifies its process: `.NAME.MACHINE-PROCESS-RANDOM.tmp`. The next
process that writes to the directory deletes temporary files of processes that no longer exist. Those of other machines
and containers, whose processes it cannot see, are deleted after an hour without a write.
"""

import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import IO

from featlight.ending import unfinished
from featlight.errors import StorageError
from featlight.store.guard.open_folder import OpenFolder

_MAKER = r"([0-9a-f]{8})-([0-9a-f]+)-[0-9a-f]{4}"
# Temporary names around the names of their targets; older versions wrote a number instead of the process
TEMPORARY = re.compile(rf"\.(.+)\.(?:{_MAKER}|\d+)\.tmp")
NEW = re.compile(rf"\.(.+)\.(?:{_MAKER}|\d+)\.new")
SILENT = 3600.0  # seconds without a write, after which a process of another machine counts as ended


@cache
def _machine() -> str:
    """Return an id of this machine since its start and, in a container, of its namespace of process numbers."""
    known = [socket.gethostname()]
    with suppress(OSError):  # only on Linux
        known += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]  # noqa: PTH115
    return sha256(" ".join(known).encode()).hexdigest()[:8]


def draft_name(name: str, suffix: str = "tmp") -> str:
    """Return a unique temporary name for a file."""
    return f".{name}.{_machine()}-{os.getpid():x}-{os.urandom(2).hex()}.{suffix}"


def runs(process: int) -> bool:
    """Return whether a process of this machine exists."""
    if os.name == "nt":  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def is_abandoned(name: str, written: float) -> bool | None:
    """Return whether the process that was writing a file has ended; None if the name identifies no process.

    Args:
        name: name of the file.
        written: time of the last write, in seconds since the epoch.
    """
    match = TEMPORARY.fullmatch(name) or NEW.fullmatch(name)
    if match is None or match[2] is None:
        return None
    if match[2] != _machine():
        return time.time() - written > SILENT
    process = int(match[3], 16)
    return name not in unfinished if process == os.getpid() else not runs(process)


def remove_abandoned(folder: OpenFolder) -> None:
    """Delete the temporary files of ended processes in a folder."""
    for name in folder.names():
        with suppress(OSError):  # they do no harm
            if name[0] == "." and is_abandoned(name, folder.status(name).st_mtime):
                folder.unlink(name)


@contextmanager
def _draft(folder: OpenFolder, name: str, suffix: str = "tmp") -> Iterator[str]:
    """Provide a temporary name; its file is deleted at the end if it still exists."""
    draft = draft_name(name, suffix)
    unfinished[draft] = partial(folder.unlink, draft)
    try:
        yield draft
    finally:
        with suppress(OSError):
            folder.unlink(draft)
        del unfinished[draft]


@contextmanager
def replacing_in(folder: OpenFolder, name: str) -> Iterator[IO[bytes]]:
    """Open a file that replaces any existing one atomically when the context ends.

    Raises:
        OSError: the file cannot be written.
    """
    with _draft(folder, name) as temporary:
        with folder.create(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        folder.replace(temporary, name)
    folder.sync()


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for atomic writing at a path outside of run directories; missing folders are created.

    Raises:
        StorageError: the file cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_once(path.parent)
        with OpenFolder.at(path.parent) as folder, replacing_in(folder, path.name) as file:
            yield file


@cache
def _remove_abandoned_once(path: Path) -> None:
    """Delete abandoned files once for each process: ten thousand tiles may be written there one by one."""
    with OpenFolder.at(path) as folder:
        remove_abandoned(folder)


def create_in(folder: OpenFolder, name: str, content: bytes) -> bool:
    """Create a file atomically; return False if it exists already.

    Raises:
        OSError: the file cannot be written.
    """
    with _draft(folder, name, "new") as draft:
        with replacing_in(folder, draft) as file:
            file.write(content)
        try:
            folder.link(draft, name)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            folder.replace(draft, name)
    return True


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of writing into a one-line StorageError."""
    try:
        yield
    except OSError as error:
        reason = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StorageError(f"{path}: {reason}; solve this, then run the same command again to continue") from None


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of reading into a one-line StorageError; FileNotFoundError is raised unchanged."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
