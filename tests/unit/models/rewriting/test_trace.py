"""A graph is taken only where it surely does what the network does."""

import pytest
import torch
import torchvision
from torch import nn

from featlight.models.layer_info import Layer
from featlight.models.rewriting.trace import NoGraphError, operations, traced
from tests.strange import networks as n

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def frozen(network):
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet18", "layer2"), ("mobilenet_v2", "features.3"), ("alexnet", "features")]
)
def test_what_is_written_in_place_and_used_once_is_a_graph(name, layer):
    """torchvision's ReLUs, and `out += identity`."""
    torch.manual_seed(0)
    network = frozen(torchvision.models.get_model(name))
    graph = traced(network, [Layer(layer, (), 1)], IMAGES)
    with torch.no_grad():
        assert torch.equal(graph(IMAGES.clone())[layer], network.get_submodule(layer)(before(network, layer)))
    theirs = {id(tensor) for tensor in [*network.parameters(), *network.buffers()]}
    assert all(id(tensor) in theirs for tensor in [*graph.parameters(), *graph.buffers()]), "weights are held once"


def before(network, layer):
    """What a layer is given."""
    given = []
    handle = network.get_submodule(layer).register_forward_pre_hook(lambda _, x: given.append(x[0].clone()))
    network(IMAGES.clone())
    handle.remove()
    return given[0]


@pytest.mark.parametrize(
    ("network", "layer", "why"),
    [
        (n.statement(lambda x: x.clamp_(-1, 1))(), "0", "clamp_ writes into what"),
        (n.statement(n.clamped_part)(), "0", "clamp_ writes into what"),
        (n.statement(lambda x: torch.add(x, 1, out=x))(), "0", "add writes into what"),
        (n.module_as_a_statement(), "last", "clip writes into what"),
        (n.hooked_norm(), "2", "it has hooks"),
        (n.hooked_convolution(), "2", "it has hooks"),
        (n.guided(), "3", "it has hooks"),
    ],
)
def test_what_a_graph_would_lose_is_refused(network, layer, why):
    with pytest.raises(NoGraphError, match=why):
        traced(frozen(network), [Layer(layer, (), 1)], IMAGES)


def test_a_layer_between_a_write_and_its_use_is_refused():
    network = frozen(n.activated_in_place())
    with pytest.raises(NoGraphError, match="hardtanh writes into what output"):
        traced(network, [Layer("first", (), 1), Layer("last", (), 1)], IMAGES)
    graph = traced(network, [Layer("last", (), 1)], IMAGES)
    with torch.no_grad():
        assert torch.equal(graph(IMAGES)["last"], network(IMAGES))


def test_tracing_leaves_no_marks_in_the_network():
    def keeping(self, x):
        self.kept = x
        return torch.relu(x)

    network = frozen(nn.Sequential(n.conv(), n.Does(keeping), n.conv(6, 4)))
    network(IMAGES)
    kept = network[1].kept
    traced(network, [Layer("2", (), 1)], IMAGES)
    assert network[1].kept is kept


def test_operations_tell_what_takes_what():
    x = torch.rand(2, 3, requires_grad=True)

    def shape(y):
        return operations({"y": y})

    assert shape(torch.relu(x) + x) == shape(torch.relu(x).clone() + x)
    assert shape(torch.relu(x) + x) != shape(x + torch.relu(x))
    assert shape(torch.relu(x) + torch.relu(x)) != shape(torch.relu(x) + x)
    assert shape(n.Step.apply(x)) != shape((x > 0.1).to(x.dtype) * x)
