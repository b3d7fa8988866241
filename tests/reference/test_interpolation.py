"""Rows of pictures from one objective to the next, in float64 beside the weighted loop."""

import copy

import pytest

import featlight
from featlight.errors import UsageError
from featlight.plan.parsing import read_plan
from featlight.store.store import Store
from tests.literal import descent, layer_function, layer_loss
from tests.reference.test_objectives import assert_equal_and_moved, recipe_of, table


def test_each_picture_is_a_weighted_sum(network_of, tmp_path):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = table(3.0)
    result = featlight.visualize(
        network, "4", [2, 7, 5], interpolate=3, recipe=recipe_of(rows), precision="fp64", out="run", progress=False
    )
    names = ["2-100-7-0", "2-50-7-50", "2-0-7-100", "7-50-5-50", "7-0-5-100"]
    assert [planned.label for planned in result.tiles] == names
    function = layer_function(network, "4")
    weights = [(1, 0, 0), (0.5, 0.5, 0), (0, 1, 0), (0, 0.5, 0.5), (0, 0, 1)]
    for image, row in zip(result.images, weights, strict=True):

        def loss(x, row=row):
            return sum(weight * layer_loss(function, x, i) for i, weight in zip((2, 7, 5), row, strict=True) if weight)

        assert_equal_and_moved(image, descent(loss, rows))
    plan = Store(tmp_path / "run").need_plan()
    assert read_plan(plan.to_json()) == plan
    assert plan.chunks == [[0, 1, 2, 3, 4]]


def test_named_tiles_are_gone_between_too(network_of, small_recipe):
    tiles = [featlight.Tile(name, [featlight.Term("4", i)]) for i, name in enumerate("ab")]
    words = {"recipe": small_recipe, "progress": False}
    result = featlight.visualize(network_of("hand_made"), tiles=tiles, interpolate=2, **words)
    assert [planned.label for planned in result.tiles] == ["a-100-b-0", "a-0-b-100"]
    with pytest.raises(UsageError, match="interpolate: 3 given for 1 tile; it needs at least two"):
        featlight.visualize(network_of("hand_made"), "4", [1], interpolate=3, **words)
