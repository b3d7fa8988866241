"""Descents along directions in float64 beside a loop over positions, on maps, tokens and flat layers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import featlight
from tests.literal import chosen, descent, layer_function, loss_of
from tests.reference.test_objectives import assert_equal_and_moved, recipe_of, table

DIRECTIONS = np.random.default_rng(0).standard_normal((5, 12))


def position_values(z, vector, power):
    """Of one image's output (C, H, W), position by position: dot, and dot times the cosine to a power."""
    dots, values = torch.zeros(z.shape[1:], dtype=z.dtype), torch.zeros(z.shape[1:], dtype=z.dtype)
    for m in range(z.shape[1]):
        for n in range(z.shape[2]):
            here = z[:, m, n]
            dot = torch.dot(here, vector)
            length = torch.sqrt((here**2).sum()) * torch.sqrt((vector**2).sum())
            cosine = dot / length if length > 0 else torch.zeros(())
            dots[m, n] = dot.detach()
            values[m, n] = dot * (max(0.1, cosine) ** power if power else 1)
    return dots, values


def direction_loss(function, x, vector, power=0, region="map", index=None, metric="l1", first=None, as_map=lambda z: z):
    z = as_map(function(x)[0])  # (C, H, W)
    _, values = position_values(z, torch.as_tensor(vector, dtype=z.dtype), power)
    return loss_of(chosen(values, region, index, first or tuple(z.shape[1:])), metric, 200.0)


@pytest.mark.parametrize(
    ("power", "region", "index", "metric"),
    [(0, "map", None, "l1"), (2, "map", None, "l2"), (1, "neuron", (3, 12), "l1"), (4, "row", 9, "linf-rows")],
)
def test_rows_of_an_array_on_a_map(network_of, power, region, index, metric):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = table(3.0 if power < 4 else 30.0)
    result = featlight.visualize(
        network, "4", [1, 4], directions=DIRECTIONS, cosine_power=power, region=region, index=index, metric=metric,
        recipe=recipe_of(rows), precision="fp64", progress=False,
    )  # fmt: skip
    function = layer_function(network, "4")
    for image, record, row in zip(result.images, result.records, (1, 4), strict=True):
        words = {"region": region, "index": index, "metric": metric, "first": (15, 15)}
        path = list(descent(lambda x, v=DIRECTIONS[row], w=words: direction_loss(function, x, v, power, **w), rows))
        assert_equal_and_moved(image, path)
        dots, _ = position_values(function(path[-1][0])[0], torch.tensor(DIRECTIONS[row]), power)
        plain = torch.cat(chosen(dots, region, index, (15, 15))).mean()  # the projection alone, whatever the power
        assert record["activation_end"] == pytest.approx(plain.item(), rel=1e-5)


class Tokens(nn.Module):
    """Patches as tokens, (N, T, C), and a flat layer behind them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, 8, stride=8)
        self.mix = nn.Linear(6, 12)
        self.head = nn.Linear(12, 7)

    def forward(self, x):
        return self.head(self.mix(self.patches(x).flatten(2).transpose(1, 2)).relu().mean(1))


@pytest.mark.parametrize(("layer", "width"), [("mix", 12), ("head", 7)])
def test_tokens_and_flat_layers(layer, width):
    network = Tokens().double()
    rows = [(32, 4, (3.0, 2.0), (1.2, 0.6)), (40, 3, (2.0, 1.0), None)]
    vector = DIRECTIONS[2, :width]
    tile = featlight.Tile("along", [featlight.Term(layer, direction=vector)])
    result = featlight.visualize(
        network, tiles=[tile], cosine_power=1, recipe=recipe_of(rows), precision="fp64", progress=False
    )

    def as_map(z):
        if layer == "head":
            return z[:, None, None]
        side = int(len(z) ** 0.5)
        return z.T.reshape(width, side, side)

    function = layer_function(network, layer)
    path = descent(lambda x: direction_loss(function, x, vector, 1, as_map=as_map), rows)
    assert_equal_and_moved(result.images[0], path, by=0.02)


def test_a_term_along_a_direction_stands_beside_a_feature(network_of):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = table(1.0)
    terms = [featlight.Term("1", 3, weight=0.5), featlight.Term("4", direction=torch.tensor(DIRECTIONS[0]), weight=2.0)]
    result = featlight.visualize(
        network, tiles=[featlight.Tile("both", terms)], recipe=recipe_of(rows), precision="fp64", progress=False
    )
    near, far = layer_function(network, "1"), layer_function(network, "4")

    def loss(x):
        return 0.5 * torch.sum(200.0 - near(x)[0, 3]) + 2.0 * direction_loss(far, x, DIRECTIONS[0])

    assert_equal_and_moved(result.images[0], descent(loss, rows))
