"""Files that are there whole or not at all, whenever a process dies.

Until it is whole, a file has a temporary name that says which process writes it: `.NAME.MACHINE-PROCESS-RANDOM.tmp`.
What a process leaves that was killed, the next one that writes there deletes: at once where it can see that the process
is gone; where that ran on another machine, or in another container, when nothing was written for an hour.
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
# Names of files that are being written, around those of their targets; older versions had a number for the maker
TEMPORARY = re.compile(rf"\.(.+)\.(?:{_MAKER}|\d+)\.tmp")
NEW = re.compile(rf"\.(.+)\.(?:{_MAKER}|\d+)\.new")
SILENT = 3600.0  # seconds without a write, after which a process on another machine is taken to be gone


@cache
def _machine() -> str:
    """An id of this machine since its start and, in a container, of its process numbers, which mean nothing outside."""
    known = [socket.gethostname()]
    with suppress(OSError):  # Linux alone has these
        known += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]  # noqa: PTH115
    return sha256(" ".join(known).encode()).hexdigest()[:8]


def draft_name(name: str, suffix: str = "tmp") -> str:
    """A name for a file on its way to another name; nobody else has it, in this process or another."""
    return f".{name}.{_machine()}-{os.getpid():x}-{os.urandom(2).hex()}.{suffix}"


def runs(process: int) -> bool:
    """Whether a process of this machine is there."""
    if os.name == "nt":  # where a signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def is_abandoned(name: str, written: float) -> bool | None:
    """Whether the process that was writing a file is gone; None where the name does not say which one it is.

    Args:
        name: of the file.
        written: when that was, in seconds since the epoch.
    """
    match = TEMPORARY.fullmatch(name) or NEW.fullmatch(name)
    if match is None or match[2] is None:
        return None
    if match[2] != _machine():
        return time.time() - written > SILENT
    process = int(match[3], 16)
    return name not in unfinished if process == os.getpid() else not runs(process)


def remove_abandoned(folder: OpenFolder) -> None:
    """Delete the files in a folder that processes were writing which are gone."""
    for name in folder.names():
        with suppress(OSError):  # they are in nobody's way
            if name[0] == "." and is_abandoned(name, folder.status(name).st_mtime):
                folder.unlink(name)


@contextmanager
def _draft(folder: OpenFolder, name: str, suffix: str = "tmp") -> Iterator[str]:
    """The name of a file on its way to another name; it is gone in the end, however that comes."""
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
    """A file to write that takes its place in a folder all at once when it is whole; what is there is no matter.

    Raises:
        OSError: no room, or no right to write.
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
    """Likewise at a path that a user has named, outside of any run directory; folders on the way are made.

    Raises:
        StorageError: no room, or no right to write.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_once(path.parent)
        with OpenFolder.at(path.parent) as folder, replacing_in(folder, path.name) as file:
            yield file


@cache
def _remove_abandoned_once(path: Path) -> None:
    """Likewise in a folder by its path, once in a process: ten thousand tiles may be written there one by one."""
    with OpenFolder.at(path) as folder:
        remove_abandoned(folder)


def create_in(folder: OpenFolder, name: str, content: bytes) -> bool:
    """Write a file that is not there yet, whole or not at all; False where another process has come first.

    Raises:
        OSError: no room, or no right to write.
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
    """Turn what a file system refuses into one line."""
    try:
        yield
    except OSError as error:
        word = "no room left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StorageError(f"{path}: {word}; the same command goes on from here once that is mended") from None


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn what cannot be read into one line; that there is no such file is told apart."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
