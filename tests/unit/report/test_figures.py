"""Figures of real runs, small: their places, frames and numbers."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import functional as TF

import featlight
from featlight.analysis.image_metrics import structural_similarity, total_variation
from featlight.cli.main import main
from featlight.drawing.outline import OUTLINES

RECIPE = {
    "octaves": [
        {"size": 32, "steps": 2, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]},
        {"size": 40, "steps": 1, "lr": [0.05, 0.02], "sigma": None},
    ],
    "gradient": "rms",
}


def run(**values):
    config = {"model": "tiny_inception", "layer": ["Mixed_4a"], "features": "0-2", "threads": 1, "recipe": RECIPE}
    config |= {"out": "run", **values}
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
    assert float(rows[3]["similarity"]) == pytest.approx(structural_similarity(first, second).item(), abs=1e-4)
    assert float(rows[0]["total_variation"]) == pytest.approx(total_variation(first).item(), abs=1e-5)
    assert "figures/grid.png" in Path("run/index.html").read_text()


def _is_there(picture, tile):
    height, width = tile.shape[:2]
    candidates = np.argwhere((picture[: -height or None, : -width or None] == tile[0, 0]).all(-1))
    return any(np.array_equal(picture[y : y + height, x : x + width], tile) for y, x in candidates)


def test_a_growth_has_a_frame_for_every_neuron():
    assert (
        run(
            features="3",
            region="prefix",
            index="all",
            recipe={**RECIPE, "octaves": RECIPE["octaves"][:1]},
            figure={"kind": "growth", "mark": True, "title": "grows"},
        )
        == 0
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
    monkeypatch.setattr("featlight.models.catalog.load_model", None)
    assert main(["--config", "figure.yaml", "--render-only"]) == 0
    assert Path("run/figures/grid.png").read_bytes() == before


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        (
            {"kind": "grd"},
            "figure.yaml: figure.kind: 'grd' given; allowed: grid, areas, activity, growth, octaves, circuit",
        ),
        ({"kind": "grid", "row": "layer"}, "figure.yaml: figure: no key 'row'; nearest: 'rows'"),
        ({"kind": "octaves"}, "figure.yaml: figure: kind octaves given; it needs keep_octaves: true"),
    ],
)
def test_a_slip_is_answered_in_one_line(capsys, figure, line):
    assert run(figure=figure) == 2
    assert capsys.readouterr().err == f"featlight: {line}\n"


def undisturbed(size):
    """The start through RECIPE without an objective, by torchvision, as it is shown."""
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(999)) / 10 + 0.5
    for sigma in (1.0, 0.75):
        x = TF.gaussian_blur(x, 3, [sigma, sigma])
    x = TF.resize(x, [size, size], antialias=False)
    return (x.clamp(0, 1) * 255).round().double() / 255


def half_of_the_change(mask_share, before, after):
    """The smallest share of pixels that holds as much of the squared change."""
    change = (after - before).square().sum(1).flatten().sort(descending=True).values
    held = change.cumsum(0) / change.sum()
    return (held < mask_share).sum().item() / len(change) + 1 / len(change)


def test_areas_are_outlined_and_measured_against_the_start_without_an_objective():
    assert run(region="neuron", index=[1, 2], figure={"kind": "areas", "rows": "layer"}) == 0
    for row in table("areas"):
        image = pixels(f"run/tiles/{row['tile']}.png")
        assert float(row["area"]) == pytest.approx(half_of_the_change(0.95, undisturbed(40), image), abs=2 / 1600)
        assert 0 <= int(row["top"]) < int(row["bottom"]) <= 40
    with Image.open("run/figures/areas.png") as figure:
        colors = figure.convert("RGB").getcolors(1 << 24)
    assert sum(count for count, color in colors if color == OUTLINES["yellow"]) > 100
    assert run(figure={"kind": "areas"}, init="noise-per-feature", out="own") == 0


def test_activity_is_that_of_the_final_image():
    terms = [{"layer": "Mixed_4a", "feature": 2}, {"layer": "Mixed_3a", "feature": 1}]
    tiles = [{"name": "A", "terms": terms[:1]}, {"name": "both", "terms": terms}]
    config = {"tiles": tiles, "layer": None, "features": "all", "figure": {"kind": "activity"}}
    assert run(**config) == 2
    assert run(**config, keep_maps=True, float_images=True) == 0
    network, seen = featlight.load("tiny_inception"), {}
    for term in terms:
        network.get_submodule(term["layer"]).register_forward_hook(
            lambda module, given, output, name=term["layer"]: seen.update({name: output})
        )
    with torch.no_grad():
        network(load_file("run/floats/named/both.safetensors")["image"][None])
    maps = load_file("run/maps/named/both.safetensors")
    masks = []
    for number, term in enumerate(terms):
        theirs = seen[term["layer"]][0, term["feature"]]
        assert torch.allclose(maps[str(number)], theirs, atol=1e-4 * float(theirs.abs().max()))
        masks.append(theirs > theirs.max() / 2)
    alone, both = table("activity")
    names = ["active Mixed_4a 2", "active Mixed_3a 1", "active both"]
    assert [alone[name] != "" for name in names] == [True, False, False]
    shares = [mask.double().mean().item() for mask in masks]
    assert [float(both[name]) for name in names[:2]] == pytest.approx(shares, abs=1e-5)
    coarse = masks[0].repeat_interleave(2, 0).repeat_interleave(2, 1)  # a map of 5 x 5 on one of 10 x 10
    together = (coarse & masks[1]).sum() / (coarse | masks[1]).sum()
    assert float(both["active both"]) == pytest.approx(together.item(), abs=1e-5)


def test_what_is_to_be_kept_is_made_again_where_it_is_not_there(capsys):
    assert run(features="0") == 0
    assert run(features="0", keep_maps=True, keep_octaves=True) == 0
    assert "1 made, 0 kept" in capsys.readouterr().out
    assert Path("run/maps/Mixed_4a/00000.safetensors").is_file()
    assert run(features="0", keep_maps=True, keep_octaves=True) == 0
    assert "0 made, 1 kept" in capsys.readouterr().out


def test_a_growth_says_how_much_of_each_step_lies_outside_of_what_its_neuron_affects():
    ways = [
        {"name": "grown", "region": "prefix", "index": "all"},
        {"name": "alone", "region": "neuron", "index": "all"},
    ]
    recipe = {"octaves": [RECIPE["octaves"][0]], "gradient": "rms"}
    assert run(features="3", variants=ways, recipe=recipe, figure={"kind": "growth"}) == 0
    with Image.open("run/figures/added-grown-Mixed_4a-3.png") as sheet:
        assert sheet.width > 4 * 128
    rows = {row["tile"]: row for row in table("growth")}
    start = undisturbed(32)
    images = [start, *(pixels(f"run/tiles/grown/Mixed_4a/00003-p{last:05d}.png") for last in range(16))]
    found = 0
    for last in range(16):
        alone = pixels(f"run/tiles/alone/Mixed_4a/00003-n{last // 4}x{last % 4}.png")
        change = (alone - start).square().sum(1).flatten()
        order = change.argsort(descending=True, stable=True)
        inside = order[: int((change[order].cumsum(0) < 0.95 * change.sum()).sum()) + 1]
        step = (images[last + 1] - images[last]).square().sum(1).flatten()
        share = 1 - step[inside].sum() / step.sum()
        if rows[f"Mixed_4a/00003-p{last:05d}"]["change_outside"]:
            found += 1
            assert float(rows[f"Mixed_4a/00003-p{last:05d}"]["change_outside"]) == pytest.approx(share.item(), abs=1e-4)
    assert found > 8
