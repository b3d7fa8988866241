"""The command line from end to end, in this process, on the embedded network at small sizes."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import featlight
from featlight.cli.main import main
from featlight.engine.module import FeatureVisualizer
from featlight.store.store import Store
from tests import ROOT

CONFIG = {
    "model": "tiny_inception",
    "layer": ["Mixed_4a"],
    "features": "0-5",
    "batch_size": 4,
    "threads": 1,
    "recipe": {
        "octaves": [
            {"size": 32, "steps": 3, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]},
            {"size": 40, "steps": 2, "lr": [0.05, 0.02], "sigma": [0.8, 0.4]},
        ],
        "gradient": "rms",
    },
    "out": "run",
}


@pytest.fixture
def config() -> Path:
    path = Path("small.yaml")
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def run(config, *flags):
    return main(["--config", str(config), *flags])


def tiles(out="run"):
    root = Path(out)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("tiles/**/*.png"))}


def records(out="run"):
    return [json.loads(line) for path in Path(out).glob("records/*.jsonl") for line in path.read_text().splitlines()]


def test_a_run_leaves_everything_that_is_promised(config, capsys):
    assert run(config) == 0
    last = capsys.readouterr().out.splitlines()[-4:]
    assert last[0].startswith("6 tiles: 6 made, 0 kept, 0 dead, 0 failed; ")
    assert last[0].endswith(" tiles/s")
    assert [line.split(maxsplit=1) for line in last[1:]] == [
        ["atlas", "run/atlas/Mixed_4a.png"],
        ["page", "run/index.html"],
        ["TensorBoard", "tensorboard --logdir run/tensorboard"],
    ]
    root = Path("run")
    assert list(tiles()) == [f"tiles/Mixed_4a/{i:05d}.png" for i in range(6)]
    for name in ("plan.json", "config.yaml", "index.html", "atlas/Mixed_4a.png", "vectors/Mixed_4a.npy"):
        assert (root / name).is_file()
    assert not list(root.rglob("*.tmp"))
    found = records()
    assert [record["feature"] for record in found] == list(range(6))
    for record in found:
        assert record.keys() >= {
            "name",
            "layer",
            "variant",
            "reason",
            "sha256",
            "bytes",
            "chunk",
            "fingerprint",
            "seconds",
        }
        assert record["status"] == "ok"
        assert record["curve"][0] == [0, record["activation_start"]]
        assert record["curve"][-1] == [5, record["activation_end"]]
        assert record["activation_end"] > record["activation_start"]
        assert record["gradient_norm"] > 0
    with Image.open(root / "tiles/Mixed_4a/00003.png") as image:
        assert image.size == (40, 40)
        text = json.loads(image.text["featlight"])
    assert text["terms"] == [
        {"layer": "Mixed_4a", "feature": 3, "weight": 1.0, "region": "map", "index": None},
    ]
    assert (text["model"], text["seed"], text["recipe"]) == ("tiny_inception", 999, CONFIG["recipe"])
    resolved = yaml.safe_load((root / "config.yaml").read_text())
    assert resolved["layer"] == ["Mixed_4a"]
    assert f"torch {torch.__version__}" in (root / "config.yaml").read_text()


def test_records_and_vectors_hold_what_the_network_says(config):
    assert run(config, "--float-images") == 0
    network = featlight.load("tiny_inception")
    vectors = np.load("run/vectors/Mixed_4a.npy")
    result = featlight.open("run")
    kept = {}
    network.Mixed_4a.register_forward_hook(lambda _, __, output: kept.update(out=output))
    with torch.no_grad():
        network(result.images)
    means = kept["out"].mean((2, 3))
    assert np.allclose(vectors, means.numpy(), rtol=1e-4, atol=1e-5)
    for i, record in enumerate(result.records):
        assert record["activation_end"] == pytest.approx(means[i, i].item(), rel=1e-3, abs=1e-5)
        shown = (result[i].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
        with Image.open(f"run/tiles/Mixed_4a/{i:05d}.png") as image:
            assert np.array_equal(np.array(image), shown)


def test_typed_again_it_makes_nothing_and_loads_no_network(config, capsys, monkeypatch):
    assert run(config) == 0
    before = tiles(), records(), (Path("run") / "atlas/Mixed_4a.png").stat().st_mtime_ns
    capsys.readouterr()
    monkeypatch.setattr("featlight.models.catalog.load_model", None)
    assert run(config) == 0
    assert capsys.readouterr().out.startswith("6 tiles: 0 made, 6 kept, 0 dead, 0 failed\n")
    assert (tiles(), records(), (Path("run") / "atlas/Mixed_4a.png").stat().st_mtime_ns) == before


def test_only_what_is_missing_is_made_and_its_bits_are_the_same(config, capsys):
    assert run(config) == 0
    whole = tiles()
    for i in (1, 4):
        Path(f"run/tiles/Mixed_4a/{i:05d}.png").unlink()
    kept = Path("run/tiles/Mixed_4a/00000.png").stat().st_mtime_ns
    capsys.readouterr()
    assert run(config) == 0
    assert "6 tiles: 2 made, 4 kept" in capsys.readouterr().out
    assert tiles() == whole
    assert Path("run/tiles/Mixed_4a/00000.png").stat().st_mtime_ns == kept
    assert run(config, "--out", "elsewhere") == 0
    assert tiles("elsewhere") == whole


def test_neighbours_and_order_never_change_an_image(config):
    assert run(config) == 0
    assert run(config, "--out", "other", "--features", "5,2,9,0,11") == 0
    ours, theirs = tiles(), tiles("other")
    common = ours.keys() & theirs.keys()
    assert len(common) == 3
    assert all(ours[name] == theirs[name] for name in common)


def test_asking_for_more_extends_the_run(config, capsys):
    assert run(config) == 0
    capsys.readouterr()
    assert run(config, "--features", "0-7", "--layer", "Mixed_4a", "--layer", "Mixed_3a") == 0
    assert "16 tiles: 10 made, 6 kept" in capsys.readouterr().out
    assert len(records()) == 16
    assert Path("run/atlas/Mixed_3a.png").is_file()
    assert run(config, "--features", "0-1") == 0
    assert "2 tiles: 0 made, 2 kept" in capsys.readouterr().out


def test_a_run_that_grows_from_one_tile_draws_as_a_larger_run_does(config):
    assert run(config, "--features", "3", "--batch-size", "auto") == 0
    assert run(config, "--features", "2-5", "--batch-size", "auto") == 0
    assert [record["batch_size"] for record in records()] == [1, 4, 4, 4]
    assert run(config, "--features", "2,4,5", "--out", "other", "--batch-size", "auto") == 0
    grown, other = tiles(), tiles("other")
    assert all(grown[name] == other[name] for name in other)


@pytest.mark.parametrize(
    ("flags", "keys"),
    [(["--seed", "1"], "seed: there 999, now 1"), (["--metric", "l2"], 'metric: there "l1", now "l2"')],
)
def test_another_run_in_the_directory_is_refused_unless_fresh(config, capsys, flags, keys):
    assert run(config) == 0
    before = tiles()
    assert run(config, *flags) == 2
    assert keys in capsys.readouterr().err
    assert tiles() == before
    Path("run/notes.txt").write_text("mine")
    assert run(config, *flags, "--fresh") == 0
    assert tiles() != before
    assert Path("run/notes.txt").read_text() == "mine"


def test_fresh_refuses_a_directory_that_is_no_run(config, capsys):
    Path("run").mkdir()
    Path("run/photo.png").write_text("mine")
    assert run(config, "--fresh") == 2
    assert "not a run" in capsys.readouterr().err
    assert [path.name for path in Path("run").iterdir()] == ["photo.png"]


def test_render_only_needs_tiles_and_records_alone(config, monkeypatch):
    assert run(config) == 0
    for name in ("atlas/Mixed_4a.png", "index.html", "vectors/Mixed_4a.npy"):
        Path("run", name).rename(Path(name).name)
    monkeypatch.setattr("featlight.models.catalog.load_model", None)
    assert run(config, "--render-only") == 0
    for name in ("atlas/Mixed_4a.png", "index.html", "vectors/Mixed_4a.npy"):
        assert Path("run", name).read_bytes() == Path(Path(name).name).read_bytes()
    assert run(config, "--render-only", "--out", "nowhere") == 2


def test_a_dry_run_writes_nothing(config, capsys):
    assert run(config, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "6, 6 of them to be made" in out
    assert "2 of up to 4 tiles" in out
    assert re.search(r"disk +about [\d.]+ KiB in run, where [\d.]+ [KMGTP]iB are free", out)
    assert "hours" in out
    assert not Path("run").exists()


def test_dead_features_are_marked_and_no_failure(capsys):
    config = {**CONFIG, "model": "tests.integration.test_run:half_dead", "layer": ["1"], "features": "all"}
    Path("dead.yaml").write_text(yaml.safe_dump(config))
    assert run("dead.yaml") == 0
    assert "4 tiles: 4 made, 0 kept, 2 dead, 0 failed" in capsys.readouterr().out
    found = {record["feature"]: record for record in records()}
    assert [found[i]["status"] for i in range(4)] == ["ok", "dead", "ok", "dead"]
    assert found[1]["reason"] == "no gradient at any of the 5 steps"
    assert found[1]["gradient_norm"] == 0
    assert Path("run/tiles/1/00001.png").is_file()
    assert '"status":["ok","dead","ok","dead"]' in Path("run/assets/data.js").read_text()
    assert "4 of 4 tiles, 2 dead, 0 failed" in Path("run/index.html").read_text()
    assert run("dead.yaml") == 0
    assert "0 made, 4 kept, 2 dead" in capsys.readouterr().out


def half_dead():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    with torch.no_grad():
        network[0].weight.abs_()
        network[0].bias.copy_(torch.tensor([0.0, -1e3, 0.0, -1e3]))
    return network


class Sick(torch.nn.Module):
    """Feature 1 gives NaN until the folder holds a file named `cured`."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3, groups=3)
        self.end = torch.nn.Identity()

    def forward(self, x):
        x = self.conv(x)
        sickness = torch.tensor([0.0, 0.0 if Path("cured").exists() else torch.nan, 0.0]).view(1, 3, 1, 1)
        return self.end(x + sickness)


def sick():
    torch.manual_seed(0)
    return Sick()


def test_a_failed_tile_is_said_and_tried_again(capsys):
    config = {**CONFIG, "model": "tests.integration.test_run:sick", "layer": ["end"], "features": "all"}
    Path("sick.yaml").write_text(yaml.safe_dump(config))
    assert run("sick.yaml") == 1
    out = capsys.readouterr().out
    assert "3 tiles: 2 made, 0 kept, 0 dead, 1 failed" in out
    assert "failed       1: image or activation is not finite\n" in out
    assert not Path("run/tiles/end/00001.png").exists()
    assert [r["status"] for r in records()] == ["ok", "failed", "ok"]
    assert [r["activation_end"] for r in records() if r["status"] == "failed"] == [None]
    Path("cured").touch()
    assert run("sick.yaml") == 0
    assert "3 tiles: 1 made, 2 kept, 0 dead, 0 failed" in capsys.readouterr().out


def test_a_broken_tensorboard_is_one_warning(config, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise OSError("no room")

    monkeypatch.setattr("featlight.report.tensorboard.writer.EventLog", broken)
    assert run(config) == 0
    assert len(tiles()) == 6
    assert caplog.text.count("the run goes on without it") == 1


def test_octaves_are_kept_on_request(config):
    assert run(config, "--keep-octaves", "--features", "0") == 0
    for number in (1, 2):
        with Image.open(f"run/octaves/Mixed_4a/00000.{number}.png") as image:
            assert image.size == (96, 96)
    assert run(config, "--keep-octaves", "--features", "0", "--fresh", "--seed", "1") == 0


def test_named_tiles_and_variants_share_a_run():
    terms = [{"layer": "Mixed_3a", "feature": 1}, {"layer": "Mixed_4a", "feature": 2, "weight": 0.5}]
    config = {key: value for key, value in CONFIG.items() if key not in ("layer", "features")}
    config |= {
        "tiles": [{"name": "both", "terms": terms}],
        "variants": [{"name": "L1"}, {"name": "L2", "metric": "l2"}],
    }
    Path("named.yaml").write_text(yaml.safe_dump(config))
    assert run("named.yaml") == 0
    assert list(tiles()) == ["tiles/L1/named/both.png", "tiles/L2/named/both.png"]
    assert len(set(tiles().values())) == 2
    assert Path("run/atlas/L2/named.png").is_file()


def test_recipes_of_every_kind_share_a_run_and_classes_have_names():
    octaves = [{"size": 32, "steps": 2, "lr": [0.05, 0.02], "sigma": [0.5, 0.4]}]
    ways = ("article", "natural", "lucid")
    config = {
        "model": "tiny_inception",
        "layer": {"Mixed_4a": "3", "fc": "30"},
        "variants": [{"name": way, "recipe": {"base": way, "octaves": octaves}} for way in ways],
        "batch_size": 2,
        "figure": {"kind": "grid", "rows": "variant"},
        "out": "run",
    }
    config["variants"][2]["recipe"]["octaves"] = [{**octaves[0], "sigma": None}]
    Path("kinds.yaml").write_text(yaml.safe_dump(config))
    assert run("kinds.yaml") == 0
    assert len(set(tiles().values())) == 6
    labels = [planned.label for planned in Store(Path("run")).need_plan().tiles]
    assert labels == ["3", "30 star"] * 3
    assert any("30 star" in path.read_text() for path in Path("run").rglob("*.js"))


def test_labels_of_another_network_are_refused_also_where_the_run_is_there(config, capsys):
    assert run(config, "--features", "0") == 0
    Path("names.txt").write_text("background\ntench\n")
    assert run(config, "--features", "0", "--labels", "names.txt") == 2
    assert "labels: names of features 0 to 1 given; layer 'Mixed_4a' has" in capsys.readouterr().err
    Path("names.json").write_text(json.dumps({"Mixed_4a": {"0": "spiral", "159": "heart"}, "Mixed_5z": {"0": "heart"}}))
    assert run(config, "--features", "0", "--labels", "names.json") == 2
    assert "labels: names.json: no layer 'Mixed_5z' in the network; nearest: 'Mixed_5" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_stops_the_run_and_the_next_goes_on(config, monkeypatch, capsys, number):
    step = FeatureVisualizer.training_step

    def interrupt(self, batch, batch_idx):
        if self.trainer.current_epoch == 1 and batch_idx == 2:
            os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureVisualizer, "training_step", interrupt)
        assert run(config) == 75
    assert signal.getsignal(number) is before
    assert "run the same command again to continue" in capsys.readouterr().err
    assert len(tiles()) == 4
    assert run(config) == 0
    assert "6 tiles: 2 made, 4 kept" in capsys.readouterr().out


@pytest.mark.parametrize("after", [0, 4, 9])
def test_a_full_disk_is_exit_74_and_the_next_run_goes_on(config, monkeypatch, capsys, after):
    synced, sync = [], os.fsync

    def fsync(descriptor):
        synced.append(descriptor)
        if len(synced) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert run(config) == 74
    assert "no space left" in capsys.readouterr().err
    assert run(config) == 0
    assert "6 tiles: " in capsys.readouterr().out
    assert len(tiles()) == 6
    assert not list(Path("run").rglob("*.tmp"))


def test_a_killed_run_goes_on_bit_for_bit(config):
    """From outside, at some moment; what signals do that can be caught, test_launcher shows."""
    # sixteen chunks that take a while: neither a kill that comes late nor the writer's queue may leave nothing to do
    octave = {"size": 40, "steps": 24, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]}
    wanted = {"features": "0-31", "batch_size": 2, "recipe": {"octaves": [octave], "gradient": "rms"}}
    config.write_text(yaml.safe_dump({**CONFIG, **wanted}))
    command = [sys.executable, "-m", "featlight", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not tiles():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert 0 < len(tiles()) < 32
    assert run(config) == 0
    assert run(config, "--out", "whole") == 0
    assert len(tiles()) == 32
    assert tiles() == tiles("whole")


def test_a_run_killed_while_it_draws_is_drawn_by_the_next(config, monkeypatch):
    assert run(config, "--features", "0-3") == 0
    before = Path("run/atlas/Mixed_4a.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("featlight.run.monitor.render", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(config) == 75
    assert run(config) == 0
    assert Path("run/atlas/Mixed_4a.png").read_bytes() != before
    assert '"00005"' in Path("run/assets/data.js").read_text()


def test_a_run_that_starts_second_follows_or_is_refused(config, monkeypatch, capsys):
    """Both have looked at the empty directory; the other one writes its plan first."""
    create = Store.create_plan

    def late(self, plan):
        monkeypatch.setattr(Store, "create_plan", create)
        assert run(config, "--features", "8-9", "--out", str(self.root)) == 0
        return create(self, plan)

    monkeypatch.setattr(Store, "create_plan", late)
    assert run(config) == 0
    assert len(tiles()) == 8
    assert '"00009"' in Path("run/assets/data.js").read_text()
    assert '"00005"' in Path("run/assets/data.js").read_text()
    monkeypatch.setattr(Store, "create_plan", late)
    assert run(config, "--out", "other", "--seed", "1") == 2
    assert "seed: there 999, now 1" in capsys.readouterr().err


def test_a_directory_of_the_users_own_is_left_alone(config, capsys):
    Path("run").mkdir()
    Path("run/index.html").write_text("mine")
    assert run(config) == 2
    assert "holds index.html, but no run" in capsys.readouterr().err
    assert [path.name for path in Path("run").iterdir()] == ["index.html"]


def test_a_variant_of_another_network_is_refused(config, capsys):
    assert run(config) == 0
    Path("other.yaml").write_text(yaml.safe_dump({**CONFIG, "variants": [{"name": "L2", "metric": "l2"}]}))
    assert main(["--config", "other.yaml", "--weights", "none"]) == 2
    assert "weights: there" in capsys.readouterr().err
    assert main(["--config", "other.yaml"]) == 0
    assert len(tiles()) == 12


def test_features_of_a_flag_beat_those_of_a_layer_in_the_file(capsys):
    Path("map.yaml").write_text(yaml.safe_dump({**CONFIG, "layer": {"Mixed_4a": "0-3"}}))
    assert run("map.yaml", "--features", "0-1") == 0
    assert "2 tiles: 2 made" in capsys.readouterr().out


def test_a_damaged_tile_is_named(config, capsys):
    assert run(config) == 0
    path = Path("run/tiles/Mixed_4a/00002.png")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert run(config, "--render-only") == 1
    assert "00002.png: damaged" in capsys.readouterr().err
    path.unlink()
    assert run(config) == 0


def test_a_reader_that_has_gone_does_not_stop_the_run(config):
    command = f"{sys.executable} -m featlight --config {config} --features 0 | true"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(tiles()) == 1


@pytest.mark.parametrize(
    ("flags", "code", "line"),
    [
        (["--layr", "x"], 2, "featlight: no flag '--layr'; nearest: '--layer'"),
        (["--metric", "l3"], 2, "featlight: --metric: 'l3' given; allowed: l1, l2, linf, linf-rows"),
        (["--config", "none.yaml"], 2, "featlight: --config none.yaml: No such file or directory"),
        (["--layer", "clasifier"], 2, "featlight: no layer 'clasifier' in efficientnet_lite0; nearest: 'classifier'"),
        (["--features", "999"], 2, "featlight: features: 999 given; layer"),
        (
            ["--model", "resnet_18"],
            2,
            "featlight: --model: no network 'resnet_18' in torchvision.models; nearest: 'resnet18'",
        ),
        (
            ["--model", "resnet18", "--weights", "none"],
            2,
            "featlight: --layer: none given, and resnet18 has no default",
        ),
        (["--weights", "no.pth"], 3, "featlight: weights no.pth: no such file"),
        (["--num-nodes", "2"], 2, "featlight: num_nodes: 2 given, but the number of this machine is unknown"),
        (
            ["--normalize", "weights", "--model", "tests.integration.test_run:sick", "--layer", "end"],
            2,
            "featlight: normalize: weights",
        ),
        (["--init", "nosie"], 2, "featlight: init: 'nosie' given; noise, noise-per-feature, gray, or a PNG"),
    ],
)
def test_a_slip_has_its_exit_code_and_one_line_and_writes_nothing(capsys, flags, code, line):
    assert main([*flags, "--threads", "1"]) == code
    error = capsys.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_what_is_printed_on_request(capsys):
    assert main(["--print-config", "--batch_size", "4"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["batch_size"], printed["model"]) == (4, "efficientnet_lite0")
    assert main(["--list-layers", "--model", "tiny_inception"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "tiny_inception at 128 x 128 px; the default layer is Mixed_5a"
    assert table[1].split() == ["layer", "features", "map", "kind"]
    assert any(line.split(maxsplit=2) == ["Mixed_4a", "160", "16 x 16  Mixed"] for line in table)
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"featlight {featlight.__version__}\n"


@pytest.mark.parametrize("command", [["train_viz.py"], ["-m", "featlight"]])
def test_both_commands_are_the_same_program(command):
    root = ROOT
    done = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True, cwd=root, check=True)
    for flag in ("--config", "--layer", "--batch-size", "--render-only", "--seed"):
        assert flag in done.stdout


SMALL = """
from torch import nn

def build():
    def block():
        return nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))

    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.Sequential(block(), block()), nn.Identity())
"""


def test_a_whole_network_in_one_run_and_the_same_images_as_a_layer_alone(config, capsys):
    Path("small_net.py").write_text(SMALL)
    whole = ["--model", "small_net:build", "--features", "sample:2", "--layer"]
    assert run(config, *whole, "all") == 0
    plan = Store(Path("run")).plan()
    layers = ["0", "1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.1.1", "1.1.2"]
    assert list(dict.fromkeys(planned.tile.terms[0].layer for planned in plan.tiles)) == layers
    assert list(dict.fromkeys(record["layer"] for record in records())) == layers
    drawn = [line.split("/")[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("atlas")]
    assert drawn == [f"{layer}.png" for layer in layers]
    before = tiles()
    assert len(before) == 14
    assert run(config, *whole, "1.1.1", "--out", "alone") == 0
    assert tiles("alone") == {name: png for name, png in before.items() if "/1.1.1/" in name}
    assert run(config, *whole, "all") == 0
    assert "14 tiles: 0 made, 14 kept" in capsys.readouterr().out
    assert (
        run(config, "--model", "small_net:build", "--features", "sample:3", "--layer", "1.*", "--batch-size", "4") == 0
    )
    after = tiles()
    assert before.items() <= after.items()  # a larger sample holds the smaller one
    assert sorted(name.split("/")[1] for name in after.keys() - before.keys()) == [
        "1.0",
        "1.0",
        "1.0",
        "1.1",
        "1.1",
        "1.1",
    ]
    assert list(Store(Path("run")).plan().layers["32"]) == [*layers[:4], "1.0", *layers[4:], "1.1"]


def test_a_pattern_that_takes_nothing_is_said(config, capsys):
    assert run(config, "--layer", "Mixed_9*") == 2
    assert "layer: 'Mixed_9*' given; it matches no layer of tiny_inception with features" in capsys.readouterr().err
