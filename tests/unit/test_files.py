import os
from pathlib import Path

import pytest

from featlight.files import open_regular, read_regular


def test_a_file_is_read_whole():
    Path("file").write_bytes(b"x" * 10)
    assert read_regular(Path("file"), 10) == b"x" * 10
    folder = os.open(".", os.O_RDONLY)
    try:
        assert read_regular("file", 10, folder=folder) == b"x" * 10
    finally:
        os.close(folder)


def test_what_is_no_regular_file_is_refused_at_once():
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("file").write_bytes(b"x" * 10)
    Path("link").symlink_to("file")
    Path("to pipe").symlink_to("pipe")
    for name, line in {
        "pipe": "no regular file",
        "/dev/zero": "no regular file",
        "to pipe": "a link",
        "link": "a link",
        "folder": "Is a directory",
        "none": "No such file",
    }.items():
        with pytest.raises(OSError, match=line):
            open_regular(Path(name), 99)
    assert read_regular(Path("link"), 10, links=True) == b"x" * 10
    with pytest.raises(OSError, match="no regular file"):
        open_regular(Path("to pipe"), 99, links=True)


def test_what_is_too_large_is_refused_before_it_is_read():
    with Path("sparse").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(OSError, match="of 4,398,046,511,104 bytes; at most 1,000 are read"):
        open_regular(Path("sparse"), 1000)


def test_a_file_that_says_it_is_empty_is_read_no_further_than_allowed():
    """As those of the system, which have no end and no size."""
    if not Path("/proc/self/maps").exists():
        pytest.fail("Linux alone has this file; the test needs another one elsewhere")
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(OSError, match="at most 64 are read"):
        read_regular(Path("/proc/self/maps"), 64)
