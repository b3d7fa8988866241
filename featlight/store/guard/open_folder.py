"""A folder held open: what is done in it stays in it, whatever is put in its place meanwhile."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from featlight.files import NO_LINKS, NO_WAITING, check_regular, open_regular

# Windows has no handles of folders: there each step is looked at, then taken by its path
HANDLES = os.open in os.supports_dir_fd and bool(NO_LINKS)
_BINARY = getattr(os, "O_BINARY", 0)


class OpenFolder:
    """A folder, to be left by `with`. Names are bare: no part of a path.

    Args:
        path: of it, for messages, and for systems without handles.
        handle: of it; None on these.
    """

    def __init__(self, path: Path, handle: int | None) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def at(cls, path: Path) -> "OpenFolder":
        """A folder by its path, whatever links are on the way to it.

        Raises:
            OSError: here and in every method.
        """
        if HANDLES:
            return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return cls(path, None)

    def __enter__(self) -> "OpenFolder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)

    def enter(self, name: str, *, make: bool = False) -> "OpenFolder":
        """A folder inside, which is no link; made where it is missing, if that is wanted."""
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._named(name), dir_fd=self._handle)
        mode = self.status(name).st_mode
        if not stat.S_ISDIR(mode):
            what = "is a link, which is not followed" if stat.S_ISLNK(mode) else "is no folder"
            raise NotADirectoryError(errno.ENOTDIR, f"{self.path / name} {what}")
        if self._handle is None:
            return OpenFolder(self.path / name, None)
        flags = os.O_RDONLY | os.O_DIRECTORY | NO_LINKS
        return OpenFolder(self.path / name, os.open(name, flags, dir_fd=self._handle))

    def status(self, name: str) -> os.stat_result:
        """Of the name itself, a link perhaps."""
        return os.stat(self._named(name), dir_fd=self._handle, follow_symlinks=False)

    def names(self) -> list[str]:
        """All of them, in order."""
        return sorted(os.listdir(self.path if self._handle is None else self._handle))  # noqa: PTH208

    def reading(self, name: str, most: int) -> BufferedReader:
        """A file to read, of so many bytes at most."""
        return open_regular(self._named(name), most, folder=self._handle)

    def create(self, name: str) -> IO[bytes]:
        """A new file to write."""
        return self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb")

    def appending(self, name: str) -> IO[bytes]:
        """A file to append to, which may be read, too; new where there is none."""
        return self._open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, "ab+")

    def changing(self, name: str) -> IO[bytes]:
        """A file that is there, to be written over in place."""
        return self._open(name, os.O_RDWR, "r+b")

    def _open(self, name: str, flags: int, mode: str) -> IO[bytes]:
        flags |= NO_LINKS | NO_WAITING | _BINARY
        handle = os.open(self._named(name), flags, 0o666, dir_fd=self._handle)
        try:
            check_regular(os.fstat(handle))
            return os.fdopen(handle, mode)
        except BaseException:
            os.close(handle)
            raise

    def replace(self, name: str, target: str) -> None:
        here = self._handle
        os.replace(self._named(name), self._named(target), src_dir_fd=here, dst_dir_fd=here)

    def link(self, name: str, other: str) -> None:
        """Give a file another name, one that is not there yet."""
        here = self._handle
        os.link(self._named(name), self._named(other), src_dir_fd=here, dst_dir_fd=here)

    def unlink(self, name: str) -> None:
        os.unlink(self._named(name), dir_fd=self._handle)

    def remove_folder(self, name: str) -> None:
        """Remove a folder that is empty."""
        os.rmdir(self._named(name), dir_fd=self._handle)

    def sync(self) -> None:
        """Have what its names stand for on disk."""
        if self._handle is not None:
            os.fsync(self._handle)

    def _named(self, name: str) -> str | Path:
        return name if self._handle is not None else self.path / name


@contextmanager
def descended(path: Path, parts: tuple[str, ...], *, make: bool = False) -> Iterator[OpenFolder]:
    """The folder that some names lead to, one inside the other.

    Args:
        path: of the first folder.
        parts: the names.
        make: whether to make those that are missing.
    """
    folder = OpenFolder.at(path)
    for part in parts:
        with folder:
            inner = folder.enter(part, make=make)
        folder = inner
    with folder:
        yield folder
