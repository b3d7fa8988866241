"""The layers at which path similarity is measured."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from featlight.examples.paths import MOST_LAYERS, layers_before
from featlight.models.frozen import frozen_copy
from featlight.models.prepared import PreparedNetwork


def prepared(network: nn.Module) -> PreparedNetwork:
    cpu = torch.device("cpu")
    return PreparedNetwork(frozen_copy(network, cpu, torch.float32), [16], dtype=torch.float32, device=cpu)


def stage(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 4, 1), nn.ReLU())


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("0", ["0"]),
        ("1", ["0", "1"]),  # without the layer's own parts
        ("2", ["0", "1.0", "1.1", "2"]),  # there are few layers outside: parts, without the container that repeats one
        ("2.0", ["0", "1.0", "1.1", "2.0"]),
    ],
)
def test_layers_end_before_the_tiles_own(layer, expected):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), stage(4), stage(4))
    assert list(layers_before(prepared(network), layer)) == expected


def test_parts_are_left_out_behind_many_layers():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), *(nn.Sequential(*stage(4), nn.Sigmoid()) for _ in range(9)))
    assert list(layers_before(prepared(network), "9")) == [str(number) for number in range(10)]


def test_of_many_layers_evenly_spaced_ones_are_taken():
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(100)))
    names = [int(name) for name in layers_before(prepared(network), "99")]
    assert len(names) == MOST_LAYERS
    assert (names[0], names[-2], names[-1]) == (0, 98, 99)
    assert {after - before for before, after in pairwise(names[:-1])} <= {3, 4}
