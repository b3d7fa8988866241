"""Runs whose images are no squares, or have other channels than three, from the network to what people look at."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import featlight
from featlight.cli.main import main
from featlight.errors import UsageError
from featlight.image_io import decode_png
from featlight.store.store import Store

NETWORK = """
import torch
from torch import nn

def build(channels):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 5, 3))

def five():
    return build(5)

def gray():
    return build(1)

class OfBytes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x):
        assert x.max() > 2, "pixels from 0 to 255 are needed"
        return self.conv(x)
"""
CONFIG = {
    "model": "bands:five",
    "layer": ["2"],
    "features": "0-2",
    "batch_size": 4,
    "recipe": {
        "base": "natural",
        "octaves": [
            {"size": [24, 40], "steps": 3, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]},
            {"size": [30, 50], "steps": 2, "lr": [0.05, 0.02], "sigma": [0.8, 0.4]},
        ],
    },
    "keep_octaves": True,
    "float_images": True,
    "out": "run",
}


def run(*flags, **changes):
    Path("bands.py").write_text(NETWORK)
    Path("wide.yaml").write_text(yaml.safe_dump(CONFIG | changes))
    return main(["--config", "wide.yaml", *flags])


def test_five_channels_are_shown_as_the_chosen_bands_and_kept_whole():
    assert run("--show-channels", "3,2,0", "--normalize", "{mean: [0.1, 0.2, 0.3, 0.4, 0.5], std: [0.5]}") == 2
    normalize = "{mean: [0.1, 0.2, 0.3, 0.4, 0.5], std: [0.5, 0.4, 0.5, 0.4, 0.5]}"
    flags = ["--show-channels", "3,2,0", "--normalize", normalize]
    assert run(*flags) == 0
    result = featlight.open_run("run")
    assert result.images.shape == (3, 5, 30, 50)
    for image, planned in zip(result.images, result.tiles, strict=True):
        tile = np.asarray(decode_png((Path("run") / planned.file).read_bytes()))
        assert np.array_equal(tile, (image[[3, 2, 0]] * 255).round().byte().permute(1, 2, 0).numpy())
    assert np.asarray(result.show()).std() > 0
    plan = Store(Path("run")).plan()
    assert plan.network.in_channels == 5
    assert plan.layers == {"24x40": {"2": (5, 9, 17)}, "30x50": {"2": (5, 12, 22)}}
    (settings,) = json.loads(Path("run/plan.json").read_text())["fingerprints"].values()
    assert settings["show_channels"] == [3, 2, 0]
    assert [octave["size"] for octave in settings["recipe"]["octaves"]] == [[24, 40], [30, 50]]
    before = {path: path.read_bytes() for path in Path("run/tiles").rglob("*.png")}
    assert run(*flags, "--features", "0-4") == 0  # goes on
    assert {path: path.read_bytes() for path in before} == before
    assert main(["verify", "--out", "run"]) == 0
    assert run(*flags, "--show-channels", "0") == 2  # other pictures


def test_one_channel_is_gray_everywhere(capsys):
    assert run("--model", "bands:gray", "--recipe", "maco", "--set", "recipe.octaves.0.size=[32, 20]") == 0
    for name in ("tiles/2/00001.png", "octaves/2/00001.1.png"):
        with Image.open(Path("run") / name) as image:
            levels = np.asarray(image.convert("RGB"), np.int32)
        assert np.ptp(levels, axis=2).max() == 0
        assert levels.std() > 0
        assert levels.shape[:2] == ((32, 20) if name.startswith("tiles") else (96, 60))
    assert featlight.open_run("run").alphas.shape == (3, 32, 20)
    assert run("--model", "bands:gray", "--list-layers") == 0
    assert "bands:gray at 24 x 40 px" in capsys.readouterr().out


def test_layers_are_listed_with_the_runs_normalization(capsys):
    assert run("--model", "bands:OfBytes", "--list-layers") == 2
    assert "no layer runs at 24 x 40 px: AssertionError: pixels from 0 to 255 are needed" in capsys.readouterr().err
    flags = "--normalize", "{mean: [0], std: [0.00392157]}"
    assert run("--model", "bands:OfBytes", "--list-layers", *flags) == 0
    assert capsys.readouterr().out.splitlines()[2].split(maxsplit=2) == ["conv", "6", "22 x 38  Conv2d"]
    network = featlight.load("bands:OfBytes")
    with pytest.raises(UsageError, match="pixels from 0 to 255 are needed"):
        featlight.list_layers(network, 32)
    network.pretrained_cfg = {"architecture": "timm's", "mean": [0], "std": [1 / 255]}  # as timm's networks have
    del network.featlight_source
    assert [layer.name for layer in featlight.list_layers(network, 32)] == ["conv"]


def test_a_photograph_is_a_start_in_gray():
    Image.fromarray(np.uint8(np.random.default_rng(0).integers(0, 256, (30, 50, 3)))).save("photo.png")
    still = [{"size": [30, 50], "steps": 1, "lr": [0.0, 0.0]}]
    recipe = featlight.Recipe([featlight.Octave(**octave) for octave in still])
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3))
    image = featlight.visualize(network, "0", [0], recipe=recipe, init="photo.png", progress=False).images[0, 0]
    theirs = np.asarray(Image.open("photo.png").convert("L"), np.float32) / 255
    assert abs(image.numpy() - theirs).max() < 1.01 / 255  # Pillow rounds


def test_what_is_drawn_keeps_the_shape(capsys):
    assert run() == 0
    assert main(["export", "--out", "run", "--poster", "poster.png", "--paper", "A4", "--dpi", "50"]) == 0
    sprites = np.asarray(Image.open("run/assets/tiles/2/00.jpg").convert("RGB"), np.int32)
    place = sprites[:96, :96]
    assert abs(place[:16] - 128).max() <= 2  # nothing above and below a tile of 58 x 96
    assert abs(place[-16:] - 128).max() <= 2
    tile = Image.open("run/tiles/2/00000.png").resize((96, 58), Image.Resampling.LANCZOS)
    assert abs(place[20:76] - np.asarray(tile)[1:57]).mean() < 12  # a JPEG
    page = Path("run/assets/data.js").read_text()
    assert '"aspect":[58,96]' in page
    assert '"size":"24 x 40"' in page
    lines = ["--region", "prefix", "--index", "all", "--features", "0", "--out", "grown"]
    small = [{"size": [9, 11], "steps": 1, "lr": [0.1, 0.1]}]
    figure = {"kind": "growth", "mark": True}
    assert run(*lines, figure=figure, recipe={"octaves": small}) == 0
    frames = Image.open(io.BytesIO(Path("grown/figures/growth-2-0.webp").read_bytes()))
    assert frames.n_frames == 2 * 3
    assert run("--out", "steps", figure={"kind": "octaves"}) == 0
    assert Path("steps/figures/octaves-2-00001.webp").is_file()


@pytest.mark.parametrize("size", [[40, 40], 40])
def test_a_square_is_the_same_however_it_is_said(size):
    octave = {"size": size, "steps": 1, "lr": [0.1, 0.1]}
    config = {"model": "tiny_inception", "layer": ["Mixed_4a"], "features": "0"}
    assert run(recipe={"octaves": [octave]}, **config) == 0
    (settings,) = json.loads(Path("run/plan.json").read_text())["fingerprints"].values()
    assert settings["recipe"]["octaves"][0]["size"] == 40
    assert not {"in_channels", "show_channels"} & settings.keys()


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ("[40]", "[40] given; a side, or [height, width], in pixels, is needed"),
        ("[40, 1]", "40 x 1 pixels given; an image needs at least 2, 8192 at most"),
        ("[40, 4.5]", "[40, 4.5] given; a side, or [height, width]"),
        ("big", "'big' given"),
    ],
)
def test_a_size_that_is_none_is_said_in_one_line(size, line, capsys):
    assert run("--set", f"recipe.octaves.1.size={size}") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "recipe.octaves[1].size: " in error
    assert line in error


class Checks(torch.nn.Module):
    """A network that refuses what leaves its range."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.low, self.high = low, high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.min() < self.low or x.max() > self.high:
            raise ValueError(f"pixels in [{self.low}, {self.high}] are needed")
        return self.conv(x)


BOUNDED = featlight.Recipe([featlight.Octave(16, 3, (9.0, 9.0), None)], range="sigmoid")


@pytest.mark.parametrize(
    ("network", "normalize"),
    [
        (Checks(0, 1), "none"),
        (Checks(-1, 1), {"mean": [0.5] * 3, "std": [0.5] * 3}),
        (Checks(0, 255), {"mean": [0.0] * 3, "std": [1 / 255] * 3}),
        (Checks(-3, 3), {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
        (Checks(-3, 0), {"mean": [1.0] * 3, "std": [0.5] * 3}),
    ],
)
def test_a_network_that_checks_its_range_gets_what_the_run_shows(network, normalize):
    found = featlight.visualize(network, "conv", [1], recipe=BOUNDED, normalize=normalize, progress=False)
    assert found.records[0]["status"] == "ok"
    assert featlight.visualize(network, "all", [1], recipe=BOUNDED, normalize=normalize, progress=False)


def test_a_network_that_checks_its_range_is_refused_where_pixels_may_leave_it(small_recipe):
    line = r"and pixels in \[-\d.*\] \(recipe.range: sigmoid keeps them in \[0, 1\]\): ValueError: pixels in \[0, 1\]"
    with pytest.raises(ValueError, match=line):
        featlight.visualize(Checks(0, 1), "conv", [1], recipe=small_recipe, progress=False)
