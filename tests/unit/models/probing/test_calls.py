"""One module under several names: a name means the call that is made by it."""

import pytest
import torch
from torch import nn

import featlight
from featlight.errors import UsageError
from featlight.models.frozen import frozen_copy
from featlight.models.layer_info import table
from featlight.models.layers import survey
from featlight.models.prepared import PreparedNetwork
from tests.strange.networks import Does, conv, norm

CPU = torch.device("cpu")


def block(act, inner, outer):
    parts = {"conv": conv(inner, outer, padding=1), "norm": norm(outer), "act": act}
    return Does(lambda self, x: self.act(self.norm(self.conv(x))), **parts)


def shared():
    """One activation for a whole network, as ultralytics has it; also by a list, out of order, and by an alias."""
    torch.manual_seed(0)
    act = nn.SiLU()

    def run(self, x):
        return self.act(self.head(self.acts[0](self.acts[1](self.model(x)))))

    parts = {"model": nn.Sequential(block(act, 3, 4), block(act, 4, 5)), "acts": nn.ModuleList([act, act]), "act": act}
    return Does(run, **parts, head=conv(5, 4, padding=1), alias=parts["model"]).eval()


def separate(network, images):
    """What each name gives, by a network whose activations are modules of their own and do the very same."""
    given = {}
    every = {"model.0.act": (network.model[0], "act"), "model.1.act": (network.model[1], "act")}
    every |= {"acts.0": (network.acts, "0"), "acts.1": (network.acts, "1"), "act": (network, "act")}
    for name, (parent, child) in every.items():
        setattr(parent, child, own := nn.SiLU())
        own.register_forward_hook(lambda _, __, output, name=name: given.setdefault(name, output))
    with torch.no_grad():
        network(images)
    return given


@pytest.mark.parametrize("name", ["model.0.act", "model.1.act", "acts.0", "acts.1", "act"])
def test_a_name_means_its_own_call(name, small_recipe, tmp_path):
    found = featlight.visualize(shared(), name, [2], recipe=small_recipe, metric="l2", progress=False, out=tmp_path)
    expected = separate(shared(), found.images)[name][0, 2].mean()
    assert found.records[0]["activation_end"] == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_several_calls_of_one_module_are_looked_at_together(small_recipe):
    names = ["model.0.act", "acts.0", "acts.1"]
    found = featlight.visualize(shared(), names, [1], recipe=small_recipe, metric="l2", progress=False)
    for place, name in enumerate(names):
        expected = separate(shared(), found.images[place : place + 1])[name][0, 1].mean()
        assert found.records[place]["activation_end"] == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_the_list_says_how_often_a_module_is_called_and_stands_in_the_order_of_the_calls():
    listed = {layer.name: layer for layer in featlight.list_layers(shared(), 16)}
    acts = ["model.0.act", "model.1.act", "acts.1", "acts.0", "act"]
    assert [name for name in listed if name in acts] == acts
    assert [listed[name].call for name in acts] == [1, 2, 3, 4, 5]
    assert [listed[name].features for name in acts] == [4, 5, 5, 5, 4]
    assert table([listed["acts.1"]])[1].endswith("SiLU, call 3 of 5 calls")
    assert listed["alias.0.conv"].shape == listed["model.0.conv"].shape  # of a module that is called once
    again = Does(lambda self, x: self.relu(self.conv(self.relu(x))), relu=nn.ReLU(), conv=conv())
    assert table(featlight.list_layers(again, 16))[1].endswith("ReLU, the last of 2 calls")


def by_a_plain_list(self, x):
    for act in self.hidden:
        x = self.conv(act(x))
    return x


def test_a_name_whose_call_is_not_known_is_refused():
    act = nn.ReLU()
    network = Does(by_a_plain_list, conv=conv(3, 3), a=act, b=act)
    network.hidden = [act, act]  # which calls are made under no name
    with pytest.raises(UsageError, match=r"its module has 2 names and is called 2 times, .* use the layers around it"):
        survey(frozen_copy(network, CPU, torch.float32), 16).need("a", "net")
    one = shared()
    one.spare = one.act
    with pytest.raises(UsageError, match=r"'spare' .* 8 names .* 5 times, .* model.0.act, model.1.act, acts.0, acts.1"):
        survey(frozen_copy(one, CPU, torch.float32), 16).need("spare", "net")
    assert {"a", "b"}.isdisjoint(layer.name for layer in featlight.list_layers(network, 16))


def test_a_call_that_depends_on_the_images_is_refused(small_recipe):
    act = nn.ReLU()

    def run(self, x):
        first, second = (self.a, self.b) if x.std() < 0.1 else (self.b, self.a)
        return second(self.conv(first(x)))

    network = Does(run, conv=conv(3, 3), a=act, b=act)
    with pytest.raises(UsageError, match="which call of its module it means depends on the images"):
        featlight.visualize(network, "a", [0], recipe=small_recipe, progress=False)


def test_a_convolution_that_is_asked_for_by_another_of_its_names_stays_unfolded():
    network = Does(lambda self, x: self.norm(self.first(x)), first=conv(), norm=norm()).eval()
    network.second = network.first
    frozen = frozen_copy(network, CPU, torch.float32)
    prepared = PreparedNetwork(frozen, [16], dtype=torch.float32, device=CPU)
    assert len(prepared.folds_at(["norm"])) == 1
    assert prepared.folds_at(["second"]) == prepared.folds_at(["first"]) == ()


def test_a_module_that_is_given_itself_needs_one_call(small_recipe):
    network = shared()
    with pytest.raises(UsageError, match=r"a SiLU given that is called in 5 places .*: model.0.act, model.1.act"):
        featlight.visualize(network, network.act, [0], recipe=small_recipe, progress=False)
    assert len(featlight.visualize(network, network.model[1], [0], recipe=small_recipe, progress=False)) == 1


def test_all_holds_each_call_once(small_recipe):
    found = featlight.visualize(shared(), "all", [0], recipe=small_recipe, progress=False)
    own = ["0.conv", "0.norm", "0", "1.conv", "1.norm", "1"]
    assert [record["layer"] for record in found.records] == [
        *(f"model.{name}" for name in own),
        *("acts.1", "acts.0", "head", "act"),
    ]
