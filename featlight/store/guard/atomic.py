"""Files that are there whole or not at all, whenever a process dies."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from featlight.errors import StorageError
from featlight.store.guard.open_folder import OpenFolder

TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")  # the name of a file that is being written, around that of its target


def draft_name(name: str, suffix: str = "tmp") -> str:
    """A name for a file on its way to another name; nobody else has it, in this process or another."""
    return f".{name}.{int.from_bytes(os.urandom(6))}.{suffix}"


@contextmanager
def replacing_in(folder: OpenFolder, name: str) -> Iterator[IO[bytes]]:
    """A file to write that takes its place in a folder all at once when it is whole; what is there is no matter.

    Raises:
        OSError: no room, or no right to write.
    """
    temporary = draft_name(name)
    try:
        with folder.create(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        folder.replace(temporary, name)
    except BaseException:
        with suppress(OSError):
            folder.unlink(temporary)
        raise
    folder.sync()


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Likewise at a path that a user has named, outside of any run directory; folders on the way are made.

    Raises:
        StorageError: no room, or no right to write.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with OpenFolder.at(path.parent) as folder, replacing_in(folder, path.name) as file:
            yield file


def create_in(folder: OpenFolder, name: str, content: bytes) -> bool:
    """Write a file that is not there yet, whole or not at all; False where another process has come first.

    Raises:
        OSError: no room, or no right to write.
    """
    draft = draft_name(name, "new")
    with replacing_in(folder, draft) as file:
        file.write(content)
    try:
        folder.link(draft, name)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        folder.replace(draft, name)
    finally:
        with suppress(FileNotFoundError):
            folder.unlink(draft)
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
