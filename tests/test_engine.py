"""The network as it runs: folded, but for convolutions that are looked for; its memory counted."""

import pytest
import torch

from featlight.compilation import compiled
from featlight.engine import Engine, exact_dtype
from featlight.errors import UsageError
from featlight.network import frozen_copy
from tests.conftest import hand_made

CPU = torch.device("cpu")


def engine(dtype=torch.float64, network=None):
    frozen = frozen_copy(network or hand_made(), CPU, exact_dtype(dtype))
    return Engine(frozen, [32, 40], dtype=dtype, device=CPU)


def test_a_convolution_that_is_looked_for_gives_what_it_gave():
    network = hand_made().double().eval()
    images = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    ours = engine()
    assert [fold.convolution for fold in ours.folds] == ["0", "3"]
    for layers in (("0",), ("4",), ("3", "4"), ("0", "5"), ("4",)):
        outputs = ours.at(layers)(images)
        for layer in layers:
            theirs = network[: int(layer) + 1](images)
            assert torch.allclose(outputs[layer], theirs, rtol=1e-12, atol=1e-12)


def test_chunks_of_one_kind_share_a_network():
    ours = engine()
    assert ours.at(["4"])._network is ours.at(["5"])._network
    assert ours.at(["3"])._network is not ours.at(["4"])._network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_folded_before_they_are_rounded(dtype):
    network = hand_made()
    network[1].running_var.fill_(1e-4)  # the fold scales by a hundred: rounding first would be off by more
    weight = engine(dtype, network).at(["4"])._network[0].weight
    scale = network[1].weight.double() / (network[1].running_var.double() + network[1].eps).sqrt()
    assert weight.dtype == dtype
    exact = network[0].weight.double() * scale[:, None, None, None]
    assert torch.equal(weight, exact.float().to(dtype))


def test_the_maps_of_an_image_are_counted_as_far_as_they_are_needed():
    # 40 px: the input; a convolution, its norm and ReLU of 8 x 19 x 19, then the same of 12 x 19 x 19
    numbers = [3 * 40 * 40, *[8 * 19 * 19] * 3, *[12 * 19 * 19] * 3]
    assert engine(torch.float32).image_bytes(["2"]) == 2 * 4 * sum(numbers[:4])
    assert engine(torch.bfloat16).image_bytes(["5", "0"]) == 2 * 2 * sum(numbers)


def gradients(outputs, images, layer):
    images = images.clone().requires_grad_(True)
    outputs(images)[layer].square().sum().backward()
    return images.grad


@pytest.mark.parametrize("layers", [("4",), ("1", "3")])  # an in-place ReLU follows the norms
def test_the_graph_gives_what_the_network_gives(monkeypatch, layers):
    monkeypatch.setattr(torch, "compile", lambda graph: graph)
    frozen = frozen_copy(hand_made(), CPU, torch.float64)
    plain = Engine(frozen, [32], dtype=torch.float64, device=CPU).at(layers)
    graph = Engine(frozen, [32], dtype=torch.float64, device=CPU, compile=True).at(layers)
    assert graph._function is not None
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    for layer in layers:
        assert torch.allclose(graph(images)[layer], plain(images)[layer], rtol=1e-12)
        assert torch.allclose(gradients(graph, images, layer), gradients(plain, images, layer), rtol=1e-12)


def test_a_compiled_network_gives_the_same_gradients():
    frozen = frozen_copy(hand_made()[:3], CPU, torch.float32)
    ours = Engine(frozen, [16], dtype=torch.float32, device=CPU, compile=True)
    images = torch.rand(2, 3, 16, 16)
    theirs = gradients(Engine(frozen, [16], dtype=torch.float32, device=CPU).at(["2"]), images, "2")
    assert torch.allclose(gradients(ours.at(["2"]), images, "2"), theirs, rtol=1e-4, atol=1e-6)
    assert ours.at(["2"]) is ours.at(["2"]), "compiled once"


class Decides(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_is_said():
    ours = Engine(frozen_copy(Decides(), CPU, torch.float32), [16], dtype=torch.float32, device=CPU, compile=True)
    with pytest.raises(
        UsageError, match=r"^compile: on given, but the network is no plain graph \(TraceError.*auto, off$"
    ):
        ours.at(["conv"])


def test_a_graph_that_gives_other_values_is_refused(monkeypatch):
    class Other(torch.nn.Module):
        def forward(self, x):
            return {"4": torch.ones(1, 12, 15, 15)}

    monkeypatch.setattr("featlight.compilation.create_feature_extractor", lambda network, names: Other())
    outputs = engine(torch.float32).at(["4"])
    with pytest.raises(UsageError, match="gives other values"):
        compiled(outputs._network, ["4"], outputs, torch.rand(1, 3, 32, 32))
