import pytest
import torch
from torch import nn

import featlight
from featlight.errors import UsageError
from featlight.models.layer_info import left_out
from featlight.models.layers import survey, survey_of
from featlight.models.probing.own_outputs import own_outputs
from tests.conftest import hand_made
from tests.strange.networks import Does, conv


class Residual(nn.Module):
    """One ReLU for two places, as torchvision's ResNets have it; its last call gives what the block gives."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.relu(x + self.drop(self.conv(self.relu(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(Residual(), Residual())
        self.silent = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        self.silent(x.detach())
        return x


def layers(network):
    return [name for name, _ in network.named_modules() if name]


def own(network, names=None):
    network = network.eval().requires_grad_(False)
    return own_outputs(network, torch.rand(2, 3, 8, 8), survey(network, 8), names or layers(network))


def test_each_output_once_and_what_was_written_over_is_another_one():
    expected = {"stem.0", "stem.1", "stem.2", "blocks.0", "blocks.0.conv", "blocks.1", "blocks.1.conv"}
    assert set(own(Net())) == expected  # not the containers, the shared ReLU, the dropouts, nor what has no gradient


def test_a_container_stands_for_its_last_part_where_that_is_not_asked_for():
    assert own(Net(), ["stem", "blocks"]) == ["stem", "blocks"]
    assert own(Net(), ["blocks", "blocks.1", "blocks.0"]) == ["blocks.1", "blocks.0"]  # in the order given


def test_where_no_gradient_comes_from_any_all_stay_so_that_the_reason_is_said():
    class Detached(nn.Sequential):
        def forward(self, x):
            return super().forward(x.detach())

    assert own(Detached(*hand_made())) == [str(i) for i in range(6)]


def test_layers_that_no_gradient_passes_are_left_out_and_counted(small_recipe, caplog):
    def run(self, x):
        return self.last(self.first(x)) + self.place(x.detach()).mean() + self.gate(x.detach()).mean()

    network = Does(run, first=conv(), last=conv(6, 4), place=conv(), gate=nn.Sequential(conv()))
    found = survey_of(network, 16)
    assert [layer.name for layer in found.usable] == ["first", "last"]
    lines = left_out(found.left_out)
    assert lines[0] == "3 layers are left out:"
    assert lines[1].strip() == "place (and 2 more for the like): no gradient reaches the image"
    made = featlight.visualize(network, "all", [0], recipe=small_recipe, progress=False)
    assert [record["layer"] for record in made.records] == ["first", "last"]
    assert "3 layers are left out" in caplog.text
    assert "no gradient reaches the image" in caplog.text
    with pytest.raises(UsageError, match=r"'place' .*: no gradient reaches the image"):
        featlight.visualize(network, "place", [0], recipe=small_recipe, progress=False)
    one = Does(lambda self, x: self.only(x.detach()), only=conv())
    assert [layer.name for layer in survey_of(one, 16).usable] == ["only"]  # nothing else is left to list
