"""Opening and finding files that may come from anybody: regular ones of limited size, at any depth of folders."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # do not wait for the writer of a pipe
_READ = os.O_RDONLY | NO_WAITING | getattr(os, "O_BINARY", 0)


def open_regular(path: Path | str, most: int, *, links: bool = False, folder: int | None = None) -> BufferedReader:
    """Open a file for reading.

    Args:
        path: path of the file.
        most: largest size in bytes.
        links: whether the path may be a link, for example because the user has given it.
        folder: handle of the folder that contains a bare name.

    Raises:
        OSError: the file cannot be read, is not regular, or is too large.
    """
    # checked before opening, too: opening alone activates some devices
    check_regular(os.stat(path, dir_fd=folder, follow_symlinks=links), most)
    handle = os.open(path, _READ | (0 if links else NO_LINKS), dir_fd=folder)
    try:
        check_regular(os.fstat(handle), most)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(status: os.stat_result, most: int | None = None) -> None:
    """Raise OSError if a status is not of a regular file, or of one with too many bytes."""
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a link, which is not followed")
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file")
    if most is not None and status.st_size > most:
        raise OSError(errno.EFBIG, f"of {status.st_size:,} bytes; at most {most:,} are read")


def walk(
    top: Path, *, deepest: int | None = None, onerror: Callable[[OSError], object] = lambda _: None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk a folder as `os.walk` does, which fails on a thousand nested folders before Python 3.12.

    Args:
        top: folder to walk; links to folders inside are not followed.
        deepest: number of levels below the folder; None for all.
        onerror: function that is called for each folder that cannot be read.

    Yields:
        A folder, and the sorted names of its folders and of its other files. Folders that the caller removes from the
        list are left out.
    """
    left = [(top, 0)]
    while left:
        parent, level = left.pop()
        try:
            with os.scandir(parent) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            onerror(error)
            continue
        inside = {entry.name: entry for entry in entries if _is_folder(entry)}
        folders = list(inside)
        yield parent, folders, [entry.name for entry in entries if entry.name not in inside]
        if deepest is None or level < deepest:
            left += [(parent / name, level + 1) for name in reversed(folders) if not inside[name].is_symlink()]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
