"""The viewer's files, without a browser: what they say, that nothing leaves them, and that they can be made again."""

import base64
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import featlight
from featlight.analysis.similar_tiles import nearest_tiles
from featlight.cli.main import main
from featlight.config.presets import EMBEDDED
from featlight.config.tile import Term, Tile, feature_tile
from featlight.drawing.atlas import draw_atlas
from featlight.plan.plan import PlannedTile
from featlight.plan.reproduce import command_alone
from featlight.report.build import is_rendered, render, render_again
from featlight.report.viewer.page import SCRIPTS
from featlight.store.contents import read_picture
from featlight.store.own_files import Deletion
from featlight.store.store import Store
from tests import ROOT
from tests.made_up import activation, color, made_up_examples, made_up_run

CODE = Path(featlight.__file__).parent / "report/viewer/static"


def called(path, call):
    """What a data script hands over."""
    text = Path(path).read_text()
    assert text.startswith(f"Featlight.{call}(")
    assert text.endswith(");\n")
    assert not set("<>&") & set(text)
    handed = text[len(f"Featlight.{call}(") : -3]
    if handed.startswith("JSON.parse('"):
        handed = re.sub(r"\\(.)", r"\1", handed[len("JSON.parse('") : -len("')")])
    return json.loads(handed)


def drawn(root, layers=None, **values):
    store = made_up_run(root, {"Mixed_4a": 20} if layers is None else layers, **values)
    render(store, store.plan())
    return store


def test_every_script_is_loaded_and_short():
    assert sorted(SCRIPTS) == sorted(path.name for path in CODE.glob("*.js"))
    assert all(len(path.read_text().splitlines()) < 300 for path in CODE.iterdir())


def test_the_data_say_what_the_records_say(tmp_path):
    drawn(tmp_path, {"Mixed_4a": 20, "Mixed_5a": 3}, variants=("L1", "L2"), dead={1}, failed={2}, missing={3})
    run = called(tmp_path / "assets/data.js", "run")
    assert [(group["name"], group["title"]) for group in run["groups"]] == [
        ("L1/Mixed_4a", "Mixed_4a L1"),
        ("L1/Mixed_5a", "Mixed_5a L1"),
        ("L2/Mixed_4a", "Mixed_4a L2"),
        ("L2/Mixed_5a", "Mixed_5a L2"),
    ]
    group = run["groups"][0]
    assert group["status"] == ["ok", "dead", "failed", "missing"] + ["ok"] * 16
    assert group["end"][:5] == [activation(0), 0.0, None, None, activation(4)]
    assert (group["folder"], group["stems"][7]) == ("tiles/L1/Mixed_4a", "00007")
    details = called(tmp_path / group["details"][0], "details")
    assert (details["group"], details["start"], len(details["tiles"])) == ("L1/Mixed_4a", 0, 20)
    assert details["tiles"][4]["curve"][-1] == [7, activation(4)]
    assert details["tiles"][2]["reason"] == "<b>not finite</b>"
    assert "42 of 46 tiles, 2 dead, 2 failed" in (tmp_path / "index.html").read_text()


def test_sheets_hold_the_tiles_pixels(tmp_path):
    drawn(tmp_path, {"a": 300}, missing={5})
    (group,) = called(tmp_path / "assets/data.js", "run")["groups"]
    side = group["side"]
    for i in (0, 4, 6, 17, 255, 256, 299):
        with Image.open(tmp_path / group["sheets"][i // 256]) as sheet:
            assert max(sheet.size) <= 2048
            x, y = i % 256 % group["across"] * side, i % 256 // group["across"] * side
            tile = np.asarray(sheet.convert("RGB").crop((x, y, x + side, y + side)), float)
        assert np.abs(tile - color(i)).max() <= 4  # JPEG's own; a neighbour's color would be far off
    with Image.open(tmp_path / group["sheets"][0]) as sheet:
        assert np.abs(np.asarray(sheet.convert("RGB"))[side // 2, 5 * side + side // 2].astype(int) - 128).max() <= 2


def test_a_sheet_is_made_again_only_where_a_tile_has_changed(tmp_path, monkeypatch):
    store = drawn(tmp_path, {"a": 300})
    sheets = [tmp_path / f"assets/tiles/a/0{i}.jpg" for i in range(2)]
    before = [path.stat().st_mtime_ns for path in sheets]
    path = tmp_path / "records/worker-0.jsonl"
    path.write_text(path.read_text().replace('"sha256": "a299"', '"sha256": "another"'))
    store = Store(tmp_path)  # as the next command sees it
    assert not is_rendered(store, store.plan())
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "tiles/a/00299.png")
    render_again(tmp_path)
    after = [path.stat().st_mtime_ns for path in sheets]
    assert after[0] == before[0]
    assert after[1] > before[1]
    with Image.open(sheets[1]) as sheet:
        assert sheet.convert("RGB").getpixel((43 % 16 * 96 + 48, 43 // 16 * 96 + 48)) == pytest.approx(
            (255, 0, 0), abs=4
        )
    assert is_rendered(store, store.plan())
    sheets[0].write_bytes(b"torn")
    render_again(tmp_path)
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (1536, 1536)


@pytest.mark.parametrize("wide", [1000, 20])  # whether rows count as very long ones
def test_nearest_tiles_are_those_of_the_cosine(monkeypatch, wide):
    vectors = np.random.default_rng(0).random((50, 12))
    vectors[7] = np.nan
    monkeypatch.setattr("featlight.analysis.similar_tiles.PAIRS", 500)  # 10 each
    monkeypatch.setattr("featlight.analysis.similar_tiles.FEWEST_NEIGHBORS", 4)
    monkeypatch.setattr("featlight.analysis.similar_tiles.BLOCK", 16 * 49)
    monkeypatch.setattr("featlight.analysis.similar_tiles.WIDE", wide)
    rows, cosines = nearest_tiles(vectors)
    assert rows.shape == cosines.shape == (50, 10)
    assert (rows[7] == -1).all()
    for i in set(range(50)) - {7}:
        theirs = {
            j: float(vectors[i] @ vectors[j] / np.sqrt((vectors[i] ** 2).sum() * (vectors[j] ** 2).sum()))
            for j in range(50)
            if j not in (i, 7)
        }
        assert rows[i].tolist() == sorted(theirs, key=theirs.__getitem__, reverse=True)[:10]
        assert cosines[i] == pytest.approx([theirs[j] for j in rows[i]], abs=1e-5)


def test_all_of_a_small_layer_are_neighbours(tmp_path):
    vectors = np.random.default_rng(0).random((20, 8))
    drawn(tmp_path, vectors={"Mixed_4a": vectors}, failed={2})
    tiles = called(tmp_path / "assets/tiles/Mixed_4a/00.js", "details")["tiles"]
    places = np.frombuffer(base64.b64decode(tiles[0]["neighbours"]), "<u2")
    cosines = np.frombuffer(base64.b64decode(tiles[0]["cosines"]), "i1") / 127
    assert sorted(places) == [1, *range(3, 20)]  # all but itself and the one that failed
    theirs = vectors[0] @ vectors[places[0]] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[places[0]])
    assert cosines[0] == pytest.approx(theirs, abs=1 / 127)
    assert (np.diff(cosines) <= 0).all()
    assert nearest_tiles(np.ones((1, 3)))[0].shape == (1, 0)


@pytest.mark.parametrize("scale", [3e38, 1e-30, 1e-45])
def test_cosines_of_extreme_vectors_are_exact(scale):
    vectors = np.float32([[1, 0], [0, 1], [-1, 1], [0, 0]]) * np.float32([scale, 1, scale, 1])[:, None]
    rows, cosines = nearest_tiles(vectors)
    assert rows[0].tolist() == [1, 3, 2]
    np.testing.assert_allclose(cosines[0], [0, 0, -(0.5**0.5)], atol=1e-6)


def test_words_from_outside_are_text(tmp_path):
    wild = '</script><img src=x onerror="alert(1)">&amp;ü'
    drawn(tmp_path, weights=wild)
    page = (tmp_path / "index.html").read_text()
    assert "<img" not in page
    assert "&lt;/script&gt;&lt;img" in page
    assert called(tmp_path / "assets/data.js", "run")["weights"] == wild
    assert (tmp_path / "assets/data.js").read_text().isascii()
    code = "".join(path.read_text() for path in CODE.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", code)


def test_nothing_comes_from_elsewhere(tmp_path):
    drawn(tmp_path)
    page = (tmp_path / "index.html").read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#x27;none&#x27;;")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<style|<script(?! src=)| style=| on[a-z]+=", page)
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all((tmp_path / link).is_file() for link in links if not link.startswith("#"))
    for path in [tmp_path / "index.html", *tmp_path.glob("assets/*.*")]:
        addresses = set(re.findall(r"[a-z]+://[^\s\"']*", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path  # the name of SVG, fetched by nobody


def test_random_weights_are_said_loudly(tmp_path):
    drawn(tmp_path, weights="RANDOM WEIGHTS, seed 999")
    assert '<p class="loud" role="note">RANDOM WEIGHTS, seed 999</p>' in (tmp_path / "index.html").read_text()


def test_fresh_removes_all_of_it(tmp_path):
    store = drawn(tmp_path, {"a": 5, "b": 2}, variants=("L1", "L2"), octaves=True)
    (tmp_path / "assets/mine.txt").write_text("mine")
    Deletion.from_store(store).carry_out()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"assets/mine.txt", "plan.json"}


def test_a_viewer_that_is_gone_is_made_again(tmp_path):
    store = drawn(tmp_path)
    assert is_rendered(store, store.plan())
    (tmp_path / "assets/data.js").unlink()
    assert not is_rendered(store, store.plan())
    assert "featlight-state" in (tmp_path / "index.html").read_text()[:2000]


def test_render_only_loads_no_torch(tmp_path):
    made_up_run(tmp_path, {"a": 3})
    code = (
        "import sys; from featlight.cli.main import main; "
        f"code = main(['--render-only', '--out', {str(tmp_path)!r}]); "
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "assets/data.js").is_file()


def test_commands(tmp_path):
    plan = made_up_run(tmp_path, {"Mixed_4a": 3}).plan()
    two = Tile("both", (Term("Mixed_4a", 1), Term("Mixed_4a", 2, weight=0.5, region="neuron", index=(1, 2))))
    *lines, last = command_alone(plan, PlannedTile("", two)).splitlines()
    assert yaml.safe_load("\n".join(lines[1:-1]))["tiles"] == [
        {
            "name": "both",
            "terms": [
                {"layer": "Mixed_4a", "feature": 1},
                {"layer": "Mixed_4a", "feature": 2, "weight": 0.5, "region": "neuron", "index": [1, 2]},
            ],
        }
    ]
    assert last == (
        "featlight --config tile.yaml --model tiny_inception --batch-size 4 --threads 1 --out runs/tiny_inception-both"
    )
    row = command_alone(plan, PlannedTile("", feature_tile("Mixed_4a", 2, "row", 3))).splitlines()[-1]
    assert "--layer Mixed_4a --features 2 --region row --index 3 " in row
    assert command_alone(plan, PlannedTile("", feature_tile("Mixed_4a", None))).count("--region all") == 1
    network = plan.network.model_copy(update={"weights": "RANDOM WEIGHTS, seed 5", "file": None})
    plan.network = network
    assert " --weights none " in command_alone(plan, PlannedTile("", two))
    plan.network = network = network.model_copy(update={"weights": "as given"})
    assert command_alone(plan, PlannedTile("", two)) is None
    plan.network = network.model_copy(update={"model": "my.module:build"})
    assert "--model my.module:build " in command_alone(plan, PlannedTile("", two))
    plan.settings[""] = plan.settings[""].model_copy(update={"init": "1" * 64})
    assert command_alone(plan, PlannedTile("", two)) is None


def test_the_command_makes_the_tile_to_the_bit(capsys):
    octaves = [{"size": 32, "steps": 2, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]}]
    config = {"model": EMBEDDED, "layer": ["Mixed_4a"], "features": "0-2", "batch_size": 4, "threads": 1, "out": "run"}
    config |= {"recipe": {"octaves": octaves}, "variants": [{"name": "L1"}, {"name": "L2", "metric": "l2", "seed": 5}]}
    Path("run.yaml").write_text(yaml.safe_dump(config))
    assert main(["--config", "run.yaml"]) == 0
    tiles = called("run/assets/tiles/L2/Mixed_4a/00.js", "details")["tiles"]
    head, *lines, end, command = tiles[1]["command"].splitlines()
    assert (head, end) == ("cat > tile.yaml <<'END'", "END")
    Path("tile.yaml").write_text("\n".join(lines))
    assert main(command.split()[1:]) == 0
    alone = Path("runs/tiny_inception-L2-Mixed_4a-00001/tiles/Mixed_4a/00001.png")
    assert alone.read_bytes() == Path("run/tiles/L2/Mixed_4a/00001.png").read_bytes()
    assert Store(Path("run")).plan().settings["L2"].metric == "l2"


def test_examples_are_told_tile_by_tile_and_shown_again_where_they_change(tmp_path):
    store = drawn(tmp_path, {"Mixed_4a": 20})
    group = called(tmp_path / "assets/data.js", "run")["groups"][0]
    assert not {"best", "example"} & group.keys()
    made_up_examples(store)
    assert not is_rendered(store, store.plan())
    render(store, store.plan())
    group = called(tmp_path / "assets/data.js", "run")["groups"][0]
    assert group["best"] == ["assets/tiles/Mixed_4a/examples-00.jpg"]
    assert group["example"][2] == activation(2) / 2
    tile = called(tmp_path / "assets/tiles/Mixed_4a/00.js", "details")["tiles"][2]
    assert tile["examples"][1] == ["class/1.png", pytest.approx(activation(2) / 3, rel=1e-5), "drawn"]
    assert tile["histogram"] == [64, [5, 0, 7]]
    with Image.open(tmp_path / group["best"][0]) as sheet:
        assert sheet.getpixel((2 * 96 + 48, 48)) == pytest.approx(color(3), abs=6)
    sheet = tmp_path / group["best"][0]
    before = sheet.read_bytes()
    made_up_examples(store, count=1)
    render(store, store.plan())
    assert sheet.read_bytes() == before  # the best are the same
    made_up_examples(store, picture=lambda number: Image.new("RGB", (9, 9)))
    (tmp_path / "examples/examples.jsonl").write_text(
        (tmp_path / "examples/examples.jsonl").read_text().replace("0.png", "4.png")
    )
    render(store, store.plan())
    assert sheet.read_bytes() != before


@pytest.mark.parametrize(("side", "count"), [(8192, 1), (1024, 4)])
def test_an_atlas_is_drawn_again_only_where_it_would_show_something_else(tmp_path, monkeypatch, side, count):
    monkeypatch.setattr("featlight.report.build.draw_atlas", partial(draw_atlas, side_limit=side))
    store = drawn(tmp_path, picture=lambda i: Image.new("RGB", (250, 250), color(i)))
    sheets = {path: path.stat().st_mtime_ns for path in (tmp_path / "atlas").iterdir()}
    assert len(sheets) == count
    reads: list[Path] = []

    def read(folder, path):
        reads.append(path)
        return read_picture(folder, path)

    monkeypatch.setattr("featlight.report.sections.read_picture", read)

    def changed():
        return {path for path, before in sheets.items() if path.stat().st_mtime_ns != before}

    render(store, store.plan())
    assert (reads, changed()) == ([], set())
    render(store, store.plan(), anew=True)
    assert changed() == set(sheets)
    sheets = {path: path.stat().st_mtime_ns for path in sheets}
    max(sheets).unlink()
    render(store, store.plan())
    assert changed() == set(sheets)
    sheets = {path: path.stat().st_mtime_ns for path in sheets}
    records = tmp_path / "records/worker-0.jsonl"
    records.write_text(records.read_text().replace('"sha256": "Mixed_4a5"', '"sha256": "again"'))
    store = Store(tmp_path)
    render(store, store.plan())
    assert changed() == set(sheets)
