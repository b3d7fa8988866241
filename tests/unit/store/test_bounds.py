"""What a run directory of somebody else's may hold too much of is refused before it is read; an honest run never is."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from featlight.config.tile import Term, Tile
from featlight.errors import StorageError, UsageError
from featlight.plan.plan import PlannedTile
from featlight.store import damage, records
from featlight.store.guard.bounds import UNREADABLE
from featlight.store.records import RecordLog, parse_line
from featlight.store.store import Store
from featlight.store.verify import repair, verify
from tests.made_up import made_up_plan, made_up_run

TOO_MUCH = "records: more than a run of this plan writes"
FREE = 1 << 22  # sixteen times less than it is, to take less time


@pytest.fixture(autouse=True)
def less() -> Iterator[None]:
    with mock.patch("featlight.store.guard.bounds.FREE", FREE):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return made_up_run(tmp_path / "run", {"Mixed_4a": 3}, failed=[2])


def lines_of(store: Store) -> list[bytes]:
    return (store.root / "records/worker-0.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "content",
    [b"{}\n", b"\n", b"[]\n", b'{"file":"tiles/a/b.png"}\n', b'{"file":"tiles/a/b.png","status":"ok"}\n', b"9" * 99],
    ids=lambda content: content.decode().strip()[:40] or "blank",
)
def test_endless_lines_are_refused_after_the_first_of_them(store: Store, content: bytes) -> None:
    (store.root / "records/worker-9.jsonl").write_bytes(content * (FREE // max(len(content), 80)))
    with mock.patch.object(records, "_RECORD", wraps=records._RECORD) as adapter:
        for read in (store.records, lambda: verify(store.root)):
            with pytest.raises(StorageError, match=TOO_MUCH):
                read()
    assert adapter.validate_python.call_count < 3 * FREE // 2048


def test_a_sparse_file_is_refused_at_its_beginning(store: Store) -> None:
    with (store.root / "records/worker-9.jsonl").open("wb") as file:
        file.truncate(3 << 30)
    reads = mock.Mock(side_effect=parse_line)
    with mock.patch.object(records, "parse_line", reads), pytest.raises(StorageError, match=TOO_MUCH):
        verify(store.root)
    assert reads.call_count == 3  # a piece without an end is no line


def test_endless_files_are_refused(store: Store) -> None:
    names = [f"worker-{number}.jsonl" for number in range(2000)]
    with (
        mock.patch.object(type(store.folder), "names", return_value=names),
        pytest.raises(StorageError, match=TOO_MUCH),
    ):
        RecordLog(store.folder).refresh()


def test_a_run_that_was_stopped_and_repaired_often_is_read(store: Store) -> None:
    """One tile of three fails 600 times (10,000 in truth), 100 workers come and go, and 60 lines were blanked."""
    good, failed = lines_of(store)[:2], lines_of(store)[2]
    blanked = b" " * len(failed.rstrip()) + b"\n"
    (store.root / "records/worker-1.jsonl").write_bytes(failed * 600 + blanked * 60 + failed[:100] + b"\n")
    for worker in range(2, 100):
        (store.root / f"records/worker-{worker}.jsonl").write_bytes(b"" if worker % 2 else good[worker // 2 % 2])
    assert {record["status"] for record in store.records().values()} == {"ok", "failed"}
    report = verify(store.root)
    assert [problem.what for problem in report.problems if "incomplete" in problem.what] == ["line 661 is incomplete"]
    repair(store.root, report)
    assert not [problem for problem in verify(store.root).problems if "torn" in problem.what]


def test_a_larger_plan_may_have_more_records(tmp_path: Path) -> None:
    """Each tile of a plan, made twenty times over, as several commands at once do, in records of the usual 2 kB."""
    store = made_up_run(tmp_path, {"L": 50})
    record = json.loads(lines_of(store)[0]) | {"curve": [[step, 123.456789] for step in range(60)]}
    line = json.dumps(record | {"reason": "x" * 700}).encode() + b"\n"
    assert len(line) > 2000
    (tmp_path / "records/worker-1.jsonl").write_bytes(line * 20 * 50)
    with mock.patch("featlight.store.guard.bounds.FREE", 0):  # what the plan alone allows
        store.records()
        (tmp_path / "plan.json").write_bytes((tmp_path / "plan.json").read_bytes()[:3000])
        with pytest.raises(StorageError, match=TOO_MUCH):
            Store(tmp_path).records()


def test_following_a_run_costs_nothing_in_the_long_run(store: Store) -> None:
    """A last line that is not ended is read again and again, as long as a run is watched."""
    path = store.root / "records/worker-0.jsonl"
    with path.open("ab") as file:
        file.write(b"{" * 60_000)
    log = RecordLog(store.folder)
    for _ in range(2 * FREE // (UNREADABLE + 60_000)):
        log.refresh()
    assert len(log.records) == 3


def test_a_record_holds_no_more_than_a_run_writes(store: Store) -> None:
    record = json.loads(lines_of(store)[0])
    whole = record | {"curve": [[step, 0.5] for step in range(60)]}
    assert parse_line(json.dumps(whole).encode()) is not None
    assert parse_line(json.dumps(record | {"curve": [[0, 0]] * 61}).encode()) is None
    for hostile in (b"9" * 10**6, b"[" * 10**6, b'{"file":' * 10**5, b'{"file": 1' + b"0" * 5000 + b"}"):
        assert parse_line(hostile) is None


def test_a_tile_of_many_lines_is_looked_at_once(store: Store) -> None:
    line = json.loads(lines_of(store)[0]) | {"file": "tiles/other/00000.png"}
    (store.root / "records/worker-1.jsonl").write_bytes((json.dumps(line).encode() + b"\n") * 500)
    with mock.patch.object(damage.VerifyContext, "damage", autospec=True, return_value=None) as harm:
        report = verify(store.root)
    looked = [call.args[1] for call in harm.call_args_list]
    assert looked.count(store.root / "tiles/other/00000.png") == 1
    assert report.notes[-1].startswith("whole tiles that are not in the plan: 1, for example tiles/other/00000.png")


@pytest.mark.parametrize("stuffing", [b" ", b"\0", b"[],"], ids=["blanks", "zeros", "values"])
def test_a_plan_with_much_behind_it_is_not_held(store: Store, stuffing: bytes) -> None:
    """What refuses it holds a block of it at a time."""
    with (store.root / "plan.json").open("ab") as file:
        file.write(stuffing * (8 << 20 if len(stuffing) == 1 else 200_000))
    tracemalloc.start()
    try:
        with (
            mock.patch("featlight.store.store.PLAN_VALUES", 100_000),
            pytest.raises(UsageError, match=r"plan.json: [\d,]+ (bytes for [\d,]+ values|values; at most)"),
        ):
            verify(store.root)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_plan_of_long_vectors_and_names_is_read(tmp_path: Path) -> None:
    terms = tuple(Term("L", direction=tuple(i / 7 for i in range(5000))) for _ in range(8))
    tiles = [PlannedTile("", Tile(f"named/{number}", terms), "\N{SNOWMAN}" * 200) for number in range(5)]
    plan = made_up_plan(tiles, layers={"32": {"L": (5000, 4, 4)}})
    store = Store(tmp_path)
    store.write_plan(plan)
    assert store.folder.sizes([tmp_path / "plan.json"])[tmp_path / "plan.json"] > 4 << 20
    assert store.plan() == plan
