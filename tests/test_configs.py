"""Every shipped config loads, and makes a feature of each of its layers, and its figure, at a tiny size."""

from pathlib import Path

import pytest
import yaml

from featlight.check import check, read
from featlight.cli import main
from featlight.recipe import ARTICLE

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_makes_a_tile(path, capsys):
    values = read(path)
    size = 80 if values["model"] == "inception_v3" else 40
    values |= {
        "features": "0",
        "threads": 1,
        "batch_size": 1,
        "out": "run",
        "layer": list(values.get("layer", [])) or None,
    }
    values["recipe"] = {"octaves": [{"size": size, "steps": 2, "lr": [0.1, 0.1], "sigma": [1.0, 0.5]}]}
    if values["model"] != "tiny_inception":
        values["weights"] = "none"
    Path("tiny.yaml").write_text(yaml.safe_dump(values))
    assert main(["--config", "tiny.yaml"]) == 0
    assert ", 0 kept, " in capsys.readouterr().out
    assert list(Path("run").glob("tiles/**/*.png"))
    assert Path("run/figures").is_dir() == ("figure" in values)
    if values.get("weights") == "none":
        assert "RANDOM WEIGHTS" in Path("run/index.html").read_text()


@pytest.mark.parametrize("name", ["inception_v3", "googlenet", "resnet50"])
def test_imagenet_networks_run_the_articles_recipe(name):
    path = next(path for path in CONFIGS if path.stem == name)
    assert check(read(path)).settled().recipe == ARTICLE


def test_the_quickstart_is_the_default():
    path = next(path for path in CONFIGS if path.stem == "quickstart")
    assert check(read(path)).settled() == check({}).settled()
