import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from featlight.config.tile import feature_tile
from featlight.errors import StorageError, UsageError
from featlight.plan.plan import PlannedTile
from featlight.store.own_files import Deletion
from featlight.store.store import Store
from tests.made_up import made_up_plan

TILES = [PlannedTile("", feature_tile("a", i)) for i in range(3)]


def record(i, status="ok"):
    return {
        "file": TILES[i].file,
        "name": TILES[i].tile.name,
        "status": status,
        "sha256": None,
        "bytes": None,
        "fingerprint": plan().digest(""),
    }


def plan():
    return made_up_plan(TILES)


def test_a_commit_leaves_the_tile_and_one_line(tmp_path):
    store = Store(tmp_path)
    store.commit(b"png", record(0))
    (found,) = store.made(plan(), TILES).values()
    assert (tmp_path / "tiles/a/00000.png").read_bytes() == b"png"
    assert (found["sha256"], found["bytes"]) == (sha256(b"png").hexdigest(), 3)
    assert (tmp_path / "records/worker-0.jsonl").read_text().count("\n") == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_failed_tile_is_recorded_and_not_made(tmp_path):
    store = Store(tmp_path)
    store.commit(None, record(0, "failed"))
    assert store.records()[TILES[0].file]["status"] == "failed"
    assert store.made(plan(), TILES) == {}
    store.commit(b"png", record(0))
    assert list(store.made(plan(), TILES)) == [TILES[0].file]
    Store(tmp_path, "worker-1").commit(None, record(0, "failed"))  # another worker's late failure
    assert list(store.made(plan(), TILES)) == [TILES[0].file]


def test_a_tile_of_another_run_does_not_count(tmp_path):
    store = Store(tmp_path)
    store.commit(b"png", {**record(0), "fingerprint": "another"})
    assert store.made(plan(), TILES) == {}


def test_only_one_run_creates_the_plan(tmp_path):
    store = Store(tmp_path)
    assert store.create_plan(plan())
    assert not store.create_plan(plan())
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("harm", ["gone", "truncated"])
def test_a_harmed_tile_counts_as_missing(tmp_path, harm):
    store = Store(tmp_path)
    store.commit(b"png", record(0))
    path = tmp_path / TILES[0].file
    path.unlink() if harm == "gone" else path.write_bytes(b"pn")
    assert store.made(plan(), TILES) == {}


def test_a_torn_line_is_passed_over_and_swallows_nothing(tmp_path):
    store = Store(tmp_path)
    store.commit(b"png", record(0))
    with (tmp_path / "records/worker-0.jsonl").open("a") as file:
        file.write('{"file": "tiles/a/0000')
    assert len(store.made(plan(), TILES)) == 1
    store.commit(b"png", record(1))
    assert len(store.made(plan(), TILES)) == 2


def test_a_tile_without_its_line_is_made_again(tmp_path):
    store = Store(tmp_path)
    store.begin_records()
    store.write(tmp_path / TILES[0].file, b"png")  # killed between the rename and the record
    assert store.made(plan(), TILES) == {}


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path, store = tmp_path / "x.txt", Store(tmp_path)
    store.write(path, b"old")

    def no_room(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StorageError, match="no space left") as caught:
        store.write(path, b"new")
    assert caught.value.exit_code == 74
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory"):
        Store(tmp_path / "file" / "run").check_writable()


def test_clear_deletes_what_the_records_name_and_nothing_else(tmp_path):
    store = Store(tmp_path)
    store.write_plan(plan())
    store.commit(b"png", record(0))
    store.write(store.float_path(TILES[0].file), b"float")
    store.write(store.octave_path(TILES[0].file, 2), b"small")
    store.write(store.vector_path(tile.file for tile in TILES), b"vector")
    store.write_output("atlas/a.png", b"atlas")
    (tmp_path / "tiles/a/.00001.png.77.tmp").write_bytes(b"torn")
    (tmp_path / "mine").mkdir()
    mine = [tmp_path / "notes.txt", tmp_path / "tiles/a/mine.png", tmp_path / "atlas/mine.png"]
    for path in mine:
        path.write_text("mine")
    Deletion.from_store(store).carry_out()
    # the plan stays until that of the next run takes its place
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([*mine, tmp_path / "plan.json"])
    assert not (tmp_path / "records").exists()
    assert (tmp_path / "mine").is_dir()


def test_clear_never_leaves_the_directory(tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_text("mine")
    store = Store(tmp_path / "run")
    store.write_plan(plan())
    store.commit(None, {**record(0, "failed"), "file": "../outside.png"})
    Deletion.from_store(store).carry_out()
    assert outside.exists()


def test_clear_refuses_what_is_no_run(tmp_path):
    (tmp_path / "photo.png").write_text("mine")
    with pytest.raises(UsageError, match="not a run, nothing was deleted"):
        Deletion.from_store(Store(tmp_path))
    assert (tmp_path / "photo.png").exists()
    assert Deletion.from_store(Store(tmp_path / "new")).files == []


def test_a_damaged_plan_is_told(tmp_path):
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UsageError, match=r"plan\.json: Expecting"):
        Store(tmp_path).plan()
    assert Store(Path("nowhere")).plan() is None
