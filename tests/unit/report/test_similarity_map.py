"""Which tiles are alike: the table, the picture, what the viewer is told, and when nobody is told any more."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import featlight
from featlight.cli.main import main
from featlight.drawing.embedding_plot import cluster_color
from featlight.report.build import render
from featlight.store.own_files import Deletion
from featlight.store.similarity import read_similarity
from featlight.store.store import Store
from tests.made_up import color, made_up_run
from tests.unit.report.test_viewer import called

VECTORS = np.eye(3)[[0] * 6 + [1] * 9 + [2] * 5] + 0.1 * np.random.default_rng(2).random((20, 3))
CLUSTERS = [2] * 6 + [1] * 9 + [3] * 5


def run_with_vectors(root, **values) -> Store:
    layers = {"Mixed_4a": 20, "Mixed_5a": 3}
    return made_up_run(root, layers, vectors={"Mixed_4a": VECTORS, "Mixed_5a": VECTORS}, **values)


def alike(root):
    return featlight.find_alike(root, method="pca", clusters=3)["Mixed_4a"]


def test_the_table_has_every_tile_with_a_vector(tmp_path):
    run_with_vectors(tmp_path, missing={7}, failed={8})
    found = alike(tmp_path)
    there = [i for i in range(20) if i not in (7, 8)]
    assert found.tiles == [f"tiles/Mixed_4a/{i:05d}.png" for i in there]
    assert found.clusters == [CLUSTERS[i] for i in there]
    rows = VECTORS[there] / np.linalg.norm(VECTORS[there], axis=1, keepdims=True)
    left, sizes, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert np.abs(found.x) == pytest.approx(np.abs(left[:, 0] * sizes[0]), abs=1e-5)
    assert np.abs(found.y) == pytest.approx(np.abs(left[:, 1] * sizes[1]), abs=1e-5)
    store = Store(tmp_path)
    assert json.loads((tmp_path / "alike/Mixed_4a.json").read_text())["clusters"] == found.clusters
    assert read_similarity(store.folder, tmp_path / "alike/Mixed_4a.json") == found
    assert not (tmp_path / "alike/Mixed_5a.json").exists()  # too few tiles to embed


@pytest.mark.parametrize("side", [40, 144])  # the viewer's small tiles serve, and do not
def test_the_picture_has_each_tile_on_its_place_and_its_clusters_colour(tmp_path, side):
    run_with_vectors(tmp_path, dead={3}, picture=lambda i: Image.new("RGB", (side, side), color(i)))
    found = alike(tmp_path)
    with Image.open(tmp_path / "alike/Mixed_4a.png") as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
        assert file.text["Title"].startswith("tiny_inception Mixed_4a")
    shown = []
    for i, (place, cluster) in enumerate(zip(found.places, found.clusters, strict=True)):
        if i == 3:
            continue  # pale, with a pattern
        own = np.abs(picture - color(i)).max(2) <= 6
        bottom = np.flatnonzero(own.sum(1) >= 40).max()  # letters and edges are smaller
        left, *_, right = np.flatnonzero(own.sum(0) >= 40)
        assert tuple(picture[bottom, left - 1]) == cluster_color(cluster)
        shown.append((place // found.columns, place % found.columns, bottom, right))
    rows, columns, bottoms, rights = map(np.array, zip(*shown, strict=True))
    down, across = np.polyfit(rows, bottoms, 1)[0], np.polyfit(columns, rights, 1)[0]
    assert bottoms - down * rows == pytest.approx(np.full(19, bottoms[0] - down * rows[0]), abs=0.01)
    assert rights - across * columns == pytest.approx(np.full(19, rights[0] - across * columns[0]), abs=0.01)


def test_the_viewer_is_told_until_the_tiles_are_others(tmp_path):
    store = run_with_vectors(tmp_path, missing={7})
    found = alike(tmp_path)
    told = called(tmp_path / "assets/data.js", "run")
    first, second = told["groups"]
    assert first["alike"]["clusters"] == [*found.clusters[:7], None, *found.clusters[7:]]
    assert first["alike"]["places"] == [*found.places[:7], None, *found.places[7:]]
    assert first["alike"]["colors"] == [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in map(cluster_color, (1, 2, 3))]
    assert (first["alike"]["columns"], first["alike"]["rows"]) == (found.columns, found.rows)
    assert "alike" not in second
    assert told["figures"] == ["alike/Mixed_4a.png"]
    records = tmp_path / "records/worker-0.jsonl"
    records.write_text(records.read_text().replace('"sha256": "Mixed_4a5"', '"sha256": "again"'))
    store = Store(tmp_path)
    render(store, store.plan())
    told = called(tmp_path / "assets/data.js", "run")
    assert "alike" not in told["groups"][0]
    assert told["figures"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"x": [1.0]},
        {"places": [0] * 20},
        {"places": [10**6, *range(19)]},
        {"clusters": [21] * 20},
        {"clusters": [0] * 20},
        {"columns": 0},
        {"words": 3},
    ],
)
def test_what_is_no_likeness_is_none(tmp_path, change):
    store = run_with_vectors(tmp_path)
    alike(tmp_path)
    path = tmp_path / "alike/Mixed_4a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_similarity(store.folder, path) is None


def test_the_command_says_where_to_look(tmp_path, capsys):
    run_with_vectors(tmp_path)
    assert main(["alike", "--out", str(tmp_path), "--method", "pca", "--layer", "Mixed_4a"]) == 0
    first, picture, page = capsys.readouterr().out.splitlines()
    assert first.startswith("Mixed_4a: 20 tiles by PCA, two components with ")
    assert first.endswith(" of the variance; 3 clusters")
    assert picture == f"alike        {tmp_path}/alike/Mixed_4a.png"
    assert page == f"page         {tmp_path}/index.html#alike"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer", "Mixed_5a"], "Mixed_5a: fewer than 4 tiles with different vectors; make more tiles of the layer"),
        (["--layer", "Mixed_4"], "layer: no layer 'Mixed_4'; nearest: 'Mixed_4a'"),
        (["--method", "tsne"], "method: no method 'tsne'; allowed: auto, umap, pca"),
        (["--clusters", "0"], "--clusters: '0' given; allowed: a whole number from 1 to 10000"),
    ],
)
def test_slips_are_told_in_a_line(tmp_path, capsys, words, said):
    run_with_vectors(tmp_path)
    assert main(["alike", "--out", str(tmp_path), *words]) == 2
    assert capsys.readouterr().err == f"featlight: {said}\n"
    assert not (tmp_path / "alike").exists()


def test_umap_is_taken_where_it_is_installed(tmp_path, capsys, monkeypatch):
    run_with_vectors(tmp_path)
    monkeypatch.setattr("featlight.report.similarity_map.has_umap", lambda: False)
    assert main(["alike", "--out", str(tmp_path), "--method", "umap"]) == 2
    assert capsys.readouterr().err == (
        "featlight: method: umap is not installed; run pip install 'featlight[umap]', or choose pca\n"
    )
    assert featlight.find_alike(tmp_path)["Mixed_4a"].words.startswith("PCA")


def test_runs_own_it(tmp_path):
    store = run_with_vectors(tmp_path / "run")
    alike(tmp_path / "run")
    assert main(["export", "--out", str(tmp_path / "run"), "--zip", str(tmp_path / "site.zip")]) == 0
    names = zipfile.ZipFile(tmp_path / "site.zip").namelist()
    assert {"alike/Mixed_4a.json", "alike/Mixed_4a.png"} <= set(names)
    going = {path.name for path in Deletion.from_store(store).files if path.parent.name == "alike"}
    assert going == {"Mixed_4a.json", "Mixed_4a.png"}
