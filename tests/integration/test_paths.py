"""Path similarity: against its definition by hand, and on a circuit that fools feature visualizations."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

import featlight
from featlight.distributed.env import Worker
from featlight.examples.find import find, last_lines
from featlight.examples.manifest import ExamplesRequest
from tests.photographs import crops, folder_of

RED, BLUE = 0, 2


class Circuit(nn.Module):
    """After Geirhos et al. 2023: on smooth images, unit 0 is active for red, and on noisy ones for blue.

    Args:
        fools: whether unit 0 changes its path; otherwise, it is active for red on all images.
    """

    def __init__(self, *, fools: bool) -> None:
        super().__init__()
        strength = 100.0 if fools else 0.0
        signs = torch.cat([torch.eye(3), -torch.eye(3)])  # more and less than gray, of each color
        self.colors = nn.Conv2d(3, 6, 1)
        self.edges = nn.Conv2d(3, 2, 3, padding=1, padding_mode="replicate")
        self.blur = nn.AvgPool2d(5, 1, 2)
        self.paths = nn.Conv2d(8, 12, 1)
        self.relu = nn.ReLU()
        self.unit = nn.Conv2d(12, 2, 1, bias=False)
        laplace = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 3, 3)
        with torch.no_grad():
            self.colors.weight.copy_(signs[:, :, None, None])
            self.colors.bias.copy_(-0.5 * signs.sum(1))
            self.edges.weight.copy_(torch.stack([laplace, -laplace]))
            self.edges.bias.fill_(-0.1)
            self.paths.weight.zero_()
            self.paths.bias.zero_()
            self.unit.weight.zero_()
            for color in range(6):
                self.paths.weight[color, color] = self.paths.weight[6 + color, color] = 1.0
            self.paths.weight[:6, 6] = -strength  # noise blocks the path of smooth images
            self.paths.weight[6:, 7] = -strength  # and its absence the other path
            self.unit.weight[0, RED], self.unit.weight[1, 6 + BLUE] = 1.0, 1.0
            self.unit.weight[0, 6 + BLUE] = 1.0 if fools else 0.0

    def forward(self, x):
        colors = torch.relu(self.colors(x))
        noise = self.blur(torch.relu(self.edges(x))).sum(1, keepdim=True)
        smooth = torch.relu(1 - 20 * noise)
        return self.unit(self.relu(self.paths(torch.cat([colors, noise, smooth], 1))))


def smooth_images(count: int):
    """Yield images of one muted color each, slightly brighter at one side."""
    generator = np.random.default_rng(0)
    slope = np.linspace(-0.04, 0.04, 32)[:, None, None]
    for _ in range(count):
        color = 0.5 + 0.3 * generator.uniform(-1, 1, 3)
        yield Image.fromarray(((color + slope + np.zeros((32, 32, 3))) * 255).astype(np.uint8))


def measured(network: nn.Module, out: Path, images: Path, layer: str, features, recipe, **asked) -> list[dict]:
    featlight.visualize(network, layer, features, recipe=recipe, out=out, progress=False)
    featlight.find_examples(out, images, network=network, paths=True, progress=False, **asked)
    return [json.loads(line) for line in (out / "examples/examples.jsonl").read_text().splitlines()]


def test_a_fooling_circuit_is_unmasked(tmp_path):
    images = folder_of(tmp_path / "images", smooth_images(120))
    recipe = featlight.Recipe([featlight.Octave(32, 30, (0.03, 0.03))], gradient="rms")
    paths, colors = {}, {}
    for fools in (True, False):
        out = tmp_path / str(fools)
        lines = measured(Circuit(fools=fools), out, images, "unit", [0, 1], recipe)
        paths[fools] = lines[0]["paths"]
        pictures = featlight.open_run(out).images
        colors[fools] = pictures[0].mean((1, 2)), pictures[1].mean((1, 2))
        example = np.asarray(Image.open(images / lines[0]["images"][0]["file"])).mean((0, 1))
        assert example.argmax() == RED  # the dataset shows what the unit does on photographs
    assert colors[True][0].argmax() == colors[True][1].argmax() == BLUE  # the picture is that of another unit
    assert colors[False][0].argmax() == RED
    assert paths[True]["relu"] < -0.5
    assert paths[False]["relu"] > 0.5


def by_hand(network: nn.Module, layer: str, picture: Path, examples: list[Path], others: list[Path]) -> float | None:
    """Follow the definition with SciPy's correlation, image by image, on the untouched network."""
    module, found = network.get_submodule(layer), []

    def channel_means(file: Path) -> np.ndarray:
        image = Image.open(file).convert("RGB")
        side = min(image.size)
        pixels = np.asarray(image if side == 64 else image.resize((64, 64), Image.Resampling.BILINEAR))
        hook = module.register_forward_hook(lambda _, __, output: found.append(output.double().mean((2, 3))[0]))
        with torch.no_grad():
            network(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double() / 255)
        hook.remove()
        return found.pop().numpy()

    def similarity(one, other) -> float:
        return spearmanr(one, other).statistic

    x, own, rest = channel_means(picture), [channel_means(e) for e in examples], [channel_means(r) for r in others]
    to_own = np.mean([similarity(x, e) for e in own])
    base = np.mean([similarity(r, e) for r in rest for e in own])
    among = np.mean([similarity(e, other) for i, e in enumerate(own) for j, other in enumerate(own) if i != j])
    return (to_own - base) / (among - base) if among > base else None


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    recipe = featlight.Recipe([featlight.Octave(48, 3, (0.1, 0.1))], gradient="rms")
    network = featlight.load_model("tiny_inception")
    featlight.visualize(
        network, "Mixed_4a", [0, 5], recipe=recipe, out=out, precision="fp64", normalize="none", progress=False
    )
    return out


def test_values_follow_the_definition(run, tmp_path):
    images = folder_of(tmp_path / "images", crops(30))  # of which three are examples, so that all others are taken
    out = Path(shutil.copytree(run, tmp_path / "run"))
    network = featlight.load_model("tiny_inception")
    featlight.find_examples(out, images, network=network, paths=True, top=3, fit=64, progress=False)
    lines = [json.loads(line) for line in (out / "examples/examples.jsonl").read_text().splitlines()]
    assert [line["feature"] for line in lines] == [0, 5]
    network.double()
    assert list(lines[1]["paths"])[-1] == "Mixed_4a"
    assert len(lines[1]["paths"]) > len(lines[0]["paths"])  # without layers that have no scale
    for line in lines:
        examples = [images / each["file"] for each in line["images"]]
        others = [file for file in images.rglob("*.png") if file not in examples]
        for name in ("Conv2d_1a_5x5.conv", "Mixed_3a", "Mixed_4a"):
            theirs = by_hand(network, name, out / line["tile"], examples, others)
            assert line["paths"].get(name) == (theirs if theirs is None else pytest.approx(theirs, abs=1e-6))


def test_bits_do_not_depend_on_workers(run, tmp_path):
    images = folder_of(tmp_path / "images", crops(80, side=48))  # more than the random images
    network, written = featlight.load_model("tiny_inception"), []

    def look(out: Path, paths: bool, workers: int = 1):
        request = ExamplesRequest(images, 3, 48, 8, paths)
        ranks = [Worker(rank, workers) for rank in range(workers)]
        return [find(out, request, worker=worker, processes=0, network=network) for worker in ranks]

    for workers in (1, 2):
        out = Path(shutil.copytree(run, tmp_path / str(workers)))
        for paths in (False, True):  # the pictures of the examples are there without their paths
            reports = look(out, paths, workers)
        written.append((out / "examples/examples.jsonl").read_bytes())
        (line,) = (line for line in last_lines(reports[-1], out) if line.startswith("path similarity"))
        assert line.endswith("the median of 2 tiles (1: processed like its own examples, 0: like any of these images)")
        look(out, paths=False)
        assert (out / "examples/examples.jsonl").read_bytes() == written[-1]  # kept, as nothing has changed
    assert written[0] == written[1]
    assert written[0].count(b'"paths": {"') == 2
