"""`--fresh` beside what is foreign, beside who is at work, and interrupted."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from featlight.cli.main import main
from featlight.store.guard.open_folder import OpenFolder
from tests.integration.foreign.hands import COMMANDS, TILES, everything, one_line, outside, tiles, typed


def test_fresh_goes_on_beside_what_is_foreign(run, capsys):
    foreign = [".DS_Store", "tiles/.DS_Store", "tiles/2/.DS_Store", "tiles/2/mine.txt", "records/mine", "notes.txt"]
    orphan = "tiles/2/00042.png"
    for name in foreign:
        (run / name).write_text("mine")
    shutil.copy(run / TILES[0], run / orphan)
    (run / "mine").mkdir()
    (run / "tiles/link").symlink_to(Path("outside").resolve())
    before, ours = outside(), tiles()
    capsys.readouterr()
    assert typed("fresh") == 0
    said = capsys.readouterr().out
    assert "--fresh: deleting the run in run: " in said
    assert f"--fresh: kept, not the run's own: {len(foreign) + 1} files" in said
    assert all((run / name).read_text() == "mine" for name in foreign)
    assert (run / orphan).exists()
    assert (run / "mine").is_dir()
    assert outside() == before
    assert tiles() == ours
    assert typed("run") == 0


def test_fresh_does_not_write_over_a_users_own_file(run, capsys):
    path = run / "tiles/2/00007.png"
    path.write_text("a user's own, by the name of a tile that is to come")
    before = everything()
    capsys.readouterr()
    assert main([*COMMANDS["fresh"], "--features", "0-7", "--out", "run"]) == 2
    assert "tiles/2/00007.png is not the run's own and has the name of a tile" in one_line(capsys)
    assert everything() == before


def test_fresh_waits_for_who_is_at_work(run, capsys):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note, before = run / ".running", everything()
    note.write_text(json.dumps({"host": socket.gethostname(), "process": other.pid}))
    capsys.readouterr()
    assert typed("fresh") == 2
    assert f"--fresh: process {other.pid} on {socket.gethostname()} is at work in run" in one_line(capsys)
    note.write_text(json.dumps({"host": "elsewhere", "process": 1}))
    assert typed("fresh") == 2
    assert "process 1 on elsewhere is at work" in one_line(capsys)
    note.unlink()
    assert everything() == before
    note.write_text(json.dumps({"host": socket.gethostname(), "process": other.pid}))
    other.communicate()
    assert typed("fresh") == 0  # that one is surely gone
    for word in (
        "[]",
        '{"host": 1, "process": 1}',
        '{"host": "x", "process": -1}',
        '{"host": "x"}',
        "\xff",
        "[" * 4000,
    ):
        note.write_text(word)
        assert typed("fresh") == 0  # nobody has written that


@pytest.mark.parametrize("after", [0, 1, 7, 20, 40])
def test_fresh_can_be_typed_again(run, monkeypatch, after):
    ours, unlink, gone = tiles(), OpenFolder.unlink, []

    def killed(self, name):
        if len(gone) == after:
            raise KeyboardInterrupt
        gone.append(name)
        unlink(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(OpenFolder, "unlink", killed)
        assert typed("fresh") == 75
    assert (run / "plan.json").exists()
    assert typed("fresh") == 0
    assert tiles() == ours
    assert typed("verify") == 0
