"""Objectives of the user's own, in float64 beside the loop, in memory and on disk."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import featlight
from featlight.cli.main import main
from featlight.errors import UsageError
from featlight.param.pixel import Pixel
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


class Counts:
    """Gives more at every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, outputs):
        self.calls += 1
        return outputs["4"].mean((1, 2, 3)) * self.calls


def mean(outputs):
    return outputs["4"].mean((1, 2, 3))


def backward_first(outputs):
    values = mean(outputs)
    values.sum().backward()
    return values


PROBE = nn.Sequential(nn.BatchNorm2d(12), nn.Conv2d(12, 1, 1))  # in train mode, and its parameters want gradients
STATE = {name: value.clone() for name, value in PROBE.state_dict().items()}
ONE = r"a tensor \(\d+,\) of floats is needed, one an image"
FUNCTIONS = {
    "a number": (lambda outputs: outputs["4"].mean(), rf"gives a tensor \(\), float32; {ONE}"),
    "nothing": (lambda outputs: None, f"gives a NoneType; {ONE}"),
    "numpy": (lambda outputs: mean(outputs).detach().numpy(), f"gives a ndarray; {ONE}"),
    "a tuple": (lambda outputs: (mean(outputs),), f"gives a tuple; {ONE}"),
    "truth": (lambda outputs: mean(outputs) > 0, f"bool; {ONE}"),
    "places": (lambda outputs: outputs["4"].flatten(1).argmax(1), f"int64; {ONE}"),
    "complex": (lambda outputs: mean(outputs) * 1j, f"complex64; {ONE}"),
    "sparse": (lambda outputs: mean(outputs).to_sparse(), rf"gives a tensor \(\d+,\), float32, sparse_coo; {ONE}"),
    "no numbers": (lambda outputs: mean(outputs).to("meta"), f"float32, on meta; {ONE}"),
    "a freed graph": (lambda outputs: backward_first(outputs), "no gradient can be taken: RuntimeError"),
    "maps": (lambda outputs: outputs["4"].mean(1), f"float32; {ONE}"),
    "detached": (lambda outputs: mean(outputs).detach(), "no gradient reaches the image"),
    "constant": (lambda outputs: torch.ones(len(outputs["4"]), requires_grad=True), "no gradient reaches the image"),
    "another layer": (lambda outputs: outputs["five"].mean((1, 2, 3)), "KeyError: 'five'; it is given the layers '4'"),
    "the end": (lambda outputs: sys.exit("done"), "fails: SystemExit: done"),
    "an error": (lambda outputs: 1 / 0, "fails: ZeroDivisionError"),
    "chance": (lambda outputs: mean(outputs) * torch.rand(()), "draws random numbers or keeps state"),
    "calls": (Counts(), "draws random numbers or keeps state"),
    "neighbours": (lambda outputs: mean({"4": outputs["4"] - outputs["4"].mean(0)}), "looks at other images"),
    "all at once": (lambda outputs: mean(outputs) * len(outputs["4"]), "looks at other images"),
    "in place": (lambda outputs: mean({"4": outputs["4"].mul_(2)}), "writes into the output of layer '4'"),
    "a probe that learns": (lambda outputs: PROBE(outputs["4"]).mean((1, 2, 3)), "changes a tensor that it uses"),
}


@pytest.mark.parametrize(("function", "line"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_what_cannot_be_followed_is_refused_in_a_line(network_of, small_recipe, function, line):
    with pytest.raises(UsageError, match=rf"^objective: [^\n]*{line}"):
        featlight.visualize(network_of("hand_made"), "4", objective=function, recipe=small_recipe, progress=False)
    assert all(torch.equal(value, STATE[name]) for name, value in PROBE.state_dict().items())


def test_a_network_of_the_functions_own_gets_no_gradients(network_of, small_recipe):
    probe = nn.Conv2d(12, 1, 1)
    found = featlight.visualize(
        network_of("hand_made"),
        "4",
        objective=lambda outputs: probe(outputs["4"]).double().mean((1, 2, 3)),
        recipe=small_recipe,
        progress=False,
    )
    assert found.records[0]["status"] == "ok"
    assert all(each.grad is None and each.requires_grad for each in probe.parameters())
    assert probe.training


def test_what_does_not_go_together_is_said_in_a_line(network_of, small_recipe, capsys):
    words = {"recipe": small_recipe, "progress": False}
    network = network_of("hand_made")
    with pytest.raises(UsageError, match="contrast given with features; leave out features"):
        featlight.visualize(network, ["1", "4"], [3], objective=contrast, **words)
    with pytest.raises(UsageError, match="layer: none given; "):
        featlight.visualize(network, objective=contrast, **words)
    assert main(["--objective", "mine 1", "--features", "0", "--model", "tiny_inception"]) == 2
    assert "a function is needed, from Python" in capsys.readouterr().err


class Mixed(Pixel):
    def image(self, parameters, size):
        return super().image(parameters - parameters.mean(0), size)


class Cut(Pixel):
    def image(self, parameters, size):
        return super().image(parameters, size).detach()


class Small(Pixel):
    def image(self, parameters, size):
        return super().image(parameters, size)[:, :, 1:]


class Ends(Pixel):
    def image(self, parameters, size):
        sys.exit(4)


RULES = {
    "neighbours": (lambda p, g, state, *, lr: (p - lr * (g - g.mean(0)), {"n": 1}), "looks at other images"),
    "chance": (lambda p, g, state, *, lr: (p - lr * g * torch.rand(()), state), "draws random numbers or keeps state"),
    "alone": (lambda p, g, state, *, lr: p - lr * g, r"returns \(2, 3, 32, 32\); return a pair"),
    "shape": (lambda p, g, state, *, lr: (p[:, :1], state), "return a pair"),
    "nothing": (lambda p, g, state, *, lr: None, "returns NoneType; return a pair"),
    "words": (lambda p, g: (p, {}), "fails: TypeError"),
    "the end": (lambda p, g, state, *, lr: sys.exit(3), "fails: SystemExit: 3"),
}
PARAMETERIZATIONS = {
    Mixed: "Mixed mixes the images of a batch",
    Cut: "Cut: no gradient reaches its parameters",
    Small: r"Small gives \(3, 3, 31, 32\) for three images",
    Ends: "Ends fails: SystemExit: 4",
}


@pytest.mark.parametrize(("rule", "line"), RULES.values(), ids=RULES)
def test_a_rule_that_cannot_be_followed_is_refused_in_a_line(network_of, rule, line):
    recipe = featlight.Recipe([featlight.Octave(32, 2, (0.4, 0.3))], optimizer=rule)
    with pytest.raises(UsageError, match=rf"^optimizer: [^\n]*{line}"):
        featlight.visualize(network_of("hand_made"), "4", [0, 1], recipe=recipe, progress=False)


@pytest.mark.parametrize(("kind", "line"), PARAMETERIZATIONS.items())
@pytest.mark.parametrize("range", ["unbounded", "sigmoid"])
def test_a_parameterization_that_cannot_be_followed_is_refused_in_a_line(network_of, kind, line, range):
    octave = featlight.Octave(32, 2, (0.4, 0.3))
    recipe = featlight.Recipe([octave], parameterization=kind, range=range)
    with pytest.raises(UsageError, match=f"^parameterization: {line}"):
        featlight.visualize(network_of("hand_made"), "4", [0], recipe=recipe, progress=False)


def test_one_that_can_be_followed_moves_as_the_rule_of_that_name(network_of):
    def mine(parameters, gradient, state, *, lr):
        parameters -= lr * gradient
        return parameters, {"steps": state.get("steps", 0) + 1}

    octave = featlight.Octave(32, 3, (0.4, 0.3))
    made = [
        featlight.visualize(
            network_of("hand_made"), "4", [0, 1], recipe=featlight.Recipe([octave], optimizer=rule), progress=False
        ).images
        for rule in ("sgd", mine)
    ]
    torch.testing.assert_close(*made)
