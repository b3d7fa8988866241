"""A folder held open by its handle, so that replacing it by a link cannot redirect what is done in it."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from featlight.files import NO_LINKS, NO_WAITING, check_regular, open_regular

# Windows has no handles of folders: there, each path is checked and then used
HANDLES = os.open in os.supports_dir_fd and bool(NO_LINKS)
_BINARY = getattr(os, "O_BINARY", 0)


class OpenFolder:
    """An open folder, closed by `with`. Names in it contain no separator.

    Args:
        path: path of the folder, for messages and for systems without handles.
        handle: handle of the folder; None on systems without handles.
    """

    def __init__(self, path: Path, handle: int | None) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def at(cls, path: Path) -> "OpenFolder":
        """Open a folder by its path; links on the way are followed.

        Raises:
            OSError: the folder cannot be opened; every method raises it too.
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
        """Open a folder inside; a link is refused, a missing one is created if `make` is set."""
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
        """Return the status of a name; a link is not followed."""
        return os.stat(self._named(name), dir_fd=self._handle, follow_symlinks=False)

    def names(self) -> list[str]:
        """Return the sorted names in the folder."""
        return sorted(os.listdir(self.path if self._handle is None else self._handle))  # noqa: PTH208

    def reading(self, name: str, most: int) -> BufferedReader:
        """Open a file for reading, of `most` bytes at most."""
        return open_regular(self._named(name), most, folder=self._handle)

    def create(self, name: str) -> IO[bytes]:
        """Open a new file for writing."""
        return self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb")

    def appending(self, name: str) -> IO[bytes]:
        """Open a file for appending and reading; a missing one is created."""
        return self._open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, "ab+")

    def changing(self, name: str) -> IO[bytes]:
        """Open an existing file for overwriting in place."""
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
        os.replace(self._named(name), self._named(target), src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def link(self, name: str, other: str) -> None:
        """Give a file a second name, which must not exist yet."""
        os.link(self._named(name), self._named(other), src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def unlink(self, name: str) -> None:
        os.unlink(self._named(name), dir_fd=self._handle)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        os.rmdir(self._named(name), dir_fd=self._handle)

    def sync(self) -> None:
        """Flush the folder's list of names to disk."""
        if self._handle is not None:
            os.fsync(self._handle)

    def _named(self, name: str) -> str | Path:
        return name if self._handle is not None else self.path / name


@contextmanager
def descended(path: Path, parts: tuple[str, ...], *, make: bool = False) -> Iterator[OpenFolder]:
    """Open a nested folder, one name at a time.

    Args:
        path: path of the outermost folder.
        parts: names of the folders inside, outermost first.
        make: whether to create missing folders.
    """
    folder = OpenFolder.at(path)
    for part in parts:
        with folder:
            inner = folder.enter(part, make=make)
        folder = inner
    with folder:
        yield folder
