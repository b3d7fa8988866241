import os
from pathlib import Path

import pytest

from featlight.files import open_regular


def test_a_file_is_read_whole():
    Path("file").write_bytes(b"x" * 10)
    with open_regular(Path("file"), 10) as file:
        assert file.read() == b"x" * 10
    folder = os.open(".", os.O_RDONLY)
    try:
        with open_regular("file", 10, folder=folder) as file:
            assert file.read() == b"x" * 10
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
    with open_regular(Path("link"), 10, links=True) as file:
        assert file.read() == b"x" * 10
    with pytest.raises(OSError, match="no regular file"):
        open_regular(Path("to pipe"), 99, links=True)


def test_what_is_too_large_is_refused_before_it_is_read():
    with Path("sparse").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(OSError, match="of 4,398,046,511,104 bytes; at most 1,000 are read"):
        open_regular(Path("sparse"), 1000)
