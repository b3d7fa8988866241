"""Runs of the recipe `maco`: each tile with its transparency, the same bits whoever makes them, and shown on white."""

import json
import os
import signal
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import featlight
from featlight.cli.main import main
from featlight.engine.module import FeatureVisualizer
from featlight.report.sections import cell
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store
from tests.integration.test_faults import Narrow
from tests.integration.test_run import CONFIG as PLAIN
from tests.integration.test_run import records, run, tiles
from tests.unit.report.test_viewer import called

RECIPE = {
    "octaves": [{"size": 32, "steps": 3, "lr": [0.5, 0.3]}, {"size": 40, "steps": 2, "lr": [0.3, 0.1]}],
    "parameterization": "maco",
    "range": "sigmoid",
    "color": "decorrelated",
    "optimizer": "nadam",
    "transforms": [{"crop": {"boxes": 2, "side": [0.7, 0.4], "view": 0.8}}, {"noise": 0.05}],
}
CONFIG = {**PLAIN, "recipe": RECIPE}
TILES = [f"tiles/Mixed_4a/{i:05d}{suffix}.png" for i in range(6) for suffix in (".alpha", "")]


@pytest.fixture
def config() -> Path:
    path = Path("maco.yaml")
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def levels(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image)


def test_each_tile_comes_with_a_transparency_that_its_record_vouches_for(config, capsys):
    assert run(config) == 0
    assert list(tiles()) == TILES
    for record in records():
        content = Path("run", record["file"]).with_suffix(".alpha.png").read_bytes()
        assert record["alpha_sha256"] == sha256(content).hexdigest()
        alpha = levels(Path("run", record["file"]).with_suffix(".alpha.png"))
        assert alpha.shape == (40, 40)
        assert (alpha.max(), alpha.min() < 250) == (255, True)
        assert 0.05 < (alpha == 255).mean() < 0.2  # a tenth of the places, and what rounds to it
    capsys.readouterr()
    assert main(["verify", "--out", "run"]) == 0
    assert "0 problems" in capsys.readouterr().out


def test_python_hands_over_what_a_run_keeps(config):
    recipe = featlight.Recipe(**{**RECIPE, "octaves": [featlight.Octave(**octave) for octave in RECIPE["octaves"]]})
    network = featlight.load("tiny_inception")
    options = {"recipe": recipe, "batch_size": 4, "progress": False}
    in_memory = featlight.visualize(network, "Mixed_4a", range(6), **options)
    kept = featlight.visualize(network, "Mixed_4a", range(6), out="kept", **options)
    assert in_memory.alphas.shape == (6, 40, 40)
    assert torch.equal(in_memory.alphas, kept.alphas)
    assert torch.equal(featlight.open("kept").alphas, kept.alphas)
    for i, alpha in enumerate(kept.alphas):
        assert np.array_equal((alpha * 255).round().numpy(), levels(f"kept/tiles/Mixed_4a/{i:05d}.alpha.png"))
    shown, other = np.asarray(in_memory.show(), int), np.asarray(kept.show(), int)
    assert np.array_equal(shown, other)
    assert featlight.visualize(network, "Mixed_4a", [0], recipe="tiny_inception", progress=False).alphas is None


def test_a_batch_that_was_halved_has_the_same_transparencies(caplog):
    octaves = [featlight.Octave(24, 2, (0.5, 0.3)), featlight.Octave(32, 2, (0.3, 0.1))]
    recipe = featlight.Recipe(octaves, parameterization="maco", range="sigmoid", optimizer="nadam")
    options = {"layer": "body.4", "features": range(7), "recipe": recipe, "progress": False}
    whole = featlight.visualize(Narrow(99, None), batch_size=2, **options)
    halved = featlight.visualize(Narrow(2, torch.OutOfMemoryError("CUDA out of memory")), batch_size=4, **options)
    assert "no memory for 4 images at a time" in caplog.text
    assert halved.alphas.shape == (7, 32, 32)
    assert torch.equal(halved.images, whole.images)
    assert torch.equal(halved.alphas, whole.alphas)


def test_a_dead_tile_is_opaque_and_one_that_failed_has_nothing():
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([0.0, -100.0, torch.nan]))
    recipe = featlight.Recipe(
        [featlight.Octave(16, 2, (0.5, 0.3))], parameterization="maco", range="sigmoid", optimizer="nadam"
    )
    for out in (None, "run"):
        result = featlight.visualize(network, "1", recipe=recipe, out=out, progress=False)
        assert [record["status"] for record in result.records] == ["ok", "dead", "failed"]
        assert (result.alphas[1] == 1).all()
        assert result.alphas[0].min() < 0.9
        assert [result.read_alpha(i) is None for i in range(3)] == [False, False, True]
        assert result.show().width > 0
    assert [record["alpha_sha256"] is None for record in result.records] == [False, False, True]


def test_workers_and_interruptions_change_no_bit(config, monkeypatch, capsys):
    assert run(config) == 0
    whole = tiles()
    for rank in ("1", "0"):
        for key, value in {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
            monkeypatch.setenv(key, value)
        assert run(config, "--out", "two") == (75 if rank == "1" else 0)
    assert tiles("two") == whole
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(key)
    step = FeatureVisualizer.training_step

    def interrupt(self, batch, batch_idx):
        if self.trainer.current_epoch == 1 and batch_idx == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureVisualizer, "training_step", interrupt)
        assert run(config, "--out", "stopped") == 75
    assert len(tiles("stopped")) == 8
    capsys.readouterr()
    assert run(config, "--out", "stopped") == 0
    assert "6 tiles: 2 made, 4 kept" in capsys.readouterr().out
    assert tiles("stopped") == whole


def test_a_tile_whose_transparency_is_gone_is_made_again(config, capsys):
    assert run(config) == 0
    whole = tiles()
    Path("run/tiles/Mixed_4a/00001.alpha.png").unlink()
    Path("run/tiles/Mixed_4a/00004.alpha.png").write_bytes(b"harmed")
    assert main(["verify", "--out", "run", "--repair"]) == 1
    capsys.readouterr()
    assert run(config) == 0
    assert "6 tiles: 2 made, 4 kept" in capsys.readouterr().out
    assert tiles() == whole
    assert main(["verify", "--out", "run"]) == 0


def test_fresh_takes_all_that_the_run_made(config, capsys):
    assert run(config) == 0
    plain = {**CONFIG, "recipe": {"octaves": [{"size": 32, "steps": 2, "lr": [0.1, 0.1]}], "gradient": "rms"}}
    config.write_text(yaml.safe_dump(plain))
    assert run(config, "--fresh") == 0
    assert list(tiles()) == TILES[1::2]
    assert not list(Path("run/assets").rglob("plain-*"))
    assert "plain" not in called("run/assets/data.js", "run")["groups"][0]
    assert "kept, not the run's own" not in capsys.readouterr().err


def test_atlas_and_sheets_lay_tiles_on_white_and_the_viewer_has_both(config):
    assert run(config) == 0
    (group,) = called("run/assets/data.js", "run")["groups"]
    sides = {}
    for key in ("sheets", "plain"):
        with Image.open(Path("run", group[key][0])) as sheet:
            sides[key] = np.asarray(sheet, float)[: group["side"], : group["side"]]
    with Image.open("run/tiles/Mixed_4a/00000.png") as tile:
        plain = np.asarray(tile, float)
    alpha = levels("run/tiles/Mixed_4a/00000.alpha.png")[..., None] / 255
    laid = plain * alpha + 255 * (1 - alpha)
    for key, pixels in (("sheets", laid), ("plain", plain)):
        small = Image.fromarray(pixels.round().astype(np.uint8)).resize((group["side"],) * 2, Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(small, float) - sides[key]).mean() < 6  # they are JPEGs
    assert sides["sheets"].mean() > sides["plain"].mean() + 5
    store = Store(Path("run"))
    snapshot = Snapshot.from_store(store, store.plan())
    shown = np.asarray(cell(snapshot, snapshot.plan.tiles[0]).open(), float)  # as atlas, figures and posters have it
    assert np.abs(shown - laid).max() <= 1


@pytest.mark.parametrize("tiles", ["png", "webp"])
def test_a_zip_has_the_transparencies_and_its_card_takes_them_for_no_images(config, tiles):
    assert run(config) == 0
    assert main(["export", "--out", "run", "--zip", "site.zip", "--tiles", tiles]) == 0
    with zipfile.ZipFile("site.zip") as site:
        names = site.namelist()
        for name in TILES[::2]:
            assert site.read(name) == Path("run", name).read_bytes()
        front = yaml.safe_load(site.read("README.md").decode().split("---")[1])
        lines = [json.loads(line) for line in site.read("records/records.jsonl").splitlines()]
        site.extractall("unpacked")
    (group,) = called("unpacked/assets/data.js", "run")["groups"]
    assert {*group["plain"], *group["sheets"]} <= set(names)
    images = [f"tiles/Mixed_4a/{i:05d}.{tiles}" for i in range(6)]
    assert front["configs"][0]["data_files"] == ["metadata.csv", *images]
    assert all(line["alpha_sha256"] for line in lines)
    if tiles == "png":
        assert main(["verify", "--out", "unpacked"]) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"range": "unbounded"}, "range: unbounded given with parameterization maco"),
        (
            {"octaves": [{"size": 32, "steps": 1, "lr": [1, 1], "sigma": [1, 1]}]},
            "sigma: a blur given with parameterization maco, whose magnitudes are fixed; null is allowed",
        ),
        ({"optimizer": "spectral"}, "optimizer: spectral given with parameterization maco"),
        ({"transforms": [{"crop": {"boxes": 2, "side": [0.7, 0.4], "view": 9}}]}, "crop: view: 9 given"),
    ],
)
def test_what_maco_cannot_do_is_refused_in_a_line(config, capsys, changes, words):
    config.write_text(yaml.safe_dump({**CONFIG, "recipe": {**RECIPE, **changes}}))
    assert run(config) == 2
    assert words in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.parametrize("name", ["both.alpha", "both.Alpha"])
def test_a_name_that_a_transparency_would_take_is_refused(config, capsys, name):
    term = {"layer": "Mixed_4a", "feature": 1}
    named = {key: value for key, value in CONFIG.items() if key not in ("layer", "features")}
    config.write_text(yaml.safe_dump({**named, "tiles": [{"name": name, "terms": [term]}]}))
    assert run(config) == 2
    assert f"name '{name}' given; maco saves transparency under such names" in capsys.readouterr().err
