"""Files that are there whole or not at all, whenever a process dies."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from featlight.errors import StorageError

OURS = int.from_bytes(os.urandom(6), "big")  # in temporary names; workers in containers share a process number
TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")  # the name of a file that is being written, around that of its target


def write_file(path: Path, content: bytes) -> None:
    """Put a file in its place all at once: a reader sees the old one or the new one, never a part.

    Raises:
        StorageError: no room, or no right to write.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its place all at once when it is whole.

    Raises:
        StorageError: no room, or no right to write.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{OURS}.tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def create_file(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet, whole or not at all; False where another process has come first."""
    draft = path.with_name(f".{path.name}.{OURS}.new")
    write_file(draft, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        with storage_errors(path):
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return True


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file and have it on disk.

    Args:
        path: of the file.
        line: without its end.
    """
    line += b"\n"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell() and not _ends_line(file):
                line = b"\n" + line  # a torn line of a process that died must not swallow this one
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def blank(path: Path, start: int, length: int) -> None:
    """Overwrite a part of a file with spaces, in place: who appends to it meanwhile loses nothing."""
    with storage_errors(path), path.open("r+b") as file:
        file.seek(start)
        file.write(b" " * length)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what a file system refuses into one line."""
    try:
        yield
    except OSError as error:
        word = "no room left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StorageError(f"{path}: {word}; the same command goes on from here once that is mended") from None


def _ends_line(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
