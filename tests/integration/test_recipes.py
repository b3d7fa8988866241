"""Every recipe that ships: neighbours, order, workers, interruptions and halved batches change no image."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import featlight
from featlight.config.presets import EMBEDDED, RECIPES
from featlight.config.recipe import merged
from featlight.config.settings import whole
from featlight.config.validation import check, read
from featlight.distributed.env import Worker
from featlight.plan.request import RunRequest
from featlight.run.worker import make
from tests.conftest import awake, hand_made
from tests.integration.test_run import run, tiles

OCTAVES = [{"size": 32, "steps": 3}, {"size": 40, "steps": 2}]
NAMES = [name for name in RECIPES if name != EMBEDDED]
# The article's stands in test_workers, MACO in test_maco; the features of `fc` have no place
CASES = [("natural", "Mixed_4a"), ("lucid", "Mixed_4a"), ("natural", "fc"), ("photographic", "Mixed_4a")]


def short(name):
    """A recipe's table with every part but its length."""
    table = whole(RECIPES[name])
    octaves = [merged(table["octaves"][0], change) for change in OCTAVES]
    return {**table, "octaves": octaves, "redirected_relu": min(table["redirected_relu"], 2)}


def config(name, layer, features, out):
    values = {"layer": layer, "features": features, "batch_size": 2, "threads": 1, "recipe": short(name)}
    path = Path(f"{out}.yaml")
    path.write_text(yaml.safe_dump({**values, "model": EMBEDDED, "out": out}))
    return path


def work(path, rank, world_size):
    gone = threading.Event()
    gone.set()
    return make(
        RunRequest(check(read(path)).resolved()), worker=Worker(rank, world_size, rank, "test"), others_gone=gone
    )


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_workers_order_and_interruptions_change_no_bit(name, layer):
    assert run(config(name, layer, "0-4", "one")) == 0
    assert len(list(Path("one").glob("tiles/*/0000?.png"))) == 5
    for world_size in (2, 4):
        path = config(name, layer, "0-4", f"by{world_size}")
        for rank in reversed(range(world_size)):
            work(path, rank, world_size)
        assert tiles(f"by{world_size}") == tiles("one")
    other = config(name, layer, "4,2,0,1,3", "other")
    assert run(other) == 0
    assert tiles("other") == tiles("one")
    for path in sorted(Path("other").glob("tiles/*/*.png"))[1::2]:  # as an interruption leaves it
        path.unlink()
    assert run(other) == 0
    assert tiles("other") == tiles("one")


SIDES = [(16, 16), (17, 16), (16, 32), (33, 16), (17, 50), (48, 16), (16, 320), (339, 17)]


@pytest.mark.parametrize("name", [*NAMES, EMBEDDED])
def test_images_of_any_proportion_are_made(name, network_of):
    recipe, network = RECIPES[name], network_of("hand_made")
    for height, width in SIDES:
        sizes = [(height, width), (height + 3, width + 3 * width // height)]
        octaves = [replace(recipe.octaves[0], size=size, steps=2) for size in sizes]
        found = featlight.visualize(network, "4", [0, 5], recipe=replace(recipe, octaves=octaves), progress=False)
        assert [record["status"] for record in found.records] == ["ok", "ok"], (height, width)
        assert found.images.shape == (2, 3, *sizes[-1])


class Narrow(nn.Module):
    """A network that has no memory for the gradients of more views than so many."""

    def __init__(self, most):
        super().__init__()
        self.body, self.most = awake(hand_made(), 32), most

    def forward(self, x):
        if x.requires_grad and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.body(x)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_that_was_halved_draws_the_same(name):
    recipe = check({"recipe": short(name)}).recipe
    boxes = next((each.boxes for each in recipe.transforms if hasattr(each, "boxes")), 1)
    options = {"layer": "body.4", "features": range(5), "recipe": recipe, "precision": "fp64", "progress": False}
    wide, narrow = (featlight.visualize(Narrow(most), batch_size=4, **options) for most in (4 * boxes, 2 * boxes))
    assert [record["batch_size"] for record in wide.records] == [4] * 5
    assert [record["batch_size"] for record in narrow.records] == [2] * 5
    assert (wide.images - narrow.images).abs().max() < 1e-6 * wide.images.std()
    assert (wide.images[0] - wide.images[1]).abs().max() > 1e-3
