"""Activations that convolutions take in: the same bits, and only where nobody else sees them."""

import pytest
import timm
import torch
import torchvision
from torch import fx, nn

from featlight.models.frozen import frozen_copy
from featlight.models.prepared import PreparedNetwork
from featlight.models.redirected import redirected_relus
from featlight.models.rewriting.convolutions import ActivatedConv2d, activated
from tests.conftest import awake

CPU = torch.device("cpu")
MAPS = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(3))


class Block(nn.Module):
    """Two convolutions, what comes between them, and what becomes of the first one's map besides."""

    def __init__(self, between, *, besides=False, **options):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.between, self.last = nn.Conv2d(4, 6, 1), between, nn.Conv2d(6, 4, 3, **options)
        self.besides = besides

    def forward(self, x):
        x = self.first(x)
        y = self.last(self.between(x))
        return y + x.mean() if self.besides else y


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.act, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.last(self.act(self.first(x) + x))


def traced(network):
    return fx.symbolic_trace(network.requires_grad_(False))


def taken_in(graph):
    return sum(isinstance(module, ActivatedConv2d) for module in graph.modules())


def with_gradient(function, maps):
    leaf = (maps * 4).requires_grad_(True)
    output = function(leaf)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return output, leaf.grad


@pytest.mark.parametrize(
    "network",
    [
        Block(nn.ReLU()),
        Block(nn.ReLU(inplace=True), stride=2, padding=1),
        Block(nn.ReLU6(), groups=2),
        Block(nn.Hardtanh(-0.5, 2.0), padding=2, dilation=2),
        Block(nn.Sequential(nn.Identity(), nn.ReLU6(inplace=True), nn.Identity()), bias=False),
        Residual(),
    ],
    ids=lambda network: type(network).__name__,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_the_same_to_the_bit(network, dtype, format):
    network = frozen_copy(network, CPU, dtype).to(memory_format=format)
    graph = activated(traced(network))
    assert taken_in(graph) == 1
    maps = MAPS.to(dtype).contiguous(memory_format=format)
    before = maps.clone()
    ours, theirs = with_gradient(graph, maps), with_gradient(network, maps)
    assert all(torch.equal(mine, yours) for mine, yours in zip(ours, theirs, strict=True))
    assert torch.equal(maps, before)


@pytest.mark.parametrize(
    "network",
    [
        Block(nn.ReLU(), besides=True),  # somebody else takes the map
        Block(nn.Sigmoid()),
        Block(nn.Sequential(nn.Sigmoid(), nn.ReLU())),  # its gradient needs what it gave
        Block(nn.Sequential(nn.Dropout(), nn.ReLU()).eval()),  # gives what it takes, or not
        Block(nn.ReLU(), padding_mode="circular", padding=1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3)),  # the map is the caller's
    ],
)
def test_others_stay_as_they_are(network):
    assert activated(traced(network)) is None


def test_a_sum_in_place_is_not_written_over():
    class Sum(Residual):
        def forward(self, x):
            y = self.first(x)
            return self.last(self.act(y.add_(x)))

    assert activated(traced(Sum())) is None


def test_activations_are_redirected_all_the_same():
    network = Block(nn.ReLU6()).requires_grad_(False)
    network.first.bias.fill_(-100.0)
    graph = activated(traced(network))
    with redirected_relus():
        ours, theirs = with_gradient(graph, MAPS), with_gradient(network, MAPS)
    assert all(torch.equal(mine, yours) for mine, yours in zip(ours, theirs, strict=True))
    assert ours[1].any()
    assert not with_gradient(graph, MAPS)[1].any()


@pytest.mark.parametrize(
    ("name", "layer", "least"),
    [("efficientnet_lite0", "blocks.2.0", 6), ("resnet18", "layer1", 2), ("googlenet", "inception3a", 4)],
)
def test_whole_networks_give_the_same_bits_with_them(name, layer, least):
    torch.manual_seed(0)
    if name == "efficientnet_lite0":
        network = timm.create_model("tf_efficientnet_lite0")
    else:
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        network = torchvision.models.get_model(name, **options)
    prepared = PreparedNetwork(
        frozen_copy(awake(network, 80), CPU, torch.float32), [80], dtype=torch.float32, device=CPU
    )
    ours, theirs = prepared.optimized([layer]), prepared.folded([layer])
    images = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(5))
    mine = with_gradient(lambda x: ours(x)[layer], images)
    yours = with_gradient(lambda x: theirs(x)[layer], images)
    assert all(torch.equal(a, b) for a, b in zip(mine, yours, strict=True))
    graph = activated(prepared._last_cut.graph)
    assert graph is not None
    assert taken_in(graph) >= least
