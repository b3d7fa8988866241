"""Every shipped config loads, and makes a feature of each of its layers, and its figure, at a tiny size."""

from pathlib import Path

import pytest
import yaml

from featlight.cli.main import main
from featlight.config.presets import ARTICLE
from featlight.config.validation import check, read
from tests import ROOT

FULL = ROOT / "configs/article/efficientnet_lite0"  # the offline ones by the full recipe: they need not run again
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent != FULL)


def shrunk(values):
    """The same config with a feature of each layer, at a size and with steps that a test can afford."""
    size = {"inception_v3": 80, "tiny_inception": 24, "efficientnet_lite0": 32}.get(values["model"], 40)

    def recipe(sigma):
        return {"octaves": [{"size": size, "steps": 2, "lr": [0.1, 0.1], "sigma": sigma}]}

    small = {
        **values,
        "threads": 1,
        "batch_size": values.get("diversity", 1),
        "recipe": recipe([1.0, 0.5]),
        "out": "run",
    }
    if values["model"] not in ("tiny_inception", "efficientnet_lite0"):
        small["weights"] = "none"
    if "tiles" in values:
        for tile in small["tiles"]:
            for term in tile["terms"]:
                term |= {"index": [0, 0]} if "index" in term else {}
    else:
        small |= {"features": "0,1" if "interpolate" in values else "0", "layer": list(values.get("layer", [])) or None}
    for key in ("directions", "labels", "init", "caricature"):
        small |= {key: str(ROOT / values[key])} if "/" in values.get(key, "") else {}
    if "tiles" in values.get("figure", {}):
        small["figure"]["tiles"] = [f"{small['layer'][-2]}/0"]  # a class has no gradient after so few steps
    for number, variant in enumerate(values.get("variants", [])):
        variant["seed"] = number  # shrunk, two of them may be alike otherwise, which is refused
        variant |= {"recipe": recipe(None)} if "recipe" in variant else {}
        variant |= {"index": [0, 0]} if isinstance(variant.get("index"), list) else {}
        variant |= {"init": str(ROOT / variant["init"])} if "/" in variant.get("init", "") else {}
    return small


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_config_makes_its_tiles_and_figures(path, capsys):
    assert check(read(path)).resolved(path.stem).out == f"runs/{path.stem}"
    values = shrunk(read(path))
    Path("tiny.yaml").write_text(yaml.safe_dump(values))
    assert main(["--config", "tiny.yaml"]) == 0
    assert ", 0 kept, " in capsys.readouterr().out
    assert list(Path("run").glob("tiles/**/*.png"))
    kind = values.get("figure", {}).get("kind")
    assert Path("run/figures").is_dir() == (kind is not None)
    if kind is not None:
        assert Path(f"run/figures/{kind}.csv").read_text().count("\n") > 1
        assert list(Path("run/figures").glob("*.webp" if kind in ("growth", "octaves") else f"{kind}*.png"))
    if values.get("weights") == "none":
        assert "RANDOM WEIGHTS" in Path("run/index.html").read_text()


def test_every_experiment_of_the_article_has_an_offline_twin():
    names = {folder: {path.stem for path in CONFIGS if path.parent.name == folder} for folder in ("article", "offline")}
    of_layers = {"entry", "entry_raw", "early", "middle", "late", "googlenet", "resnet50"}
    assert names["article"] - of_layers | {"layers"} <= names["offline"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs/offline").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_offline_experiment_stands_by_the_full_recipe_too(path):
    full, offline = read(FULL / path.name), read(path)
    assert check(full).resolved(path.stem).recipe.octaves[0] == ARTICLE.octaves[0]
    same = set(offline) - {"recipe", "variants", "features", "layer", "figure"}
    assert {key: full[key] for key in same} == {key: offline[key] for key in same}
    assert full["figure"]["kind"] == offline["figure"]["kind"]
    names = [[variant["name"] for variant in each.get("variants", [])] for each in (full, offline)]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["inception_v3", "googlenet", "resnet50"])
def test_imagenet_networks_run_the_articles_recipe(name):
    assert check(read(ROOT / f"configs/{name}.yaml")).resolved().recipe == ARTICLE


def test_the_quickstart_is_the_default():
    assert check(read(ROOT / "configs/quickstart.yaml")).resolved() == check({}).resolved()
