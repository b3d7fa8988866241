"""Examples of a run that has grown: what a search from the beginning finds, and no image looked at for nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.errors import Interrupted
from featlight.examples.activations import Activations
from featlight.examples.find import find
from featlight.examples.manifest import ExamplesRequest
from featlight.examples.worker_state import WorkerState
from tests.photographs import crops, folder_of, planned_run

CHUNK, IMAGES, SIDE = 4, 11, 32  # images, and px that they are seen at; the last chunk is not full
WIDTH = 11  # features of `narrow`
LITTLE = {"layer": {"narrow": "0-6", "wide": "3"}}
MORE = {
    "before": [{"layer": "first", "feature": 2}],
    "among": [{"layer": "middle", "feature": 4}],
    "behind": [{"layer": "classes", "feature": 0}],
    "known": [{"layer": "narrow", "feature": 3}],
    "row": [{"layer": "narrow", "feature": 5, "region": "row", "index": 1}],
    "neuron": [{"layer": "wide", "feature": 5, "region": "neuron", "index": [0, 1]}],
    "both": [{"layer": "middle", "feature": 2}, {"layer": "narrow", "feature": 2, "weight": -1.0}],
    "along": [{"layer": "narrow", "direction": np.cos(np.arange(WIDTH)).tolist()}],
    "all": [{"layer": "wide"}],
}
OLD, NEW = 8, len(MORE) - 1  # what is looked for: one of them is looked for already


class Network(nn.Module):
    """Convolutions, one of them with a norm that is folded, and classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(9)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        self.first = nn.Sequential(nn.Conv2d(3, 9, 5, stride=2), norm, nn.ReLU())
        self.narrow, self.middle = nn.Conv2d(9, WIDTH, 3), nn.Conv2d(WIDTH, 13, 3)
        self.wide, self.classes = nn.Conv2d(13, 20, 3, stride=2), nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.middle(self.narrow(self.first(x)).relu()).relu()
        return self.classes(self.wide(x).relu().mean((2, 3)))


NETWORK = Network().eval()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("photographs"), crops(IMAGES))


def grow(out: Path) -> None:
    """Give a run of `LITTLE` tiles of layers before, among and behind its own."""
    planned_run(out, NETWORK, tiles=[{"name": name, "terms": terms} for name, terms in MORE.items()])


def look(out: Path, images: Path, workers: int = 1, stop: Stop | None = None, **asked: object) -> list[str]:
    """By workers one after the other, in this process; what the first one says."""
    said: list[str] = []
    request = ExamplesRequest(images, **{"batch_size": CHUNK, "top": 3, "fit": SIDE, **asked})
    for rank in range(workers):
        find(out, request, worker=Worker(rank, workers), echo=said.append, stop=stop, network=NETWORK, processes=0)
    return said


def written(out: Path) -> dict[str, bytes]:
    """All but what each worker has found, and the list of images in the order in which they came."""
    files = [path for path in sorted((out / "examples").rglob("*")) if path.is_file()]
    left_out = {"images.json", *(path.name for path in files if path.suffix == ".safetensors")}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.name not in left_out}


def fresh(out: Path, images: Path, **asked: object) -> dict[str, bytes]:
    """What a search from the beginning gives."""
    other = Path(shutil.copytree(out, out.with_name("fresh"), ignore=shutil.ignore_patterns("examples")))
    look(other, images, **asked)
    return written(other)


@pytest.fixture
def looked() -> Callable[[], list[int]]:
    """Asked, for how many tiles each batch since was looked at."""
    calls: list[int] = []
    own = Activations.__call__

    def count(self, outputs):
        found = own(self, outputs)
        calls.append(found.shape[1])
        return found

    def since() -> list[int]:
        there = calls.copy()
        calls.clear()
        return there

    with mock.patch.object(Activations, "__call__", count):
        yield since


@pytest.mark.parametrize("workers", [1, 3])
def test_images_that_were_looked_at_are_for_the_new_tiles_alone(images, looked, workers, tmp_path):
    out = tmp_path / "run"
    planned_run(out, NETWORK, **LITTLE)
    look(out, images, workers)
    pictures = {path: path.stat().st_mtime_ns for path in (out / "examples").rglob("*.jpg")}
    assert looked() == [OLD] * 3
    grow(out)
    said = look(out, images, workers)
    assert said[0] == f"{NEW} new tiles: earlier images are scanned for these only"
    assert looked() == [NEW] * 3
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
    assert written(out) == fresh(out, images)
    looked()
    look(out, images, workers)
    assert looked() == []


def test_new_tiles_and_new_images_at_once_after_kills_by_any_number_of_workers(images, looked, tmp_path):
    out, folder = tmp_path / "run", shutil.copytree(images, tmp_path / "more")
    planned_run(out, NETWORK, **LITTLE)
    look(out, folder, 2)
    looked()
    grow(out)
    folder_of(folder / "0" / "more", crops(5, seed=5))
    killed = mock.Mock(check=mock.Mock(side_effect=[*[None] * 2, Interrupted("killed")]))
    with pytest.raises(Interrupted):
        look(out, folder, stop=killed)
    planned_run(out, NETWORK, layer={"narrow": "10"})
    assert look(out, folder, 3)[0].startswith("1 new tile: ")
    # one chunk of the three that were there, before the kill; two of new images
    assert sorted(looked()) == sorted([NEW] + [1] + [NEW + 1] * 2 + [OLD + NEW + 1] * 2)
    (out / "examples/found/worker-0.safetensors").write_bytes(b"torn")
    look(out, folder, 2)
    assert looked()
    assert written(out) == fresh(out, folder)


@pytest.mark.parametrize(
    ("fit", "layer"),
    [
        (SIDE, "first.0"),  # a convolution that is looked at keeps what it gives: its norm is not folded
        ("none", "wide"),  # an image that is too small for one layer is looked at for none
    ],
)
def test_where_old_tiles_would_find_otherwise_the_pass_begins_anew(images, fit, layer, tmp_path):
    out, folder = tmp_path / "run", shutil.copytree(images, tmp_path / "images")
    next(crops(1, side=12)).save(folder / "small.png")
    planned_run(out, NETWORK, layer={"middle": "0-1"})
    look(out, folder, fit=fit)
    planned_run(out, NETWORK, layer={layer: "0"})
    assert look(out, folder, fit=fit)[0] == "all images are scanned again: preparation changed"
    assert written(out) == fresh(out, folder, fit=fit)


def test_findings_of_other_tiles_are_none(images, tmp_path):
    out, other = tmp_path / "run", tmp_path / "other"
    for run, more in ((out, "8"), (other, "9")):
        planned_run(run, NETWORK, **LITTLE)
        look(run, images)
        planned_run(run, NETWORK, layer={"narrow": more})
        look(run, images)
    shutil.copy(other / "examples/found/worker-0.safetensors", out / "examples/found/worker-0.safetensors")
    with mock.patch.object(WorkerState, "empty", wraps=WorkerState.empty) as begun:
        look(out, images)
    begun.assert_called_once()
    assert written(out) == fresh(out, images)


def test_a_scan_of_a_folder_whose_path_is_not_utf8_goes_on(images, tmp_path):
    folder = Path(shutil.copytree(images, tmp_path / "\udcfe"))
    planned_run(tmp_path / "run", NETWORK, **LITTLE)
    first = look(tmp_path / "run", folder)
    assert look(tmp_path / "run", folder) == first


def test_a_scan_keeps_its_batch_size_and_a_new_one_of_larger_images_takes_fewer(images, tmp_path):
    out = tmp_path / "run"
    planned_run(out, NETWORK, **LITTLE)

    def batch_size(**asked: object) -> int:
        look(out, images, **asked)
        return json.loads((out / "examples/images.json").read_text().splitlines()[0])["settings"]["batch_size"]

    assert batch_size(batch_size=6) == 6
    assert batch_size(batch_size="auto") == 6
    assert batch_size(batch_size="auto", top=2) == 6
    assert batch_size(batch_size="auto", fit=400) == 20
    assert batch_size(batch_size="auto", fit=(200, 400)) == 32
