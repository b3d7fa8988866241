"""The one way into a run directory, which may come from anybody.

Whatever is written, appended, blanked, deleted or read there goes through here: it stays inside the directory, follows
no link, and touches regular files alone. The directory itself, and what leads to it, may be links: a user has named it.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from featlight.errors import StorageError
from featlight.store.guard.atomic import (
    create_in,
    draft_name,
    reading_errors,
    remove_abandoned,
    replacing_in,
    storage_errors,
)
from featlight.store.guard.open_folder import OpenFolder, descended

_GONE = (FileNotFoundError, NotADirectoryError)


class RunFolder:
    """What may be done inside a run directory. Paths are of files and folders in it, the directory's own path first.

    Args:
        root: the directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    # Reading

    def open(self, path: Path, most: int) -> BufferedReader:
        """A file to read.

        Args:
            path: of it.
            most: bytes that it may have.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read, is no regular file, lies behind a link, or is too large.
        """
        with reading_errors(path), self._parent(path) as (folder, name):
            return folder.reading(name, most)

    def read(self, path: Path, most: int) -> bytes:
        """All bytes of a file; see `open`."""
        with self.open(path, most) as file, reading_errors(path):
            return file.read(most)

    def read_if_there(self, path: Path, most: int) -> bytes | None:
        """All bytes of a file; None where there is none."""
        try:
            return self.read(path, most)
        except FileNotFoundError:
            return None

    def holds(self, path: Path, content: bytes) -> bool:
        """Whether a file has just this content, and lies behind no link."""
        if self.sizes([path]).get(path) != len(content):
            return False
        with suppress(*_GONE, StorageError):
            return self.read(path, len(content)) == content
        return False

    def sizes(self, paths: Iterable[Path]) -> dict[Path, int]:
        """The bytes of each of these that is a regular file, and lies behind no link.

        Raises:
            StorageError: it cannot be told what is there.
        """
        folders, found = {self.root: True}, {}

        def is_folder(path: Path) -> bool:
            if path not in folders:
                status = _status(path) if is_folder(path.parent) else None
                folders[path] = status is not None and stat.S_ISDIR(status.st_mode)
            return folders[path]

        for path in paths:
            self._parts(path)
            status = _status(path) if is_folder(path.parent) else None
            if status is not None and stat.S_ISREG(status.st_mode):
                found[path] = status.st_size
        return found

    def has(self, *paths: Path) -> bool:
        """Whether each of these is a regular file, and lies behind no link."""
        return len(self.sizes(paths)) == len(set(paths))

    def is_folder(self, path: Path) -> bool:
        """Whether it is a folder, and lies behind no link."""
        try:
            with descended(self.root, self._parts(path)):
                return True
        except _GONE:
            return False
        except OSError:
            return True  # one that cannot be looked into

    def names(self, path: Path) -> list[str]:
        """Of all that is in a folder, in order; none where there is no such folder.

        Raises:
            StorageError: it cannot be read, or is no folder.
        """
        try:
            with reading_errors(path), descended(self.root, self._parts(path)) as folder:
                return folder.names()
        except FileNotFoundError:
            return []

    def stamp(self, path: Path) -> tuple[int, int, int, int] | None:
        """What changes when a file is replaced, its folder perhaps with it; None where there is none."""
        try:
            with self._parent(path) as (folder, name):
                status = folder.status(name)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

    # Writing; a StorageError says that there is no room, no right to write, or something in the way

    def write(self, path: Path, content: bytes) -> None:
        """Put a file in its place all at once: a reader sees the old one or the new one, never a part."""
        with storage_errors(path), self._parent(path, make=True) as (folder, name), replacing_in(folder, name) as file:
            file.write(content)

    def create(self, path: Path, content: bytes) -> bool:
        """Write a file that is not there yet, whole or not at all; False where another process has come first."""
        with storage_errors(path), self._parent(path, make=True) as (folder, name):
            return create_in(folder, name, content)

    @contextmanager
    def appending(self, path: Path) -> Iterator[IO[bytes]]:
        """A file to append to; new where there is none.

        Raises:
            OSError: as the system says it.
        """
        with self._parent(path, make=True) as (folder, name):
            _own(folder, name)
            with folder.appending(name) as file:
                yield file

    def touch(self, path: Path) -> None:
        """Make a file, an empty one, where there is none."""
        with storage_errors(path), self.appending(path):
            pass

    def append_line(self, path: Path, line: bytes) -> None:
        """Add a line to a file and have it on disk.

        Args:
            path: of the file.
            line: without its end.
        """
        line += b"\n"
        with storage_errors(path), self.appending(path) as file:
            if file.seek(0, os.SEEK_END) and not _ends_line(file):
                line = b"\n" + line  # a torn line of a process that died must not swallow this one
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def blank(self, path: Path, start: int, length: int) -> None:
        """Overwrite a part of a file with spaces, in place: who appends to it meanwhile loses nothing."""
        with storage_errors(path), self._parent(path) as (folder, name):
            _own(folder, name)
            with folder.changing(name) as file:
                file.seek(start)
                file.write(b" " * length)
                file.flush()
                os.fsync(file.fileno())

    def remove(self, path: Path) -> bool:
        """Delete a file; False where there is none, or something else in its place or on the way to it."""
        with storage_errors(path), suppress(*_GONE), self._parent(path) as (folder, name):
            if stat.S_ISREG(folder.status(name).st_mode):
                folder.unlink(name)
                return True
        return False

    def remove_folder(self, path: Path) -> None:
        """Delete a folder, unless something is in it."""
        with suppress(OSError), self._parent(path) as (folder, name):
            folder.remove_folder(name)

    def probe(self) -> None:
        """Make sure that files can be made here."""
        name = draft_name("probe")
        with storage_errors(self.root), OpenFolder.at(self.root) as folder:
            folder.create(name).close()
            folder.unlink(name)

    def remove_abandoned(self, names: Iterable[str]) -> None:
        """Delete what processes that are gone were writing in the directory itself, and inside some of its folders."""
        tops = (self.root / name for name in names if self.is_folder(self.root / name))
        inner = (Path(parent) for top in tops for parent, _, _ in os.walk(top))
        for path in (self.root, *inner):
            with reading_errors(path), suppress(*_GONE), descended(self.root, self._parts(path)) as folder:
                remove_abandoned(folder)

    @contextmanager
    def _parent(self, path: Path, *, make: bool = False) -> Iterator[tuple[OpenFolder, str]]:
        *parts, name = self._parts(path)
        with descended(self.root, tuple(parts), make=make) as folder:
            yield folder, name

    def _parts(self, path: Path) -> tuple[str, ...]:
        parts = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ("..",)
        if ".." in parts:  # names from disk are checked where they are read: this is the second wall
            raise StorageError(f"{path}: it leads out of {self.root}")
        return parts


def _status(path: Path) -> os.stat_result | None:
    with reading_errors(path), suppress(*_GONE):
        return path.lstat()
    return None


def _ends_line(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _own(folder: OpenFolder, name: str) -> None:
    """Give a file that has another name elsewhere (a hard link) a content of its own, before it is changed in place."""
    try:
        status = folder.status(name)
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        with folder.reading(name, status.st_size) as before, replacing_in(folder, name) as file:
            file.write(before.read())
