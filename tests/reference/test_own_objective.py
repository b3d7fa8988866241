"""Objectives of the user's own, in float64 beside the loop, in memory and on disk."""

import copy
from pathlib import Path

import pytest
import torch

import featlight
from featlight.cli.main import main
from featlight.errors import UsageError
from tests.literal import descent, layer_function
from tests.reference.test_objectives import assert_equal_and_moved, recipe_of, table


def contrast(outputs):
    """One feature more, another less."""
    return outputs["4"][:, 2].sum((1, 2)) - 0.5 * outputs["1"][:, 3].sum((1, 2))


def test_a_function_of_two_layers_is_maximised(network_of):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = table(3.0)
    words = {"recipe": recipe_of(rows), "precision": "fp64", "progress": False}
    result = featlight.visualize(network, ["1", "4"], objective=contrast, **words)
    near, far = layer_function(network, "1"), layer_function(network, "4")
    path = list(descent(lambda x: -(far(x)[0, 2].sum() - 0.5 * near(x)[0, 3].sum()), rows))
    assert_equal_and_moved(result.images[0], path)
    value = contrast({"1": near(path[-1][0]), "4": far(path[-1][0])}).item()
    assert result.records[0]["activation_end"] == pytest.approx(value, rel=1e-5)


def test_on_disk_it_has_a_name_and_a_version(network_of, small_recipe, capsys):
    def mine(outputs):
        return outputs["4"].mean((1, 2, 3))

    words = {"recipe": small_recipe, "progress": False, "out": "run"}
    with pytest.raises(UsageError, match="mine given with out, and it has no version"):
        featlight.visualize(network_of("hand_made"), "4", objective=mine, **words)
    assert not Path("run").exists()
    mine.name, mine.version = "mean of all", 1
    first = featlight.visualize(network_of("hand_made"), "4", objective=mine, **words)
    again = featlight.visualize(network_of("hand_made"), "4", objective=mine, **words)
    assert torch.equal(first.images, again.images)
    assert Path("run/tiles/named/mean_of_all.png").is_file()
    assert main(["verify", "--out", "run"]) == 0
    mine.version = 2
    with pytest.raises(UsageError, match=r"objective: there \"mean of all 1\", now \"mean of all 2\""):
        featlight.visualize(network_of("hand_made"), "4", objective=mine, **words)


def test_what_does_not_fit_is_said_in_a_line(network_of, small_recipe, capsys):
    words = {"recipe": small_recipe, "progress": False}
    network = network_of("hand_made")
    with pytest.raises(UsageError, match=r"gives a tensor \(\); a tensor \(1,\) is needed, a number for each image"):
        featlight.visualize(network, "4", objective=lambda outputs: outputs["4"].mean(), **words)
    with pytest.raises(UsageError, match="contrast given with features; it says by itself what is maximised"):
        featlight.visualize(network, ["1", "4"], [3], objective=contrast, **words)
    with pytest.raises(UsageError, match="layer: none given; "):
        featlight.visualize(network, objective=contrast, **words)
    assert main(["--objective", "mine 1", "--features", "0", "--model", "tiny_inception"]) == 2
    assert "a function is needed, from Python" in capsys.readouterr().err
