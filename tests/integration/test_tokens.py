"""Class tokens and patches through the command line: files, plan, page, and the command of a tile alone."""

import shlex

import numpy as np
import yaml
from PIL import Image

from featlight.cli.main import main
from featlight.plan.reproduce import command_alone
from featlight.store.store import Store

RECIPE = {"octaves": [{"size": 160, "steps": 2, "lr": [0.1, 0.1], "sigma": None}], "gradient": "rms"}
CONFIG = {
    "model": "timm/test_vit",
    "weights": "none",
    "layer": "blocks.1",
    "features": "0,5",
    "recipe": RECIPE,
    "variants": [{"name": "whole", "tokens": "class"}, {"name": "places", "region": "neuron", "index": [9, 9]}],
}


def test_each_kind_of_token_has_its_tiles(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    words = ["--config", "run.yaml", "--out", "out"]
    assert main(words) == 0
    store = Store(tmp_path / "out")
    plan = store.plan()
    assert [(planned.file, planned.tile.label) for planned in plan.tiles] == [
        ("tiles/whole/blocks.1/00000-class.png", "0 class"),
        ("tiles/whole/blocks.1/00005-class.png", "5 class"),
        ("tiles/places/blocks.1/00000-n9x9.png", "0 (9, 9)"),
        ("tiles/places/blocks.1/00005-n9x9.png", "5 (9, 9)"),
    ]
    assert plan.layers == {"160": {"blocks.1@class": (64, 1, 1), "blocks.1": (64, 10, 10)}}
    assert [plan.settings[name].tokens for name in ("whole", "places")] == ["class", "patches"]
    assert '"Tokens","class"' in (tmp_path / "out/assets/data.js").read_text()
    assert main(words) == 0
    assert "4 kept" in capsys.readouterr().out

    alone = command_alone(plan, plan.tiles[1])
    (tmp_path / "tile.yaml").write_text(alone.partition("<<'END'\n")[2].partition("END\n")[0])
    assert main([*shlex.split(alone.partition("END\nfeatlight ")[2]), "--out", "alone"]) == 0
    again = Store(tmp_path / "alone").plan().tiles[0].file
    first, second = (np.asarray(Image.open(path)) for path in ("out/" + plan.tiles[1].file, f"alone/{again}"))
    assert np.array_equal(first, second)

    assert main(["--config", "run.yaml", "--out", "alone", "--set", "variants=null"]) == 2
    assert "alone holds another run (tokens: there" in capsys.readouterr().err
