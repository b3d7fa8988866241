"""Figures of real runs, small: their places, frames and numbers."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from featlight.cli import main
from featlight.measure import similarity, total_variation

RECIPE = {
    "octaves": [
        {"size": 32, "steps": 2, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]},
        {"size": 40, "steps": 1, "lr": [0.05, 0.02], "sigma": None},
    ],
    "gradient": "rms",
}


def run(**values):
    config = {"layer": ["Mixed_4a"], "features": "0-2", "threads": 1, "recipe": RECIPE, "out": "run", **values}
    Path("figure.yaml").write_text(yaml.safe_dump(config))
    return main(["--config", "figure.yaml"])


def table(kind):
    with Path(f"run/figures/{kind}.csv").open() as file:
        return list(csv.DictReader(file))


def pixels(path):
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].double() / 255


def test_a_grid_of_variants_has_a_row_each_and_its_numbers():
    assert (
        run(variants=[{"name": "L1"}, {"name": "L2", "metric": "l2"}], figure={"kind": "grid", "rows": "variant"}) == 0
    )
    with Image.open("run/figures/grid.png") as image:
        picture = np.array(image.convert("RGB"))
    for name in ("L1", "L2"):
        with Image.open(f"run/tiles/{name}/Mixed_4a/00001.png") as image:
            tile = np.array(image.convert("RGB"))
        assert tile.shape == (40, 40, 3)
        scales = (1, 2, 3)  # small tiles are shown larger, in whole pixels
        assert any(_is_there(picture, tile.repeat(k, 0).repeat(k, 1)) for k in scales), f"{name} is not in the figure"
    rows = table("grid")
    assert [(row["variant"], row["tile"]) for row in rows][2:4] == [("L1", "Mixed_4a/00002"), ("L2", "Mixed_4a/00000")]
    first, second = pixels("run/tiles/L1/Mixed_4a/00000.png"), pixels("run/tiles/L2/Mixed_4a/00000.png")
    assert rows[0]["similarity"] == ""
    assert float(rows[3]["similarity"]) == pytest.approx(similarity(first, second).item(), abs=1e-4)
    assert float(rows[0]["total_variation"]) == pytest.approx(total_variation(first).item(), abs=1e-5)
    assert "figures/grid.png" in Path("run/index.html").read_text()


def _is_there(picture, tile):
    height, width = tile.shape[:2]
    candidates = np.argwhere((picture[: -height or None, : -width or None] == tile[0, 0]).all(-1))
    return any(np.array_equal(picture[y : y + height, x : x + width], tile) for y, x in candidates)


def test_a_growth_has_a_frame_for_every_neuron():
    assert (
        run(features="3", region="prefix", index="all", figure={"kind": "growth", "mark": True, "title": "grows"}) == 0
    )
    assert len(list(Path("run/tiles/Mixed_4a").iterdir())) == 16  # a map of 4 x 4
    for suffix in ("webp", "gif"):
        with Image.open(f"run/figures/growth-Mixed_4a-3.{suffix}") as image:
            assert image.n_frames == 16
    assert len(table("growth")) == 16


def test_octaves_have_a_frame_each():
    assert run(features="0", keep_octaves=True, figure={"kind": "octaves"}) == 0
    with Image.open("run/figures/octaves-Mixed_4a-00000.webp") as image:
        assert image.n_frames == 2


def test_rows_of_layers():
    assert (
        run(layer={"Mixed_3a": "0-1", "Mixed_4a": "0-1"}, features="all", figure={"kind": "grid", "rows": "layer"}) == 0
    )
    assert [row["tile"].split("/")[0] for row in table("grid")] == ["Mixed_3a"] * 2 + ["Mixed_4a"] * 2


def test_a_figure_is_drawn_from_a_finished_run_and_again_from_its_tiles(monkeypatch, capsys):
    assert run() == 0
    assert not Path("run/figures").exists()
    assert run(figure={"kind": "grid", "rows": "layer"}) == 0
    assert "0 made, 3 kept" in capsys.readouterr().out
    before = Path("run/figures/grid.png").read_bytes()
    Path("run/figures/grid.png").unlink()
    monkeypatch.setattr("featlight.zoo.load", None)
    assert main(["--config", "figure.yaml", "--render-only"]) == 0
    assert Path("run/figures/grid.png").read_bytes() == before


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        ({"kind": "grd"}, "figure.yaml: figure.kind: 'grd' given; allowed: grid, growth, octaves"),
        ({"kind": "grid", "row": "layer"}, "figure.yaml: figure: no key 'row'; nearest: 'rows'"),
        ({"kind": "octaves"}, "figure.yaml: figure: kind octaves needs keep_octaves: true"),
    ],
)
def test_a_slip_is_answered_in_one_line(capsys, figure, line):
    assert run(figure=figure) == 2
    assert capsys.readouterr().err == f"featlight: {line}\n"
