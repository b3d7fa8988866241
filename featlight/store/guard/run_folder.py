"""All access to a run directory, which may come from anybody.

Every read, write and deletion stays inside the directory, follows no link, and touches only regular files. The path of
the directory itself may contain links, because the user has given it.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from featlight.errors import StorageError
from featlight.files import walk
from featlight.store.guard.atomic import (
    create_in,
    draft_name,
    reading_errors,
    remove_abandoned,
    replacing_in,
    storage_errors,
)
from featlight.store.guard.open_folder import OpenFolder, descended

DEEPEST = 8  # names in the path of a run's own file
_GONE = (FileNotFoundError, NotADirectoryError)


class RunFolder:
    """File operations inside a run directory. Every path begins with the directory's own.

    Args:
        root: run directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    # Reading

    def open(self, path: Path, most: int) -> BufferedReader:
        """Open a file for reading.

        Args:
            path: path of the file.
            most: largest size in bytes.

        Raises:
            FileNotFoundError: the file is missing.
            StorageError: the file cannot be read, is not regular, is behind a link, or is too large.
        """
        with reading_errors(path), self._parent(path) as (folder, name):
            return folder.reading(name, most)

    def read(self, path: Path, most: int) -> bytes:
        """Return the content of a file; see `open`."""
        with self.open(path, most) as file, reading_errors(path):
            return file.read(most)

    def read_if_there(self, path: Path, most: int) -> bytes | None:
        """Return the content of a file; None if it is missing."""
        try:
            return self.read(path, most)
        except FileNotFoundError:
            return None

    def holds(self, path: Path, content: bytes) -> bool:
        """Return whether a file has exactly this content, and is behind no link."""
        if self.sizes([path]).get(path) != len(content):
            return False
        with suppress(*_GONE, StorageError):
            return self.read(path, len(content)) == content
        return False

    def sizes(self, paths: Iterable[Path]) -> dict[Path, int]:
        """Return the sizes of those paths that are regular files and behind no link.

        Raises:
            StorageError: the file system refuses to tell.
        """
        folders, sizes = {self.root: True}, {}

        def is_folder(path: Path) -> bool:
            if path not in folders:
                status = _status(path) if is_folder(path.parent) else None
                folders[path] = status is not None and stat.S_ISDIR(status.st_mode)
            return folders[path]

        for path in paths:
            self._parts(path)
            status = _status(path) if is_folder(path.parent) else None
            if status is not None and stat.S_ISREG(status.st_mode):
                sizes[path] = status.st_size
        return sizes

    def has(self, *paths: Path) -> bool:
        """Return whether all paths are regular files, and behind no link."""
        return len(self.sizes(paths)) == len(set(paths))

    def is_folder(self, path: Path) -> bool:
        """Return whether a path is a folder, and behind no link."""
        try:
            with descended(self.root, self._parts(path)):
                return True
        except _GONE:
            return False
        except OSError:
            return True  # it exists, but cannot be opened

    def names(self, path: Path) -> list[str]:
        """Return the sorted names in a folder; none if it is missing.

        Raises:
            StorageError: the folder cannot be read, or is no folder.
        """
        try:
            with reading_errors(path), descended(self.root, self._parts(path)) as folder:
                return folder.names()
        except FileNotFoundError:
            return []

    def stamp(self, path: Path) -> tuple[int, int, int, int] | None:
        """Return values that change when a file or its folder is replaced; None if the file is missing."""
        try:
            with self._parent(path) as (folder, name):
                status = folder.status(name)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

    # Writing: raises StorageError

    def write(self, path: Path, content: bytes) -> None:
        """Write a file atomically."""
        with storage_errors(path), self._parent(path, make=True) as (folder, name), replacing_in(folder, name) as file:
            file.write(content)

    def create(self, path: Path, content: bytes) -> bool:
        """Create a file atomically; return False if it exists already."""
        with storage_errors(path), self._parent(path, make=True) as (folder, name):
            return create_in(folder, name, content)

    @contextmanager
    def appending(self, path: Path) -> Iterator[IO[bytes]]:
        """Open a file for appending; a missing one is created.

        Raises:
            OSError: the file cannot be opened.
        """
        with self._parent(path, make=True) as (folder, name):
            _break_hard_link(folder, name)
            with folder.appending(name) as file:
                yield file

    def touch(self, path: Path) -> None:
        """Create an empty file if it is missing."""
        with storage_errors(path), self.appending(path):
            pass

    def append_line(self, path: Path, line: bytes) -> None:
        """Append a line to a file and flush it to disk.

        Args:
            path: path of the file.
            line: line without its end.
        """
        line += b"\n"
        with storage_errors(path), self.appending(path) as file:
            if file.seek(0, os.SEEK_END) and not _ends_line(file):
                line = b"\n" + line  # ends the incomplete line of a killed process
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def blank(self, path: Path, start: int, length: int) -> None:
        """Overwrite a part of a file with spaces in place, so that concurrent appends are kept."""
        with storage_errors(path), self._parent(path) as (folder, name):
            _break_hard_link(folder, name)
            with folder.changing(name) as file:
                file.seek(start)
                file.write(b" " * length)
                file.flush()
                os.fsync(file.fileno())

    def remove(self, path: Path) -> bool:
        """Delete a regular file; return False if there is none."""
        with storage_errors(path), suppress(*_GONE), self._parent(path) as (folder, name):
            if stat.S_ISREG(folder.status(name).st_mode):
                folder.unlink(name)
                return True
        return False

    def remove_folder(self, path: Path) -> None:
        """Delete a folder if it is empty."""
        with suppress(OSError), self._parent(path) as (folder, name):
            folder.remove_folder(name)

    def probe(self) -> None:
        """Check that files can be created in the directory."""
        name = draft_name("probe")
        with storage_errors(self.root), OpenFolder.at(self.root) as folder:
            folder.create(name).close()
            folder.unlink(name)

    def remove_abandoned(self, names: Iterable[str]) -> None:
        """Delete temporary files of ended processes in the directory and some of its folders, 8 levels deep."""
        tops = (self.root / name for name in names if self.is_folder(self.root / name))
        inner = (parent for top in tops for parent, _, _ in walk(top, deepest=DEEPEST))
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
        if ".." in parts:  # names from disk are checked when they are read, too
            raise StorageError(f"{path}: outside of {self.root}")
        return parts


def _status(path: Path) -> os.stat_result | None:
    with reading_errors(path), suppress(*_GONE):
        return path.lstat()
    return None


def _ends_line(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _break_hard_link(folder: OpenFolder, name: str) -> None:
    """Copy a file that has another hard link, before it is changed in place."""
    try:
        status = folder.status(name)
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        with folder.reading(name, status.st_size) as before, replacing_in(folder, name) as file:
            file.write(before.read())
