"""Whole descents in float64 beside the literal loop, for every region and metric, and for two layers at once."""

import copy
import itertools

import pytest
import torch

import featlight
from featlight.config.losses import METRICS
from featlight.config.tile import feature_tile
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import frozen_copy
from featlight.models.layers import survey
from featlight.objectives.objective import Objective
from tests.literal import descent, layer_function, layer_loss, trajectory

REGIONS = [("map", None), ("row", 9), ("neuron", (3, 12)), ("prefix", 70), ("all", None)]
SIZES = (32, 40)  # the maps of layer 4 are 15 x 15, then 19 x 19: positions are carried


def table(factor):
    """Two short octaves, their steps scaled so that every case moves."""
    first, second = SIZES
    return [(first, 4, (0.4 * factor, 0.3 * factor), (1.2, 0.6)), (second, 3, (0.3 * factor, 0.1 * factor), (0.9, 0.4))]


def recipe_of(rows):
    return featlight.Recipe([featlight.Octave(*row) for row in rows])


def assert_equal_and_moved(ours, path, by=0.1):
    path = list(path)
    start, final = path[0][0][0], path[-1][0][0]
    assert (ours - final).abs().max() < 1e-6 * final.std()
    grown = torch.nn.functional.interpolate(start[None], final.shape[-2:], mode="bilinear")[0]
    assert (final - grown).square().mean().sqrt() > by * final.std(), "the case does not move"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("region", "index"), REGIONS)
def test_every_region_and_metric(network_of, region, index, metric):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = table(3.0)
    result = featlight.visualize(
        network,
        "4",
        [2, 7],
        region=region,
        index=index,
        metric=metric,
        recipe=recipe_of(rows),
        precision="fp64",
        progress=False,
    )
    features = [None] if region == "all" else [2, 7]
    assert len(result) == len(features)
    literal = "map" if region == "all" else region
    for image, feature in zip(result.images, features, strict=True):
        path = trajectory(layer_function(network, "4"), feature, rows, region=literal, index=index, metric=metric)
        assert_equal_and_moved(image, path)


@pytest.mark.parametrize("metric", METRICS)
def test_two_layers_at_once(network_of, metric):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = table(1.0)
    tile = featlight.Tile(
        "both", [featlight.Term("1", 3, weight=0.5, region="row", index=6), featlight.Term("4", 5, weight=2.0)]
    )
    result = featlight.visualize(
        network, tiles=[tile], metric=metric, recipe=recipe_of(rows), precision="fp64", progress=False
    )
    near, far = layer_function(network, "1"), layer_function(network, "4")

    def loss(x):
        one = layer_loss(near, x, 3, region="row", index=6, metric=metric, first=(15, 15))
        return 0.5 * one + 2.0 * layer_loss(far, x, 5, metric=metric)

    assert_equal_and_moved(result.images[0], descent(loss, rows))


@pytest.mark.parametrize("position", list(itertools.product((0, 7, 14), repeat=2)))
def test_a_neuron_moves_only_its_receptive_field(network_of, position):
    frozen = frozen_copy(network_of("hand_made"), torch.device("cpu"), torch.float32)
    found = survey(frozen, 32)
    x = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    objective = Objective([feature_tile("4", 5, "neuron", position)], "l1", 200.0, {"4": found["4"].map_size})
    objective(LayerOutputs(frozen, [found["4"]])(x)).loss.sum().backward()
    moved = x.grad[0].abs().sum(0) > 0  # (32, 32)
    # a 3 x 3 convolution padded by 1, after one of 3 x 3 in steps of 2: 7 pixels, the first at 2 (m - 1)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    row, column = position
    inside[max(0, 2 * row - 2) : 2 * row + 5, max(0, 2 * column - 2) : 2 * column + 5] = True
    assert moved.any()
    assert not (moved & ~inside).any()
