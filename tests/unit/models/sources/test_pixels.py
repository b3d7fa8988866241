"""What networks of several libraries say of the pixels that they take, by stand-ins that have what these leave."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import featlight
from featlight.models.catalog import source_of
from featlight.models.sources.pixels import RADIOGRAPHS, describe_input, normalizes_itself

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def of(library, **attributes):
    """A network whose class a library's module defines."""
    network = type("Tower", (nn.Sequential,), {"__module__": library})(nn.Conv2d(3, 4, 3), nn.ReLU())
    for name, value in attributes.items():
        setattr(network, name, value)
    return network


def test_what_a_library_leaves_with_its_network_is_known():
    tower = of("open_clip.transformer", image_mean=MEAN, image_std=list(STD))
    whole = of("open_clip.model", visual=tower)
    for network in (tower, whole):
        assert (source_of(network).mean, source_of(network).std) == (MEAN, STD)
        assert describe_input(network, (MEAN, STD)).endswith("over std 0.27, 0.26, 0.28")
    xrays = source_of(of("torchxrayvision.models"))
    assert (xrays.mean, xrays.std) == RADIOGRAPHS
    ends = (torch.tensor([0.0, 1.0]) - RADIOGRAPHS[0][0]) / RADIOGRAPHS[1][0]
    assert ends.tolist() == [-1024, 1024]
    assert source_of(of("mine", image_mean=MEAN, image_std=STD)).mean is None


BUILDERS = """
from torch import nn

class Tower(nn.Sequential):
    pass

def radiographs():
    Tower.__module__ = "torchxrayvision.models"
    return Tower(nn.Conv2d(1, 4, 3))

def own():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    network.image_mean, network.image_std = [0.5], [0.5]
    return network
"""


def test_what_a_library_leaves_is_known_of_a_network_by_its_path_too():
    Path("builds.py").write_text(BUILDERS)
    for weights in ("DEFAULT", "none"):
        source = source_of(featlight.load_model("builds:radiographs", weights))
        assert (source.mean, source.std) == RADIOGRAPHS
    assert source_of(featlight.load_model("builds:own", "none")).mean is None


def test_a_preprocessor_beside_the_weights_is_read():
    Path("kept").mkdir()
    network = of("transformers.models.vit", name_or_path="kept")
    for content in (None, "{", json.dumps({"image_mean": "abc", "image_std": [1]})):
        if content is not None:
            Path("kept/preprocessor_config.json").write_text(content)
        assert source_of(network).mean is None
    Path("kept/preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    assert (source_of(network).mean, source_of(network).std) == (MEAN, STD)
    assert source_of(of("transformers.models.vit", name_or_path="../no name")).mean is None


class Normalize(nn.Module):
    def __init__(self, name="mean", other="std"):
        super().__init__()
        self.register_buffer(name, torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer(other, torch.tensor(STD).view(1, 3, 1, 1))


OTHER_NAMES = [("norm_mean", "norm_std"), ("_mean", "_std"), ("means", "stds"), ("MEAN", "STD")]


def holding(**attributes):
    module = nn.Identity()
    for name, value in attributes.items():
        setattr(module, name, value)
    return nn.Sequential(module, nn.Conv2d(3, 4, 3))


def test_a_record_that_the_network_may_not_apply_is_named():
    words = describe_input(holding(data_config={"mean": MEAN, "std": STD}), None)
    assert words.endswith("as they are; to apply mean and std of the network's 0.data_config, set normalize")


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (nn.Sequential(Normalize(), nn.Conv2d(3, 4, 3)), "0"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), Normalize("pixel_mean", "pixel_std")), "1"),
        (nn.Sequential(torchvision.transforms.Normalize(MEAN, STD), nn.Conv2d(3, 4, 3)), "0"),
        (Normalize(), ""),
        *((nn.Sequential(Normalize(*names)), "0") for names in OTHER_NAMES),
        (holding(mean=0.5, std=0.25), "0"),
        (holding(MEAN=list(MEAN), STD=np.array(STD)), "0"),
        (holding(steps=torchvision.transforms.Compose([torchvision.transforms.Normalize(MEAN, STD)])), "0.steps"),
        (holding(steps=[torchvision.transforms.Normalize(MEAN, STD)]), "0.steps"),
        (holding(mean=0.0, std=0.1), None),  # noise
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4)), None),
        (torchvision.models.resnet18(), None),
    ],
)
def test_a_network_that_normalizes_itself_is_seen(network, name):
    assert normalizes_itself(network) == name
    words = describe_input(network, None)
    assert words.startswith("pixels from 0 (black) to 1 (white), as they are")
    assert ("normalizes them itself" in words) == (name is not None)


def test_a_run_says_what_the_network_is_fed(capsys):
    recipe = featlight.Recipe([featlight.Octave(16, 1, (0.1, 0.1))])
    network = of("mine")
    featlight.visualize(network, "0", [0], recipe=recipe)
    assert "input        pixels from 0 (black) to 1 (white), as they are\n" in capsys.readouterr().out
    given = {"mean": MEAN, "std": STD}
    featlight.visualize(network, "0", [0], recipe=recipe, normalize=given, out="run")
    said = "input        pixels from 0 (black) to 1 (white), less mean 0.48, 0.46, 0.41, over std 0.27, 0.26, 0.28\n"
    assert said in capsys.readouterr().out
