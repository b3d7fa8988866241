"""Files that may come from anybody: regular ones of a sane size, opened so that nothing hangs."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for a writer at the other end of a pipe
_READ = os.O_RDONLY | NO_WAITING | getattr(os, "O_BINARY", 0)


def open_regular(path: Path | str, most: int, *, links: bool = False, folder: int | None = None) -> BufferedReader:
    """A file to read.

    Args:
        path: of it.
        most: bytes that it may have.
        links: whether a link may stand in its place, as where a user has named it.
        folder: handle of the folder that a bare name stands in.

    Raises:
        OSError: it cannot be read, is no regular file, or is too large.
    """
    # before it is opened, too: that alone sets some devices going
    check_regular(os.stat(path, dir_fd=folder, follow_symlinks=links), most)
    handle = os.open(path, _READ | (0 if links else NO_LINKS), dir_fd=folder)
    try:
        check_regular(os.fstat(handle), most)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(status: os.stat_result, most: int | None = None) -> None:
    """Raise OSError where it is the status of no regular file, or of one of more bytes than that."""
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a link, which is not followed")
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file")
    if most is not None and status.st_size > most:
        raise _too_large(status.st_size, most)


def _too_large(size: int, most: int) -> OSError:
    return OSError(errno.EFBIG, f"of {size:,} bytes; at most {most:,} are read")
