"""The guard of a run directory, with handles of folders and as it is on systems that have none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featlight.errors import StorageError
from featlight.store.guard import open_folder
from featlight.store.guard.atomic import draft_name, replacing
from featlight.store.guard.open_folder import OpenFolder
from featlight.store.guard.run_folder import RunFolder
from featlight.store.store import Store


@pytest.fixture(params=["handles", "paths"])
def folder(request, monkeypatch):
    """Of `run`, beside which is `outside`."""
    if request.param == "paths":
        monkeypatch.setattr(open_folder, "HANDLES", False)
    Path("run").mkdir()
    Path("outside").mkdir()
    Path("outside/file").write_bytes(b"precious\n")
    return RunFolder(Path("run"))


def outside():
    return {path.name: path.read_bytes() for path in Path("outside").iterdir()}


def test_what_is_written_is_read(folder):
    path = Path("run/a/b/c.txt")
    folder.write(path, b"old")
    folder.write(path, b"new")
    folder.append_line(path, b"x")
    folder.append_line(path, b"y")
    assert path.read_bytes() == folder.read(path, 99) == b"new\nx\ny\n"  # a torn line is ended first
    folder.blank(path, 4, 1)
    assert path.read_bytes() == b"new\n \ny\n"
    assert folder.create(path, b"other") is False
    assert folder.create(Path("run/d"), b"other") is True
    assert folder.sizes([path, Path("run/d"), Path("run/none"), Path("run/a")]) == {path: 8, Path("run/d"): 5}
    assert folder.names(Path("run")) == ["a", "d"]
    assert folder.remove(path) is True
    assert folder.remove(path) is False
    folder.remove_folder(Path("run/a"))  # not empty
    folder.remove_folder(Path("run/a/b"))
    folder.remove_folder(Path("run/a"))
    assert [path.name for path in Path("run").iterdir()] == ["d"]


def test_the_directory_itself_may_be_a_link(folder):
    Path("elsewhere").mkdir()
    Path("there").symlink_to("elsewhere")
    inside = RunFolder(Path("there"))
    inside.write(Path("there/a/b"), b"x")
    assert Path("elsewhere/a/b").read_bytes() == inside.read(Path("there/a/b"), 9) == b"x"


CHANGES = {
    "write": lambda folder, path: folder.write(path, b"x"),
    "create": lambda folder, path: folder.create(path, b"x"),
    "append": lambda folder, path: folder.append_line(path, b"x"),
    "touch": lambda folder, path: folder.touch(path),
    "blank": lambda folder, path: folder.blank(path, 0, 4),
    "read": lambda folder, path: folder.read(path, 99),
    "names": lambda folder, path: folder.names(path.parent),
}


@pytest.mark.parametrize("do", CHANGES)
@pytest.mark.parametrize("place", ["link", "deep/link", "link/deep", "loop", "dangling", "file"])
def test_nothing_leads_out_by_a_folder(folder, do, place):
    Path("run/deep").mkdir()
    Path("outside/deep").mkdir()
    Path("outside/deep/file").write_bytes(b"precious\n")
    for name in ("link", "deep/link"):
        Path("run", name).symlink_to(Path("outside").resolve())
    Path("run/loop").symlink_to("loop")
    Path("run/dangling").symlink_to(Path("outside/new").resolve())
    Path("run/file").write_text("no folder")
    path = Path("run", place, "file")
    with pytest.raises(StorageError, match=r"is a link, which is not followed|is no folder"):
        CHANGES[do](folder, path)
    assert folder.remove(path) is False
    assert folder.sizes([path]) == {}
    assert not folder.has(path)
    assert sorted(Path("outside").rglob("*")) == [Path("outside", name) for name in ("deep", "deep/file", "file")]
    assert Path("outside/file").read_bytes() == Path("outside/deep/file").read_bytes() == b"precious\n"


@pytest.mark.parametrize("do", ["append", "touch", "blank", "read"])
@pytest.mark.parametrize("target", ["outside/file", "outside/new", "outside", "run/own"])
def test_nothing_leads_out_by_a_file(folder, do, target):
    Path("run/own").write_bytes(b"own\n")
    Path("run/file").symlink_to(Path(target).resolve())
    before = outside()
    with pytest.raises(StorageError):
        CHANGES[do](folder, Path("run/file"))
    assert outside() == before
    assert Path("run/own").read_bytes() == b"own\n"


def test_a_link_is_replaced_and_not_written_through(folder):
    Path("run/file").symlink_to(Path("outside/file").resolve())
    folder.write(Path("run/file"), b"new")
    assert not Path("run/file").is_symlink()
    assert outside() == {"file": b"precious\n"}


@pytest.mark.parametrize("name", ["run/../outside/file", "outside/file", "/etc/passwd", "run/a/../../x", "../run/x"])
@pytest.mark.parametrize("do", CHANGES)
def test_no_name_leads_out(folder, do, name):
    with pytest.raises(StorageError, match="outside of run"):
        CHANGES[do](folder, Path(name))
    assert outside() == {"file": b"precious\n"}


@pytest.mark.parametrize("do", ["append", "blank"])
def test_a_file_of_two_names_is_changed_under_this_one_alone(folder, do):
    os.link("outside/file", "run/file")
    CHANGES[do](folder, Path("run/file"))
    assert outside() == {"file": b"precious\n"}
    assert Path("run/file").read_bytes() == {"append": b"precious\nx\n", "blank": b"    ious\n"}[do]


@pytest.mark.parametrize("do", ["append", "blank", "read"])
def test_a_pipe_is_no_file(folder, do):
    os.mkfifo("run/file")
    with pytest.raises(StorageError, match="no regular file"):
        CHANGES[do](folder, Path("run/file"))
    assert folder.remove(Path("run/file")) is False


def test_too_many_bytes_are_not_read(folder):
    Path("run/file").write_bytes(bytes(100))
    assert len(folder.read(Path("run/file"), 100)) == 100
    with pytest.raises(StorageError, match="of 100 bytes; at most 99 are read"):
        folder.read(Path("run/file"), 99)
    with pytest.raises(FileNotFoundError):
        folder.read(Path("run/none"), 99)


@pytest.mark.parametrize("do", ["write", "append", "create"])
def test_who_swaps_a_folder_meanwhile_gains_nothing(monkeypatch, do):
    """Between the look at a folder and the writing into it a link takes its place: the file goes where it looked."""
    Path("run/a").mkdir(parents=True)
    Path("outside").mkdir()
    swapped = []

    def swap(real):
        def swapping(*words):
            if not swapped:
                swapped.append(words)
                Path("run/a").rename("run/was")
                Path("run/a").symlink_to(Path("outside").resolve())
            return real(*words)

        return swapping

    monkeypatch.setattr(OpenFolder, "create", swap(OpenFolder.create))
    monkeypatch.setattr(OpenFolder, "appending", swap(OpenFolder.appending))
    CHANGES[do](RunFolder(Path("run")), Path("run/a/file"))
    assert list(Path("outside").iterdir()) == []
    assert Path("run/was/file").read_bytes().strip() == b"x"


def test_folders_are_closed(folder):
    def handles():
        return len(list(Path("/proc/self/fd").iterdir()))

    folder.write(Path("run/a/b"), b"x")
    before = handles()
    Path("run/link").symlink_to(Path("outside").resolve())
    for _ in range(5):
        folder.write(Path("run/a/b"), b"x")
        folder.append_line(Path("run/a/b"), b"x")
        assert folder.read_if_there(Path("run/a/none"), 9) is None
        assert folder.read_if_there(Path("run/none/none"), 9) is None
        for do in CHANGES.values():
            with pytest.raises(StorageError):
                do(folder, Path("run/link/x"))
    assert handles() == before


def test_where_a_user_says_links_are_followed():
    """Outside of run directories, as with what is exported."""
    Path("there").mkdir()
    Path("link").symlink_to("there")
    with replacing(Path("link/new/file")) as file:
        file.write(b"x")
    assert Path("there/new/file").read_bytes() == b"x"


def test_what_dead_writers_leave_is_deleted_and_nothing_else():
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours = draft_name("00001.png").split(".")[-2]  # machine-process-random
    machine, process, random = ours.split("-")
    elsewhere = f"{int(machine, 16) ^ 1:08x}-{process}-{random}"
    gone = [f".a.png.{machine}-{dead.pid:x}-{random}.tmp", f".b.{machine}-{dead.pid:x}-{random}.new", f".c.{ours}.tmp"]
    gone += [f".old.png.{elsewhere}.tmp"]
    stay = [f".a.png.{machine}-{os.getppid():x}-{random}.tmp", f".young.png.{elsewhere}.tmp", ".mine.png.123.tmp"]
    stay += [f"a.png.{machine}-{dead.pid:x}-{random}.tmp", f".a.png.{machine}-{dead.pid:x}-{random}", "a.tmp"]
    for folder in ("run", "run/atlas", "run/tiles/a", "run/mine", "out"):
        Path(folder).mkdir(parents=True)
        for name in (*gone, *stay):
            Path(folder, name).write_bytes(b"half")
        os.utime(Path(folder, gone[-1]), (1, 1))
    Path("run/tiles/link").symlink_to(Path("run/mine").resolve())
    Path("run/plan.json").touch()
    Store(Path("run")).check_writable()
    with replacing(Path("out/poster.pdf")) as file:  # at a place of the user's, too
        assert {*os.listdir("out")} - {*stay}  # noqa: PTH208  the one that is being written
        RunFolder(Path()).remove_abandoned(["out"])
        file.write(b"whole")
    for folder in ("run", "run/atlas", "run/tiles/a", "out"):
        assert {path.name for path in Path(folder).glob("*.*")} - {"plan.json", "poster.pdf"} == {*stay}
    assert Path("out/poster.pdf").read_bytes() == b"whole"
    assert {path.name for path in Path("run/mine").iterdir()} == {*gone, *stay}
