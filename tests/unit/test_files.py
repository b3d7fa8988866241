import os
from pathlib import Path

import pytest

from featlight.files import open_regular, walk
from tests.damage import nested_folders


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


def test_folders_are_walked_in_order_and_links_are_not_followed(tmp_path):
    for name in ("b/inner", "a", "left out/inside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("two", "one", "b/three", "left out/four"):
        (tmp_path / name).touch()
    (tmp_path / "a/link").symlink_to(tmp_path / "b")
    found = {}
    for folder, folders, names in walk(tmp_path):
        found[folder.relative_to(tmp_path).as_posix()] = [*folders], names
        folders[:] = [name for name in folders if name != "left out"]
    assert found == {
        ".": (["a", "b", "left out"], ["one", "two"]),
        "a": (["link"], []),
        "b": (["inner"], ["three"]),
        "b/inner": ([], []),
    }
    assert list(found) == [".", "a", "b", "b/inner"]


def test_nested_folders_are_walked_to_any_depth():
    with nested_folders(Path("top"), 1500):
        found = [folder for folder, _, _ in walk(Path("top"))]
        assert [len(folder.parts) for folder in found] == list(range(1, 1502))
        assert len(list(walk(Path("top"), deepest=8))) == 9


def test_a_folder_that_cannot_be_read_is_reported():
    refused = []
    assert list(walk(Path("missing"), onerror=refused.append)) == []
    assert [type(error) for error in refused] == [FileNotFoundError]
