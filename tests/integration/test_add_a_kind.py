"""The table of CONTRIBUTING: one kind of each row, added to a copy of the package by the edits that it lists."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import featlight

CONTRIBUTING = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")

REGION = '''
class Corner(Region):
    """The neuron at the top left."""

    name = "corner"
    description = "the neuron at the top left"
    needs = "no index"
    suffix = "-corner"

    def is_index(self, index: Any) -> bool:
        return index is None

    def indices(self, size: MapSize) -> Iterable[Index]:
        return (None,)

    def label(self, index: Any) -> str:
        return " corner"

    def file_suffix(self, index: Any) -> str:
        return "-corner"

    def boxes(self, index: Any, first: MapSize, now: MapSize) -> list[Box]:
        return [(slice(1), slice(1))]
'''
LOSS = '''
def cubes(distance: "Tensor") -> "Tensor":
    """Return the sum of cubes."""
    return (distance**3).sum((1, 2, 3))
'''
START = '''
def dark(size: ImageSize, _seed: int, channels: int = 3) -> "Tensor":
    """Return a dark gray."""
    import torch

    return torch.full((channels, *both_sides(size)), 0.25)
'''
TRANSFORM = '''
@dataclass(frozen=True)
class Flip(AffineTransform):
    """Mirror the image if `share` is above 0.5."""

    share: float
    name: ClassVar = "flip"
    needs: ClassVar = "a share is needed"

    @property
    def is_random(self) -> bool:
        return False

    @property
    def values(self) -> Any:
        return self.share

    def in_words(self) -> str:
        return f"flip {self.share:g}"

    def matrix(self, draws: "Tensor", _size: tuple[float, float]) -> "Tensor":
        one, zero = draws[:, 0] * 0 + 1, draws[:, 0] * 0
        return matrix_of([[-one if self.share > 0.5 else one, zero, zero], [zero, one, zero], [zero, zero, one]])
'''
MEASURE = '''
class SumMeasure(Measure):
    """The sum of all features."""

    name = "sum"
    word = "sum"
    stem = "sum"

    def label(self, term: TermFields) -> str:
        return "sum"

    def file_stem(self, term: TermFields) -> str:
        return "sum"

    def read(self, output: "Tensor", operand: Any, power: float) -> "tuple[Tensor, Tensor]":
        z = output.sum(1, keepdim=True)
        return z, z

    def maps(self, output: "Tensor", images: "Tensor", operand: Any) -> "Tensor":
        return output[images].sum(1)

    def totals(self, output: "Tensor", operand: Any) -> "Tensor":
        return output.sum((1, 2, 3))[:, None]
'''
SOURCE = '''"""One pointwise convolution."""

from collections.abc import Sequence

import torch
from torch import nn

from featlight.models.sources.entry import NetworkEntry


def has(model: str) -> bool:
    return model == "pointwise"


def names() -> Sequence[str]:
    return ["pointwise"]


def entry(_: str) -> NetworkEntry:
    return NetworkEntry(build, lambda _: build())


def build() -> nn.Module:
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 2, 1, bias=False))
    with torch.no_grad():
        network.conv.weight.copy_(torch.tensor([[1, 0.5, -0.5], [0, 0, 0]])[:, :, None, None])
    return network
'''
# The files that each row of the table names, and the edits of them: text that is replaced, and its replacement
EDITS = {
    "region of neurons": {
        "config/regions.py": [
            ("\nREGIONS: ", f"{REGION}\n\nREGIONS: "),
            ("PrefixRegion())", "PrefixRegion(), Corner())"),
        ]
    },
    "loss": {
        "config/losses.py": [
            ("\nclass Loss(", f"{LOSS}\n\nclass Loss("),
            ("METRICS = {", 'METRICS = {"cubes": Loss(cubes),'),
        ]
    },
    "measure of a term, such as a direction": {
        "config/measures.py": [
            ("\n_FEATURE_OR_DIRECTION = ", f"{MEASURE}\n\n_FEATURE_OR_DIRECTION = "),
            ("ImageMeasure())", "ImageMeasure(), SumMeasure())"),
        ]
    },
    "starting image": {
        "config/named_starts.py": [
            ("\nclass NamedStart(", f"{START}\n\nclass NamedStart("),
            ("NAMED_STARTS = {", 'NAMED_STARTS = {"dark": NamedStart(dark, "0.25"),'),
        ]
    },
    "affine transform": {
        "config/transform_settings.py": [
            ("\nTransform = ", f"{TRANSFORM}\n\nTransform = "),
            ("Noise | Lambda\n", "Noise | Lambda | Flip\n"),
        ]
    },
    "source of networks": {
        "models/sources/pointwise.py": [("", SOURCE)],
        "models/catalog.py": [
            ("import efficientnet_lite0,", "import pointwise, efficientnet_lite0,"),
            ("= (embedded,", "= (pointwise, embedded,"),
        ],
    },
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Return a folder with a copy of the package that has one more kind of each row."""
    folder = tmp_path_factory.mktemp("extended")
    package = folder / "featlight"
    shutil.copytree(Path(featlight.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for files in EDITS.values():
        for name, edits in files.items():
            path = package / name
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            for old, new in edits:
                assert text.count(old) == 1, (name, old)
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
    return folder


def command(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "1000"}
    return subprocess.run(
        [sys.executable, "-m", "featlight", *words], env=environment, cwd=folder, capture_output=True, text=True
    )


@pytest.mark.parametrize("kind", EDITS)
def test_the_table_names_the_edited_files_and_no_others(kind):
    (row,) = re.findall(rf"^\| {kind} \| (.*) \|$", CONTRIBUTING, re.MULTILINE)
    named = set(re.findall(r"`featlight/([\w/.]*)`", row))
    assert {path for path in EDITS[kind] if path in named or f"{Path(path).parent}/" in named} == set(EDITS[kind])
    assert len(named) == len(EDITS[kind])


def test_a_run_with_one_of_each_is_as_computed_by_hand(extended):
    octave = {"size": 8, "steps": 1, "lr": [2e-6, 2e-6]}
    values = {"recipe": {"octaves": [octave], "transforms": [{"flip": 1}]}, "normalize": "none", "accelerator": "cpu"}
    (extended / "config.yaml").write_text(yaml.safe_dump(values))
    words = (
        "--config config.yaml --model pointwise --layer conv --features 0 --region corner --metric cubes --init dark"
    )
    done = command(extended, *words.split(), "--out", "run")
    assert done.returncode == 0, done.stderr
    # the corner of the mirrored image is the pixel at the top right, and its loss (200 - z)^3 has the slope -3 d^2 w
    weights = np.array([1, 0.5, -0.5])
    distance = 200 - 0.25 * weights.sum()
    expected = np.full((8, 8, 3), 0.25)
    expected[0, 7] += 2e-6 * 3 * distance**2 * weights
    found = np.array(Image.open(extended / "run" / "tiles" / "conv" / "00000-corner.png").convert("RGB"))
    np.testing.assert_array_equal(found, np.round(expected * 255))
    settings = json.dumps(json.loads((extended / "run" / "plan.json").read_text()))
    assert all(word in settings for word in ('"corner"', '"cubes"', '"dark"', '{"flip": 1}'))
    verified = command(extended, "verify", "--out", "run")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_tile_of_an_added_measure_is_as_computed_by_hand(extended):
    octave = {"size": 8, "steps": 1, "lr": [0.001, 0.001]}
    tile = {"name": "both", "terms": [{"layer": "conv", "direction": "sum"}]}
    values = {"recipe": {"octaves": [octave]}, "normalize": "none", "accelerator": "cpu", "tiles": [tile]}
    (extended / "tiles.yaml").write_text(yaml.safe_dump(values))
    done = command(extended, *["--config", "tiles.yaml", "--model", "pointwise", "--init", "dark", "--out", "tiles"])
    assert done.returncode == 0, done.stderr
    # the second feature has no weights, so that the sum is the first feature; the loss 200 - z has the slope -w
    found = np.array(Image.open(extended / "tiles" / "tiles" / "named" / "both.png").convert("RGB"))
    expected = np.full((8, 8, 3), 0.25) + 0.001 * np.array([1, 0.5, -0.5])
    np.testing.assert_array_equal(found, np.round(expected * 255))
    values["tiles"][0]["terms"][0]["direction"] = "sun"
    (extended / "tiles.yaml").write_text(yaml.safe_dump(values))
    assert "sum" in command(extended, "--config", "tiles.yaml").stderr
    (extended / "photographs").mkdir()
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(extended / "photographs" / "white.png")
    words = "examples --out tiles --images photographs --model pointwise --fit none"
    done = command(extended, *words.split())
    assert done.returncode == 0, done.stderr
    (line,) = (extended / "tiles" / "examples" / "examples.jsonl").read_text().splitlines()
    assert json.loads(line)["images"][0]["value"] == 1.0  # 1 + 0.5 - 0.5 at every position


def test_help_and_errors_name_each(extended):
    text = " ".join(command(extended, "--help").stdout.split())
    assert "corner (the neuron at the top left)" in text
    assert "cubes" in text
    assert "dark (0.25)" in text
    assert "corner" in command(extended, "--region", "cornr").stderr
    assert "cubes" in command(extended, "--metric", "cube").stderr
    (extended / "slip.yaml").write_text("recipe: {base: article, transforms: [{flp: 1}]}")
    assert "flip" in command(extended, "--config", "slip.yaml").stderr
    assert "pointwise" in command(extended, "--list-models").stdout
