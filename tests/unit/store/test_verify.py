"""What `verify` finds in directories made by hand, and what `--repair` must never touch."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featlight.cli.commands import COMMANDS
from featlight.cli.main import main
from featlight.config.recipe import Octave, Recipe
from featlight.config.tile import feature_tile
from featlight.image_io import encode_png
from featlight.plan.plan import PlannedTile
from featlight.store.guard.open_folder import OpenFolder
from featlight.store.store import Store
from featlight.store.verify import repair, verify
from tests.made_up import made_up_examples, made_up_plan

PLANNED = [PlannedTile("", feature_tile("a", i)) for i in range(4)]
NAMES = ", ".join(COMMANDS)
NOBODY = 99_999_999  # no system counts its processes that far
PNG = encode_png(Image.new("RGB", (4, 4)), {"Title": "a", "Software": "featlight 0"})


def record(file, **changes):
    return {"file": file, "name": "", "status": "ok", "fingerprint": plan().digest(""), **changes}


def plan(tiles=PLANNED):
    recipe = Recipe((Octave(4, 1, (0.1, 0.1)), Octave(4, 1, (0.1, 0.1))))
    return made_up_plan(tiles, recipe=recipe, batch_size=2, layers={"4": {"a": (6, 4, 4)}})


def make(root, tiles=PLANNED):
    """A whole run of these tiles, its files an hour old."""
    store = Store(root)
    store.write_plan(plan(tiles))
    for members in plan(tiles).chunks:
        np.save(path := root / "vectors.npy", np.zeros((len(members), 6), np.float32))
        store.write(store.vector_path(tiles[i].file for i in members), path.read_bytes())
        path.unlink()
    for planned in tiles:
        store.commit(PNG, record(planned.file))
    store.write_output("vectors/a.npy", b"")
    store.write_output("atlas/a.png", b"")
    age(root)
    return store


def age(root):
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


def found(store):
    return {problem.path: problem.what for problem in verify(store.root).problems}


@pytest.fixture
def store(tmp_path):
    result = make(tmp_path / "run")
    assert found(result) == {}
    assert verify(result.root).notes == []
    return result


def everything(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


ORPHANS = {
    "tiles/a/00009.png": PNG,
    "tiles/L2/b.c-0123abcd/00001-n3x4.png": PNG[:200],  # truncated, and still known by its beginning
    "tiles/named/both.png": PNG,
    "floats/a/00009.safetensors": b'\x40\0\0\0\0\0\0\0{"image":{"dtype":"F32"}}',
    "octaves/a/00009.2.png": PNG,
    "vectors/chunks/0123456789abcdef.npy": b"\x93NUMPY\x01\0",
}
STRANGERS = {
    "tiles/a/notes.txt": b"mine",
    "tiles/a/00009.png.bak": PNG,
    "tiles/a/00008.png": b"a picture of a user's own, whose name is a tile's",
    "tiles/a/deep/er/00001.png": PNG,
    "tiles/named/holiday.png": encode_png(Image.new("RGB", (4, 4)), {"Software": "a camera"}),
    "floats/a/00007.safetensors": b'\x40\0\0\0\0\0\0\0{"weight":{"dtype":"F32"}}',
    "octaves/a/1.png": PNG,
    "vectors/mine.npy": b"\x93NUMPY\x01\0",
    f"tiles/a/.notes.txt.{NOBODY}.tmp": b"mine",
}
ELSEWHERE = {"notes.txt": b"mine", "figures/mine.png": PNG, f".notes.txt.{NOBODY}.tmp": b"mine", "mine/00001.png": PNG}
TEMPORARY = [
    f"tiles/a/.00001.png.{NOBODY}.tmp",
    f"tiles/a/.00009.png.{NOBODY}.tmp",
    f"floats/a/.00001.safetensors.{NOBODY}.tmp",
    f"vectors/.a.npy.{NOBODY}.tmp",
    f"atlas/.a.png.{NOBODY}.tmp",
    f".plan.json.{NOBODY}.tmp",
    f".plan.json.{NOBODY}.new",
    f"..plan.json.{NOBODY}.new.{NOBODY}.tmp",
    f".config.yaml.{NOBODY}.tmp",
    f".probe-{NOBODY}.tmp",
]


def test_orphans_go_and_strangers_stay(store):
    before = everything(store.root)
    for name, content in {**ORPHANS, **STRANGERS, **ELSEWHERE}.items():
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    age(store.root)
    report = verify(store.root)
    assert {problem.path for problem in report.problems} == ORPHANS.keys()
    assert {note.partition(":")[0] for note in report.notes} == STRANGERS.keys()
    assert repair(store.root, report) == (len(ORPHANS), 0)
    assert everything(store.root) == before | STRANGERS.keys() | ELSEWHERE.keys()
    assert found(store) == {}


def test_temporary_files_of_dead_writers_go(store):
    before = everything(store.root)
    names = TEMPORARY
    for name in names:
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert found(store) == {}, "young ones may be another machine's"
    assert len(verify(store.root).notes) == len(names)
    age(store.root)
    report = verify(store.root)
    assert {problem.path: problem.what for problem in report.problems} == dict.fromkeys(
        names, "temporary file of a process that was killed"
    )
    repair(store.root, report)
    assert everything(store.root) == before


def test_a_tile_that_is_being_written_is_left(store):
    path = store.root / PLANNED[0].file
    forget(store, 0)
    os.utime(path)
    report = verify(store.root)
    assert f"{PLANNED[0].file}: has no record yet" in report.notes[0]
    assert report.problems == []
    path.write_bytes(PNG[:-20])
    assert verify(store.root).problems == []


def forget(store, *numbers):
    """Lose the records of some tiles."""
    path = store.root / "records/worker-0.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for i, line in enumerate(lines) if i not in numbers))


def test_a_whole_tile_whose_record_is_lost_stays_and_a_damaged_one_goes(store):
    forget(store, 1, 2)
    (store.root / PLANNED[2].file).write_bytes(PNG[:-20])
    age(store.root)
    report = verify(store.root)
    assert report.notes == [f"{PLANNED[1].file}: has no record, kept; the run's own command makes it again"]
    assert found(store) == {PLANNED[2].file: "has no record, and is damaged"}
    assert repair(store.root, report) == (1, 0)
    assert [planned for planned in PLANNED if (store.root / planned.file).exists()] == [*PLANNED[:2], PLANNED[3]]
    assert found(store) == {}


def test_a_link_is_not_followed_out_of_the_run(store, tmp_path):
    outside = tmp_path / "elsewhere"
    (store.root / "tiles/a").rename(outside)
    (store.root / "tiles/a").symlink_to(outside)
    (outside / "00001.png").write_bytes(b"harmed")
    report = verify(store.root)
    assert [problem.path for problem in report.problems] == [planned.file for planned in PLANNED]
    assert all("tiles/a is a link, which is not followed" in problem.what for problem in report.problems)
    assert repair(store.root, report) == (0, 0)
    assert len(list(outside.iterdir())) == 4


def test_a_tile_that_is_not_made_is_no_damage(store, capsys):
    more = plan([*PLANNED, PlannedTile("", feature_tile("a", 4)), PlannedTile("", feature_tile("a", 5))])
    store.write_plan(more)
    store.commit(None, record(more.tiles[5].file, status="failed"))
    assert main(["verify", "--out", str(store.root)]) == 0
    assert capsys.readouterr().out == "6 tiles: 4 whole, 0 harmed, 1 failed, 1 not made yet; 0 problems\n"


def test_another_workers_records_count(store):
    more = plan([*PLANNED, PlannedTile("", feature_tile("a", 4))])
    store.write_plan(more)
    other = Store(store.root, "worker-1")
    other.write(other.vector_path([more.tiles[4].file]), vectors(1))
    other.commit(PNG, record(more.tiles[4].file))
    assert len(verify(store.root).whole) == 5


def vectors(rows):
    np.save(path := Path("some.npy"), np.zeros((rows, 6), np.float32))
    return path.read_bytes()


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-7])])
def test_harmed_vectors_are_computed_again_and_no_tile_goes_with_them(store, harm):
    path = store.vector_path(planned.file for planned in PLANNED[2:])
    harm(path)
    report = verify(store.root)
    assert [problem.path for problem in report.problems] == [path.relative_to(store.root).as_posix()]
    repair(store.root, report)
    assert not path.exists()
    assert list(store.made(plan(), PLANNED)) == [planned.file for planned in PLANNED]
    assert store.lacking_vectors(plan(), [0, 1]) == {1}
    assert list(found(store).values()) == ["missing; the run's own command makes it again"]
    store.write(path, vectors(2))
    assert found(store) == {}


def test_a_run_that_has_kept_no_vectors_lacks_none(store):
    shutil.rmtree(store.root / "vectors/chunks")
    assert store.lacking_vectors(plan(), [0, 1]) == set()
    assert found(store) == {}


def test_an_octave_that_is_cut_short_goes_alone(store):
    for planned in PLANNED:
        for number in (1, 2):
            store.write(store.octave_path(planned.file, number), PNG)
    assert found(store) == {}
    path = store.octave_path(PLANNED[1].file, 2)
    path.write_bytes(PNG[:-3])
    report = verify(store.root)
    assert [problem.path for problem in report.problems] == ["octaves/a/00001.2.png"]
    repair(store.root, report)
    assert not path.exists()
    assert list(store.made(plan(), PLANNED)) == [planned.file for planned in PLANNED]
    assert list(store.made(plan(), PLANNED, ["octaves"])) == [PLANNED[i].file for i in (0, 2, 3)]
    assert found(store) == {}


def test_float_images_that_are_wanted_and_not_made_yet_are_a_note(store):
    (store.root / "config.yaml").write_text("float_images: true\n")
    assert verify(store.root).notes == ["4 float images not made yet"]
    assert found(store) == {}


def test_records_outside_the_plan(store):
    """Whole tiles that another run asked for are kept; records of nothing go, all else stays to the byte."""
    spare = feature_tile("a", 7)
    store.commit(PNG, record(PlannedTile("", spare).file))
    path = store.root / "records/worker-0.jsonl"
    before = path.read_bytes()
    with path.open("ab") as file:
        file.write(json.dumps(record("tiles/a/00008.png", bytes=1, sha256="x")).encode() + b"\n")
        file.write(b'{"file": "tiles/a/000\n[1]\n')
    age(store.root)
    report = verify(store.root)
    assert [problem.what for problem in report.problems] == [
        "line 6 is for 'tiles/a/00008.png', which is not in the plan",
        "line 7 is incomplete",
        "line 8 is incomplete",
    ]
    assert report.notes == [
        "whole tiles that are not in the plan: 1, for example tiles/a/00007.png; a run that asks for them keeps them"
    ]
    size = path.stat().st_size
    assert repair(store.root, report) == (0, 3)
    assert path.read_bytes()[: len(before)] == before
    assert path.read_bytes()[len(before) :].split() == []
    assert path.stat().st_size == size
    assert found(store) == {}
    assert len(store.records()) == 5


def test_what_stands_in_a_tiles_place_is_told(store):
    path = store.root / PLANNED[0].file
    path.unlink()
    path.mkdir()
    assert found(store) == {PLANNED[0].file: "cannot be read: Is a directory"}
    repair(store.root, verify(store.root))
    assert path.is_dir()


def test_what_cannot_be_removed_is_exit_74(store, monkeypatch, capsys):
    def refused(self, name):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    (store.root / PLANNED[0].file).write_bytes(b"harmed")
    monkeypatch.setattr(OpenFolder, "unlink", refused)
    assert main(["verify", "--repair", "--out", str(store.root)]) == 74
    assert capsys.readouterr().err.startswith(f"featlight: {store.root / PLANNED[0].file}: Read-only file system")


def test_many_problems_are_cut_to_a_count(store, capsys):
    (store.root / "records/worker-0.jsonl").write_text("torn\n" * 60)
    for planned in PLANNED:
        (store.root / planned.file).unlink()
    age(store.root)
    assert main(["verify", "--out", str(store.root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 52
    assert lines[-2:] == [
        "... and 10 more",
        "4 tiles: 0 whole, 0 harmed, 0 failed, 4 not made yet; 60 problems",
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["verfy", "--out", "run"], "no command 'verfy'; nearest: 'verify'"),
        (["--seed", "1", "verify"], f"'verify' given after a flag; a command ({NAMES}) comes first"),
        (["verify"], "--out: none given; the run directory is needed"),
        (["verify", "--outt", "run"], "no flag '--outt'; nearest: '--out'"),
        (["verify", "--out", "nowhere"], "--out: nowhere holds no run"),
    ],
)
def test_a_slip_is_exit_2_and_one_line(capsys, words, line):
    assert main(words) == 2
    assert capsys.readouterr().err == f"featlight: {line}\n"


def test_a_damaged_plan_is_exit_2(store, capsys):
    (store.root / "plan.json").write_text("{")
    assert main(["verify", "--out", str(store.root)]) == 2
    assert "plan.json: Expecting" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["verify", "--help"]])
def test_help_names_the_command(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    assert "check every tile of a run against its record" in capsys.readouterr().out


def test_it_needs_no_torch(store):
    code = "import sys; from featlight.cli.main import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    words = ["verify", "--out", str(store.root)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "4 tiles: 4 whole, 0 harmed, 0 failed, 0 not made yet; 0 problems\nFalse\n"


DEEP = b"[" * 100_000


@pytest.mark.parametrize("line", [b"{}", b'{"tile": "x"', b"\xff\xfe", b'{"tile": "\\udcff"}', b"\0" * 9, DEEP])
def test_a_line_of_examples_that_cannot_be_read_is_found_and_blanked(line):
    store = make(Path("run"))
    made_up_examples(store)
    assert verify(store.root).problems == []
    path = store.root / "examples/examples.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\n", line + b"\n", *lines[2:]]))  # an empty line is none
    report = verify(store.root)
    assert [(found.path, found.what.partition(";")[0]) for found in report.problems] == [
        ("examples/examples.jsonl", "line 3 cannot be read")
    ]
    assert report.notes == ["1 tiles have no examples; `featlight examples` writes it again"]
    repair(store.root, report)
    assert verify(store.root).problems == []
    assert [each for each in path.read_bytes().splitlines() if each.strip()] == [
        each.rstrip() for each in (lines[0], *lines[2:])
    ]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1", b"\xff", DEEP])
def test_what_is_made_from_a_run_and_cannot_be_read_is_found(content):
    store = make(Path("run"))
    made_up_examples(store)
    names = ["examples/about.json", "examples/images.json", "alike/a.json"]
    for name in names:
        store.write_output(name, content)
    age(store.root)
    report = verify(store.root)
    assert [found.path for found in report.problems] == names
    repair(store.root, report)
    assert verify(store.root).problems == []


def test_a_stranger_with_a_name_that_is_not_utf8_is_named_in_one_line(capsys):
    store = make(Path("run"))
    (store.root / "tiles" / "\udcff\n.png").write_text("mine")
    assert main(["verify", "--out", "run"]) == 0
    assert "note: tiles/\\udcff\\n.png: not the run's own, kept" in capsys.readouterr().out.splitlines()
