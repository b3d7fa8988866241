"""The network as it runs: folded, except for convolutions that are looked for; its memory counted."""

from unittest import mock

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import featlight
from featlight.errors import UsageError
from featlight.models.frozen import frozen_copy
from featlight.models.prepared import PreparedNetwork, exact_dtype
from tests.conftest import hand_made

CPU = torch.device("cpu")


def engine(dtype=torch.float64, network=None):
    frozen = frozen_copy(network or hand_made(), CPU, exact_dtype(dtype))
    return PreparedNetwork(frozen, [32, 40], dtype=dtype, device=CPU)


def test_a_convolution_that_is_looked_for_gives_what_it_gave():
    network = hand_made().double().eval()
    images = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    ours = engine()
    assert [fold.convolution for fold in ours.folds] == ["0", "3"]
    for layers in (("0",), ("4",), ("3", "4"), ("0", "5"), ("4",)):
        outputs = ours.optimized(layers)(images)
        for layer in layers:
            theirs = network[: int(layer) + 1](images)
            assert torch.allclose(outputs[layer], theirs, rtol=1e-12, atol=1e-12)


def test_chunks_of_one_kind_share_a_network():
    ours = engine()
    assert ours.optimized(["4"])._network is ours.optimized(["5"])._network
    assert ours.optimized(["3"])._network is not ours.optimized(["4"])._network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_folded_before_they_are_rounded(dtype):
    network = hand_made()
    network[1].running_var.fill_(1e-4)  # the fold scales by a hundred: rounding first would be off by more
    weight = engine(dtype, network).optimized(["4"])._network[0].weight
    scale = network[1].weight.double() / (network[1].running_var.double() + network[1].eps).sqrt()
    assert weight.dtype == dtype
    exact = network[0].weight.double() * scale[:, None, None, None]
    assert torch.equal(weight, exact.float().to(dtype))


def test_the_maps_of_an_image_are_counted_as_far_as_they_are_needed():
    # 40 px: the input; a convolution, its norm and ReLU of 8 x 19 x 19, then the same of 12 x 19 x 19
    numbers = [3 * 40 * 40, *[8 * 19 * 19] * 3, *[12 * 19 * 19] * 3]
    assert engine(torch.float32).image_memory(["2"]) == 2 * 4 * sum(numbers[:4])
    assert engine(torch.bfloat16).image_memory(["5", "0"]) == 2 * 2 * sum(numbers)


def gradients(outputs, images, layer):
    images = images.clone().requires_grad_(True)
    outputs(images)[layer].square().sum().backward()
    return images.grad


@pytest.mark.parametrize("layers", [("4",), ("1", "3")])  # an in-place ReLU follows the norms
def test_the_graph_gives_what_the_network_gives(monkeypatch, layers):
    monkeypatch.setattr(torch, "compile", lambda graph: graph)
    frozen = frozen_copy(hand_made(), CPU, torch.float64)
    plain = PreparedNetwork(frozen, [32], dtype=torch.float64, device=CPU).optimized(layers)
    graph = PreparedNetwork(frozen, [32], dtype=torch.float64, device=CPU, compile=True).optimized(layers)
    assert graph._function is not None
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    for layer in layers:
        assert torch.allclose(graph(images)[layer], plain(images)[layer], rtol=1e-12)
        assert torch.allclose(gradients(graph, images, layer), gradients(plain, images, layer), rtol=1e-12)


def test_some_of_the_outputs_are_what_they_are_among_all_and_nothing_runs_beyond():
    frozen = frozen_copy(hand_made(), CPU, torch.float32)
    whole = PreparedNetwork(frozen, [32], dtype=torch.float32, device=CPU).folded(["1", "3", "4"])
    images = torch.rand(2, 3, 32, 32)
    expected = whole(images)
    for layers in (["3"], ["3", "1"], ["4"]):
        found = whole.subset(layers)(images)
        assert found.keys() == set(layers)
        assert all(torch.equal(found[layer], expected[layer]) for layer in layers)
    convolution = torch.nn.Conv2d.forward
    with mock.patch.object(torch.nn.Conv2d, "forward", autospec=True, side_effect=convolution) as forward:
        whole.subset(["1"])(images)
    assert forward.call_count == 1


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is:DeprecationWarning")  # of torch 2.11's own compiler
def test_a_compiled_network_gives_the_same_gradients():
    frozen = frozen_copy(hand_made()[:3], CPU, torch.float32)
    ours = PreparedNetwork(frozen, [16], dtype=torch.float32, device=CPU, compile=True)
    images = torch.rand(2, 3, 16, 16)
    theirs = gradients(PreparedNetwork(frozen, [16], dtype=torch.float32, device=CPU).optimized(["2"]), images, "2")
    assert torch.allclose(gradients(ours.optimized(["2"]), images, "2"), theirs, rtol=1e-4, atol=1e-6)
    assert ours.optimized(["2"]) is ours.optimized(["2"]), "compiled once"


class Decides(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_is_said_and_runs_as_it_is():
    frozen = frozen_copy(Decides(), CPU, torch.float32)
    ours = PreparedNetwork(frozen, [16], dtype=torch.float32, device=CPU, compile=True)
    line = r"^compile: on given, but the network has no graph \(TraceError.*auto, off$"
    with pytest.raises(UsageError, match=line):
        ours.optimized(["conv"])
    plain = PreparedNetwork(frozen, [16], dtype=torch.float32, device=CPU)
    images = torch.rand(2, 3, 16, 16)
    assert torch.allclose(plain.optimized(["conv"], {"conv": {0}})(images)["conv"], frozen.conv(images), atol=1e-6)


class Draws(torch.nn.Module):
    """No plain graph, and what it gives in train mode depends on chance and on the batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.end = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 3, 3)
        self.norm, self.drop = torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        return self.end(self.drop(self.norm(x))) if x.sum() > -1 else x


def test_a_network_that_cannot_be_traced_stays_in_eval_mode():
    """Tracing, where it fails, leaves train mode behind, in which the images of a batch change each other."""
    frozen = frozen_copy(Draws(), CPU, torch.float32)
    ours = PreparedNetwork(frozen, [16], dtype=torch.float32, device=CPU)
    cut = ours.optimized(["end"], {"end": {0}})
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(cut(images)["end"], cut(images)["end"])
    assert torch.allclose(cut(images)["end"], frozen(images), atol=1e-6)
    assert torch.allclose(cut(images[:1])["end"], cut(images)["end"][:1], atol=1e-6)
    assert not [name for name, module in ours._last_folded[1].named_modules() if module.training]


class Keywords(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.pool = torch.nn.Conv2d(3, 2, 1), torch.nn.Conv2d(3, 2, 1), torch.nn.MaxPool2d(2)

    def forward(self, x):
        relu = torch.nn.functional.relu(input=self.b(input=x))
        return torch.cat(tensors=[self.pool(self.a(x)), self.pool(relu)], dim=1)


def test_words_may_have_keywords():
    ours = PreparedNetwork(
        frozen_copy(torch.nn.Sequential(Keywords()), CPU, torch.float64), [8], dtype=torch.float64, device=CPU
    )
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    found = ours.optimized(["0"], {"0": {3}})(images)["0"]
    assert torch.allclose(found[:, 2:], ours.folded(["0"])(images)["0"][:, 2:])
    assert not found[:, :2].any()


def test_a_graph_that_gives_other_values_is_refused(monkeypatch):
    class Other(torch.nn.Module):
        def forward(self, x):
            return {"4": torch.ones(1, 12, 15, 15)}

    monkeypatch.setattr("featlight.models.prepared.traced", lambda *words, **options: Other())
    plain = engine(torch.float32)
    assert plain.optimized(["4"]) is plain.folded(["4"])
    frozen = frozen_copy(hand_made(), CPU, torch.float32)
    with pytest.raises(UsageError, match="it gives other values for 4"):
        PreparedNetwork(frozen, [32], dtype=torch.float32, device=CPU, compile=True).optimized(["4"])


class Branches(torch.nn.Module):
    """Three branches of 4, 6 and 2 features, the last behind an average pool, as Inception's modules have them."""

    def __init__(self, pool=None):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b, self.c = (torch.nn.Conv2d(8, n, 1) for n in (4, 6, 2))
        self.pool = pool

    def forward(self, x):
        x = torch.relu(self.first(x))
        pooled = torch.nn.functional.avg_pool2d(x, 3, 1, 1) if self.pool is None else self.pool(x)
        maps = [torch.relu(self.a(x)), torch.relu(self.b(x)), torch.relu(self.c(pooled))]
        return torch.cat(maps, 1)


def branched(pool=None):
    """An engine whose layer `0` is a concatenation, and the network."""
    network = frozen_copy(torch.nn.Sequential(Branches(pool), torch.nn.Identity()), CPU, torch.float64)
    return PreparedNetwork(network, [16], dtype=torch.float64, device=CPU), network[0]


def counted(outputs, images):
    """The layer, and the operations that it took."""
    with FlopCounterMode(display=False) as counter:
        output = outputs(images)["0"]
    return output, counter.get_total_flops()


@pytest.mark.parametrize(
    ("features", "zero"),
    [
        ({0, 3}, range(4, 12)),
        ({4, 9}, [*range(4), 10, 11]),
        ({11}, range(10)),
        ({3, 4}, range(10, 12)),
        ({0, 11}, []),  # what lies between is not cut out
        ({0, 5, 11}, []),
    ],
)
def test_only_the_branches_that_hold_the_features_run(features, zero):
    ours, network = branched()
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    theirs = network(images)
    kept = [i for i in range(12) if i not in set(zero)]
    output, flops = counted(ours.optimized(["0"], {"0": features}), images)
    assert torch.allclose(output[:, kept], theirs[:, kept], rtol=1e-12)
    assert not output[:, list(zero)].any()
    _, all_flops = counted(ours.optimized(["0"]), images)
    assert all_flops - flops == 2 * 2 * 16 * 16 * 8 * len(list(zero))  # 2 images, 1 x 1 from 8 channels
    again = ours.optimized(["0"], {"0": set(features)})
    assert again is ours.optimized(["0"], {"0": features})
    assert torch.equal(again(images)["0"], output)


@pytest.mark.parametrize(
    "pool",
    [
        None,
        torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        torch.nn.AvgPool2d(3, 1, 1, ceil_mode=True, divisor_override=5),
    ],
)
def test_a_convolution_goes_before_its_average_pool(pool):
    """Pooling 2 channels instead of 8, with the bias added last: at the border the pool sees zeros."""
    ours, network = branched(pool)
    cut = ours.optimized(["0"])
    pooled = []
    mode = type("Mode", (TorchFunctionMode,), {"__torch_function__": _noting(pooled)})
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    with mode():
        output = cut(images)["0"]
    assert pooled == [2]
    assert torch.allclose(output, network(images), rtol=1e-12)
    found = gradients(cut, images, "0")
    assert torch.allclose(found, gradients(ours.folded(["0"]), images, "0"), rtol=1e-9, atol=1e-12)


def _noting(pooled):
    def note(self, function, types, arguments=(), options=None):
        if function is torch.nn.functional.avg_pool2d:
            pooled.append(arguments[0].shape[1])
        return function(*arguments, **(options or {}))

    return note


class Pooled(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.relu = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(inplace=True)
        self.pool, self.last = torch.nn.MaxPool2d(3, 2), torch.nn.Conv2d(4, 5, 3)
        self.function = function

    def forward(self, x):
        x = self.first(x)
        return self.last(self.pool(torch.nn.functional.relu(x, inplace=True) if self.function else self.relu(x)))


@pytest.mark.parametrize("function", [True, False])
def test_a_relu_goes_behind_its_maximum_pool_to_the_bit(function):
    network = frozen_copy(Pooled(function), CPU, torch.float32)
    ours = PreparedNetwork(network, [24], dtype=torch.float32, device=CPU)
    cut = ours.optimized(["last"])
    graph = [(node.op, str(node.target)) for node in ours._last_cut.graph.graph.nodes]
    names = [target for op, target in graph if op in ("call_module", "call_function")]
    assert names[:2] == ["first", "pool"]
    assert "relu" in names[2]
    images = torch.rand(2, 3, 24, 24) - 0.5
    assert torch.equal(cut(images)["last"], ours.folded(["last"])(images)["last"])
    assert torch.equal(gradients(cut, images, "last"), gradients(ours.folded(["last"]), images, "last"))
    assert ours.optimized(["first"]) is ours.folded(["first"])  # nothing is moved where it is looked for


def test_a_pool_that_others_see_and_a_convolution_that_widens_stay():
    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.narrow, self.wide = (
                torch.nn.AvgPool2d(3),
                torch.nn.Conv2d(3, 2, 1),
                torch.nn.Conv2d(3, 4, 1),
            )
            self.end = torch.nn.Identity()

        def forward(self, x):
            pooled = self.pool(x)
            return self.end(torch.cat([self.narrow(pooled), pooled, self.wide(self.pool(x))], 1))

    ours = PreparedNetwork(frozen_copy(Shared(), CPU, torch.float32), [16], dtype=torch.float32, device=CPU)
    assert ours.optimized(["end"]) is ours.folded(["end"])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64"])
def test_branches_change_no_bit(precision, small_recipe):
    """Features of one branch, together or beside one of another branch: the same images."""
    options = {"layer": "Mixed_4a", "recipe": small_recipe, "batch_size": 4, "precision": precision, "progress": False}
    tiny = featlight.load("tiny_inception")
    alike = featlight.visualize(tiny, features=[0, 1, 2, 3], **options)
    mixed = featlight.visualize(tiny, features=[0, 1, 159, 3], **options)
    for place in (0, 1, 3):
        assert torch.equal(alike[place], mixed[place])


def test_a_layer_that_another_one_needs_stays_whole():
    """Two layers at once: only the last one's branches are left out."""
    tiny = featlight.load("tiny_inception")
    ours = PreparedNetwork(frozen_copy(tiny, CPU, torch.float64), [32], dtype=torch.float64, device=CPU)
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    layers = ["Mixed_4a", "Mixed_4b"]
    found = ours.optimized(layers, {"Mixed_4a": {0}, "Mixed_4b": {0}})(images)
    theirs = ours.folded(layers)(images)
    assert torch.allclose(found["Mixed_4a"], theirs["Mixed_4a"], rtol=1e-9, atol=1e-12)
    assert torch.allclose(found["Mixed_4b"][:, :32], theirs["Mixed_4b"][:, :32], rtol=1e-9, atol=1e-12)
    assert not found["Mixed_4b"][:, 32:].any()
