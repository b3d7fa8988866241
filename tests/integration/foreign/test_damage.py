"""What a file of a run may hold, and what may stand in its place."""

import json
import os
import re
import shutil
import struct
import time
import zlib
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

import featlight
import featlight.run.shard
from featlight.cli.main import main
from featlight.report.tensorboard.writer import catch_up
from tests.integration.foreign.hands import (
    RECORDS,
    TILES,
    lines_with,
    one_line,
    plan_with,
    tiles,
    typed,
)
from tests.pngs import part, png


def pipe(path):
    path.unlink() if path.is_file() else shutil.rmtree(path)
    os.mkfifo(path)


def endless(path):
    with path.open("wb") as file:
        file.truncate(1 << 42)


def folder(path):
    path.unlink()
    path.mkdir()


STAND_INS = {"pipe": pipe, "endless": endless, "folder": folder, "device": lambda path: linked(path, "/dev/zero")}


def linked(path, target):
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("kind", STAND_INS)
@pytest.mark.parametrize(
    "name", ["plan.json", RECORDS, "outputs.txt", "config.yaml", ".running", "index.html", TILES[0], "vectors/chunks"]
)
def test_nothing_waits_for_a_pipe(run, name, kind, capsys):
    """Nor takes a folder, a device or an endless file for what it stands in the place of."""
    (run / ".running").write_text("{}")
    path = next((run / name).iterdir()) if (run / name).is_dir() else run / name
    STAND_INS[kind](path)
    for word in ("render", "zip", "verify", "repair", "more"):
        capsys.readouterr()
        code = typed(word)
        assert code in (0, 1, 2, 74)
        if name in ("plan.json", RECORDS):
            assert code == 74
            assert f"run/{name}: cannot be read: " in one_line(capsys)
    catch_up(run)
    assert os.path.lexists(path) or name == ".running"  # a note of its own comes and goes


PLANS = {
    "not UTF-8": (lambda text: text.replace("tiny", "t").encode() + b"\xff", "utf-8"),
    "deep": (lambda text: ("[" * 100_000).encode(), "nested too deeply"),
    "deep inside": (
        lambda text: text.replace('"figure": {', '"figure": {"x": ' + "[" * 5000).encode(),
        "damaged|Expecting",
    ),
    "a number of 5,000 digits": (
        lambda text: text.replace('"threads": 1', '"threads": ' + "1" * 5000).encode(),
        "digits",
    ),
    "empty": (lambda text: b"", "Expecting value"),
    "zeros": (lambda text: b"\0" * 999, "Expecting value"),
}
CHANGES = {
    "chunk out of range": (lambda v: v["chunks"][0].append(99), "chunks"),
    "empty chunk": (lambda v: v["chunks"].append([]), "chunks: one has 0 tiles"),
    "chunk of too many": (lambda v: v.update(chunks=[list(range(6))]), "chunks: one has 6 tiles"),
    "negative chunk": (lambda v: v["chunks"][0].append(-1), "chunks"),
    "no layers": (lambda v: v.update(layers={}), "layers: no shape of '2' at 24 px"),
    "a layer of nothing": (lambda v: v["layers"]["24"].update({"2": []}), "layers"),
    "a layer of absurd size": (lambda v: v["layers"]["24"].update({"2": [10**9, 4, 4]}), "layers"),
    "a map of absurd size": (lambda v: v["layers"]["24"].update({"2": [8, 10**6, 10**6]}), "layers"),
    "fewer features than tiles": (lambda v: v["layers"]["24"].update({"2": [2, 4, 4]}), "features: 2 given"),
    "no date": (lambda v: v.update(created="yesterday"), "created"),
    "no version": (lambda v: v.update(versions={}), "versions"),
    "a version of lines": (lambda v: v["versions"].update(featlight="1\n2"), "control codes"),
    "a network of codes": (lambda v: v["network"].update(model="\x1b[2Jx"), "control codes"),
    "a network that is none": (lambda v: v["network"].update(sha256=None), "network"),
    "half a character": (lambda v: v["network"].update(weights="\ud800"), "control codes"),
    "an octave of a billion pixels": (lambda v: octave(v).update(size=10**9), "size: 1000000000 pixels given"),
    "endless steps": (lambda v: octave(v).update(steps=10**12), "steps"),
    "truth for a number": (lambda v: octave(v).update(steps=True), "steps|has another type"),
    "a setting that is missing": (lambda v: v["fingerprints"][""].pop("target"), "is missing, or has another type"),
    "no steps": (lambda v: octave(v).pop("steps"), "steps"),
    "another batch size": (lambda v: v.update(batch_size=4), "batch_size or threads differ"),
    "a batch of a million": (lambda v: v.update(batch_size=10**6), "batch_size"),
    "two tiles of one name": (lambda v: v["tiles"][1].update(v["tiles"][0]), "tiles: two with the same file"),
    "a tile of no terms": (lambda v: v["tiles"][0].update(terms=[]), "terms"),
    "a weight that is none": (lambda v: v["tiles"][0]["terms"][0].update(weight=float("inf")), "weight"),
    "a feature that is none": (lambda v: v["tiles"][0]["terms"][0].update(feature=10**30), "feature"),
    "tiles of wrong types": (lambda v: v.update(tiles={"x": 1}), "tiles"),
    "an unknown figure": (lambda v: v.update(figure={"kind": "x"}), "figure"),
    "a setting nobody knows": (lambda v: v["fingerprints"][""].update(x=1), "fingerprints"),
}


def octave(values):
    return values["fingerprints"][""]["recipe"]["octaves"][0]


@pytest.mark.parametrize("harm", [*PLANS, *CHANGES])
def test_a_damaged_plan_is_one_line(run, harm, capsys):
    before = tiles()
    if harm in PLANS:
        path = run / "plan.json"
        path.write_bytes(PLANS[harm][0](path.read_text()))
    else:
        plan_with(CHANGES[harm][0])
    for word in ("run", "verify", "repair", "render", "zip", "fresh"):
        capsys.readouterr()
        assert typed(word) == 2
        error = one_line(capsys)
        assert error.startswith("featlight: run/plan.json: ")
        assert re.search((PLANS | CHANGES)[harm][1], error)
    assert tiles() == before


RECORD = {
    "file": ["tiles/2", "tiles/2/../../x.png", "x", None, 3, "tiles/2/00000.png\n", "plan.json", "/tiles/2/00000.png"],
    "status": ["good", None, 1, []],
    "bytes": ["x", -1, 1.5, 10**30, [1]],
    "curve": [3, [[0]], [["x", 1]], [[0, "x"]], {"0": 1}, [[1e400, 1]], "x"],
    "activation_end": ["x", [], {}],
    "name": [3, "a\x1b[2J", "x" * 2000, []],
    "reason": [3, "\n", {"x": 1}],
    "feature": ["x", -1, 1.5, 10**400],
    "fingerprint": [3, None, "\0"],
    "sha256": [3, "a\nb", []],
}


def test_a_damaged_record_is_as_none(run, capsys):
    """Each of its tiles is made again, to the bit, and nothing else befalls anybody."""
    before = tiles()
    good = json.loads((run / RECORDS).read_text().splitlines()[0])
    bad = [{**good, key: value} for key, values in RECORD.items() for value in values]
    words = [json.dumps(record, allow_nan=True) for record in bad]
    words += ["[" * 20_000, "{" * 20_000, '{"file": ' + "1" * 5000 + "}", "1", "null", "[]", "{}", '"', "\0", "NaN"]
    lines = (run / RECORDS).read_bytes().splitlines()[1:]
    (run / RECORDS).write_bytes(
        b"\n".join([*(word.encode() for word in words), b"\xff" * 99, b"x" * 300_000, *lines, b""])
    )
    for path in run.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    for word in ("verify", "render", "zip", "repair"):
        capsys.readouterr()
        assert typed(word) in (0, 1)
        assert capsys.readouterr().err == ""
    assert tiles() == before
    assert typed("run") == 0
    assert "6 tiles: 1 made, 5 kept" in capsys.readouterr().out
    assert tiles() == before
    assert typed("verify") == 0


def forged(content, name=TILES[0]):
    """A tile that its record vouches for."""
    Path("run", name).write_bytes(content)
    lines_with(lambda r: {"bytes": len(content), "sha256": sha256(content).hexdigest()} if r["file"] == name else {})


PICTURES = {
    "of 60,000 pixels a side": png(60_000, 60_000),
    "of two billion": png(2**31 - 1, 2**31 - 1),
    "of none": png(0, 0),
    "of text without end": png(24, 24, part(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 27)))),
    "cut short": png(24, 24)[:-20],
    "of nothing": b"\x89PNG\r\n\x1a\n",
    "that is none": b"GIF89a" + bytes(99),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_an_absurd_picture_is_one_line(run, kind, capsys):
    forged(PICTURES[kind])
    for words in (["--render-only"], ["export", "--webp", "webp"], ["export", "--poster", "p.png", "--dpi", "50"]):
        capsys.readouterr()
        assert main([*words, "--out", "run"]) == 1
        assert f"run/{TILES[0]}: damaged (" in one_line(capsys)
    (run / "floats/2/00000.safetensors").unlink()
    with pytest.raises(featlight.errors.FeatlightError, match="damaged"):
        featlight.open("run")[0]


def npy(words, data=b""):
    words = words.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(words)) + words + data


VECTORS = {
    "of a billion rows": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 8), }"),
    "of a billion columns": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1000000000), }"),
    "of objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 8), }", b"cos\nsystem\n(S'x'\ntR."),
    "of code": npy("__import__('os').mkdir('escaped')"),
    "deep": npy("(" * 60_000),
    "of other sizes": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", bytes(24)),
    "of nothing": b"",
    "a zip": b"PK\3\4" + bytes(99),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_absurd_vectors_are_one_line(run, kind, capsys):
    path = min(run.glob("vectors/chunks/*.npy"))
    path.write_bytes(VECTORS[kind])
    capsys.readouterr()
    assert typed("render") == 1
    assert f"{path}: damaged; `featlight verify --repair` removes it" in one_line(capsys)
    assert not Path("escaped").exists()
    assert typed("repair") == 1
    assert typed("run") == 0


@pytest.mark.parametrize("tensors", [{"other": torch.ones(3, 4, 4)}, {"image": torch.ones(4)}, None])
def test_an_absurd_float_image_is_one_line(run, tensors):
    path = run / "floats/2/00002.safetensors"
    path.write_bytes(b"\xff" * 99) if tensors is None else save_file(tensors, path)
    with pytest.raises(featlight.errors.FeatlightError, match=r"floats/2/00002\.safetensors: "):
        featlight.open("run")[2]


def test_events_of_absurd_length_are_passed_over(run):
    path = next(run.glob("tensorboard/events*"))
    head = struct.pack("<Q", 2**62)
    path.write_bytes(path.read_bytes() + head + struct.pack("<I", masked_crc32c(head)) + b"x")
    (run / "tensorboard/events.out.tfevents.0").mkdir()
    os.mkfifo(run / "tensorboard/events.out.tfevents.1")
    catch_up(run)
    assert typed("more") == 0
