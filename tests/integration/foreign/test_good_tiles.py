"""No whole tile goes, whatever happens to its record and beside it, and what cannot be read is not taken for empty."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.integration.foreign.hands import RECORDS, TILES, everything, lines_with, one_line, plan_with, tiles, typed

LOST = {
    "gone": lambda run: shutil.rmtree(run / "records"),
    "empty folder": lambda run: (shutil.rmtree(run / "records"), (run / "records").mkdir()),
    "empty file": lambda run: (run / RECORDS).write_text(""),
    "another name": lambda run: (run / RECORDS).rename(run / "records/worker-0.bak"),
    "torn": lambda run: (run / RECORDS).write_text("torn{\n" * 6),
    "bytes": lambda run: (run / RECORDS).write_bytes(b"\xff" * 999),
    "half": lambda run: (run / RECORDS).write_text((run / RECORDS).read_text()[:1500]),
    "checksums": lambda run: lines_with(lambda record: {"sha256": "0" * 64}),
    "sizes": lambda run: lines_with(lambda record: {"bytes": 7}),
    "fingerprints": lambda run: lines_with(lambda record: {"fingerprint": "another"}),
    "wrong types": lambda run: lines_with(lambda record: {"bytes": "many", "curve": {}}),
    "failed": lambda run: lines_with(lambda record: {"status": "failed"}),
    "another plan": lambda run: plan_with(lambda values: values["fingerprints"][""].update(target=3.0)),
    "a smaller plan": lambda run: plan_with(lambda values: values.update(tiles=values["tiles"][:2], chunks=[[0, 1]])),
}


@pytest.mark.parametrize("harm", LOST)
def test_a_whole_tile_stays_whatever_happens_to_its_record(run, harm, capsys):
    before = tiles()
    LOST[harm](run)
    for path in run.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    for word in ("verify", "repair", "repair"):
        assert typed(word) in (0, 1)
    assert tiles() == before
    if harm in ("gone", "empty folder", "empty file", "another name", "torn", "bytes"):
        assert typed("verify") == 1
        assert "records: missing, though 6 tiles exist" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["run", "zip", "render"])
def test_a_run_whose_records_are_gone_is_told_so(run, word, capsys):
    before = tiles()
    shutil.rmtree(run / "records")
    capsys.readouterr()
    assert typed(word) == 74
    assert "run/records: missing, though tiles exist" in one_line(capsys)
    assert tiles() == before
    (run / "records").mkdir()  # as it says
    assert typed("run") == 0
    assert tiles() == before


BESIDE = {
    "vectors": "vectors/chunks/*.npy",
    "floats": "floats/2/*.safetensors",
    "octaves": "octaves/2/*.png",
}


@pytest.mark.parametrize(
    "harm", [lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.write_bytes(b"")]
)
@pytest.mark.parametrize("kind", BESIDE)
def test_a_whole_tile_stays_whatever_happens_beside_it(run, kind, harm):
    before, paths = tiles(), list(run.glob(BESIDE[kind]))
    kept = {path: path.read_bytes() for path in paths}
    for path in paths:
        harm(path)
    assert typed("repair") == 1
    assert tiles() == before
    assert not [path for path in paths if path.exists()]
    assert typed("run") == 0  # what is beside them is made again, to the bit
    assert {path: path.read_bytes() for path in paths} == kept
    assert tiles() == before
    assert typed("verify") == 0


@pytest.mark.parametrize("word", ["verify", "repair", "run", "render", "zip", "fresh"])
@pytest.mark.parametrize("name", ["records", RECORDS, "outputs.txt", "plan.json"])
def test_what_cannot_be_read_is_exit_74_and_nothing_goes(run, name, word, capsys, monkeypatch):
    """As a file of another user; root would read it, so the system's answer is made up."""
    before, real = everything(), os.open

    def refused(path, flags, *words, **more):
        if Path(path).name == Path(name).name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *words, **more)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        code = typed(word)
    assert code == 74
    assert f"run/{name}: cannot be read: Permission denied" in one_line(capsys)
    assert everything() == before


def test_a_tile_that_cannot_be_read_stays(run, monkeypatch, capsys):
    before, real = tiles(), os.open

    def refused(path, *words, **more):
        if Path(path).name == "00003.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        assert typed("repair") == 1
    assert f"{TILES[3]}: cannot be read: Permission denied" in capsys.readouterr().out
    assert tiles() == before
    assert typed("verify") == 0
