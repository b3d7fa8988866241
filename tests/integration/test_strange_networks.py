"""Networks as people bring them, a line each by kind: the picture of a literal descent, or a refusal in one line."""

import logging

import numpy as np
import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

import featlight
from featlight.errors import UsageError
from featlight.models.frozen import frozen_copy
from featlight.models.rewriting.fusion import Fold, find_folds, fold_in
from tests.conftest import awake
from tests.strange import networks as n
from tests.strange.by_hand import descended, hooked, precise

GROWING = [(32, 5, (0.03, 0.03), None), (40, 4, (0.03, 0.03), None)]
SHRINKING = [(40, 5, (0.03, 0.03), None), (32, 4, (0.03, 0.03), None)]
ONE = [(32, 8, (0.03, 0.03), None)]
FAR = [(32, 12, (1.0, 1.0), None)]  # where activations grow
FEATURE = 1


def recipe(octaves):
    return featlight.Recipe([featlight.Octave(*row) for row in octaves])


def timm_network(name):
    torch.manual_seed(0)
    return awake(timm.create_model(name), 64)


# kind, network, layers (several of them together in one tile), octaves, the feature's dimension, other options
RIGHT = [
    ("dimension", n.permuted, ["2"], GROWING, 3, {}),
    ("dimension", n.permuted, ["1"], ONE, 3, {}),  # one size alone does not tell: another one is tried
    ("dimension", n.normed_by_hand, ["1"], GROWING, 3, {}),
    ("dimension", n.convolution_that_permutes, ["0"], ONE, 3, {}),
    ("dimension", n.convolution_that_permutes, ["1"], GROWING, 3, {}),
    ("dimension", n.feature_in_the_middle, ["1"], GROWING, 2, {}),
    ("dimension", n.hook_that_permutes, ["0"], ONE, 3, {}),
    ("dimension", n.of_one_size, ["1"], GROWING, 1, {}),
    ("dimension", n.of_one_size, ["2"], GROWING, 3, {"channels": "last"}),
    ("dimension", n.permuted, ["2"], ONE, 1, {"channels": "first"}),  # the user's word
    ("dimension", lambda: timm_network("test_convnext"), ["stages.0.blocks.0.mlp.fc1"], ONE, 3, {}),
    ("dimension", lambda: timm_network("test_mambaout"), ["stages.1.blocks.0"], [(64, 3, (3e-3, 3e-3), None)], 3, {}),
    ("rewriting", n.statement(lambda x: x.clamp_(-1, 1)), ["0"], FAR, 1, {}),
    ("rewriting", n.statement(n.clamped_part), ["0"], FAR, 1, {}),
    ("rewriting", n.statement(n.zeroed), ["0"], FAR, 1, {}),
    ("rewriting", n.statement(n.added), ["0"], FAR, 1, {}),
    ("rewriting", n.statement(n.cut_gradient), ["0"], FAR, 1, {}),
    ("rewriting", n.module_as_a_statement, ["last"], FAR, 1, {}),
    ("rewriting", n.taken_before_and_after, ["last"], FAR, 1, {}),
    ("rewriting", n.activated_in_place, ["first", "last"], FAR, 1, {}),
    ("rewriting", n.norm_that_does_more, ["2"], FAR, 1, {}),
    ("rewriting", n.hooked_norm, ["2"], FAR, 1, {}),
    ("rewriting", n.hooked_convolution, ["2"], FAR, 1, {}),
    ("rewriting", n.norm_with_a_forward_of_its_own, ["2"], FAR, 1, {}),
    ("rewriting", n.guided, ["3"], FAR, 1, {}),
    ("rewriting", n.seen_twice, ["1"], FAR, 1, {}),
    ("rewriting", n.read_norm, ["1"], FAR, 1, {}),
    ("rewriting", n.between(lambda self, x: n.Step.apply(x)), ["2"], FAR, 1, {}),
    ("rewriting", n.between(n.gated), ["2"], FAR, 1, {}),
    ("rewriting", lambda: timm_network("test_efficientnet"), ["blocks.2"], [(64, 4, (3e-3, 3e-3), None)], 1, {}),
    ("rewriting", lambda: timm_network("test_resnet"), ["bn1"], ONE, 1, {}),
    ("calls", n.seeded(lambda: n.Does(n.pyramid, first=n.conv(), last=n.conv(6, 4))), ["first"], GROWING, 1, {}),
    ("calls", n.seeded(lambda: n.Does(n.pyramid, first=n.conv(), last=n.conv(6, 4))), ["last"], SHRINKING, 1, {}),
    ("calls", n.seeded(lambda: n.Does(n.by_logarithm, first=n.conv(3, 3, padding=1), last=n.conv())), ["first"],
     [(32, 3, (0.03, 0.03), None), (64, 3, (0.03, 0.03), None), (16, 2, (0.03, 0.03), None)], 1, {}),
    ("calls", n.seeded(lambda: n.Does(n.halves, first=n.conv())), ["first"], SHRINKING, 1, {}),
    ("complex", n.fourier_filter, ["1"], GROWING, 1, {}),
    ("complex", n.turned, ["2"], ONE, 1, {}),
    ("complex", n.complex_convolution, ["1"], GROWING, 1, {}),
    ("copy", n.closed_over, ["2"], ONE, 1, {}),
    ("copy", n.partly_applied, ["2"], ONE, 1, {}),
    ("copy", n.bound_anew, ["2"], ONE, 1, {}),
    ("copy", n.default_word, ["1"], ONE, 1, {}),
    ("copy", n.plain_list, ["last"], ONE, 1, {}),
    ("works", n.locked, ["2"], ONE, 1, {}),
    ("works", n.silent, ["3"], ONE, 1, {}),
    ("works", n.scripted_part, ["0"], ONE, 1, {}),
    ("works", n.scripted_part, ["1"], ONE, 1, {}),
    ("works", n.compiled_part, ["0"], ONE, 1, {}),
    ("works", n.compiled_part, ["2"], ONE, 1, {}),
    ("works", n.five_dimensions, ["2"], GROWING, 1, {}),
    ("works", n.sparse, ["3"], GROWING, 1, {}),
    ("works", n.squeezed, ["2"], ONE, 1, {}),
]  # fmt: skip


def state_of(network):
    flags = [(name, module.training) for name, module in network.named_modules()]
    return flags, [(name, value.clone(), value.requires_grad, value.grad) for name, value in tensors_of(network)]


def tensors_of(network):
    return [*network.named_parameters(), *network.named_buffers()]


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:.*grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(("kind", "build", "layers", "octaves", "dimension", "options"), RIGHT)
def test_a_picture_is_what_it_says(kind, build, layers, octaves, dimension, options, caplog):
    """In float64, beside a literal descent by hooks on the network itself; and no chunk is made twice for it."""
    theirs = hooked(precise(getattr(build, "reference", build)()), layers, dimension)
    network = build()
    before = state_of(network)
    tile = featlight.Tile("tile", [featlight.Term(layer, FEATURE) for layer in layers])
    made = featlight.visualize(
        network, tiles=[tile], recipe=recipe(octaves), precision="fp64", batch_size=2, progress=False, **options
    )
    expected = descended(theirs, FEATURE, octaves)
    assert (made.images - expected).abs().max() < 1e-6 * expected.std()
    start = torch.nn.functional.interpolate(made.images.new_full((1, 3, 1, 1), 0.55), expected.shape[-2:])
    assert (expected - start).square().mean().sqrt() > 0.1 * expected.std(), "the case does not move"
    with torch.no_grad():
        activation = [z[0, FEATURE].flatten() for z in theirs(expected)]
    assert made.records[0]["activation_end"] == pytest.approx(torch.cat(activation).mean().item(), rel=1e-4, abs=1e-9)
    assert made.records[0]["status"] == "ok"
    assert caplog.text == ""
    after = state_of(network)
    assert before[0] == after[0]
    for (name, mine, *flags), (other, yours, *theirs_flags) in zip(before[1], after[1], strict=True):
        assert (name, flags) == (other, theirs_flags)
        assert torch.equal(mine.to_dense(), yours.to_dense())


# kind, network, layer, options, the line
REFUSED = [
    ("dimension", n.of_one_size, "2", {}, r"gives \(N, 7, 7, 5\), and neither .* set channels: first, or last"),
    ("dimension", n.of_one_size, "0", {}, r"gives \(N, 3, 7, 7\), and neither its kind"),
    ("dimension", n.flattened, "1", {}, "gives 384 features at 32 px and 600 at 40 px"),
    ("chance", n.between(lambda self, x: nn.functional.dropout(x, 0.5, True)), "2", {},
     r"draws random numbers: .* begins in '1' \(Does\)"),
    ("chance", n.between(lambda self, x: x + 0.1 * torch.randn_like(x)), "1", {}, "draws random numbers"),
    ("chance", n.between(n.rarely), "2", {}, r"draws random numbers, in '1' \(Does\)"),
    ("chance", n.between(n.python_chance), "2", {}, "draws random numbers"),
    ("chance", n.between(n.numpy_chance), "2", {}, "draws random numbers"),
    ("neighbours", n.between(lambda self, x: x - x.mean(0)), "2", {},
     r"depends on its neighbors: .* begins in '1' \(Does\)"),
    ("neighbours", n.between(lambda self, x: nn.functional.batch_norm(x, None, None, training=True)), "2", {},
     "depends on its neighbors"),
    ("neighbours", n.between(lambda self, x: x / x.abs().amax()), "2", {}, "depends on its neighbors"),
    ("neighbours", n.between(n.attended), "2", {}, "depends on its neighbors"),
    ("neighbours", n.between(n.flagged), "2", {}, "depends on its neighbors"),
    ("neighbours", n.between(n.paired), "2", {"batch_size": 4}, "depends on its neighbors"),
    ("neighbours", n.between(n.tail), "2", {"batch_size": 4}, "depends on its neighbors"),
    ("neighbours", n.between(lambda self, x: x.flip(0)), "2", {}, "depends on its neighbors"),
    ("neighbours", n.between(lambda self, x: x / len(x)), "2", {}, "its neighbors: alone it gives another output"),
    ("neighbours", n.hidden_norm, "last", {}, "depends on its neighbors: .* the network's own forward"),
    ("neighbours", n.quantized, "2", {}, "depends on its neighbors"),
    ("state", n.between(n.counted), "2", {}, r"keeps state from call to call: .* begins in '1' \(Does\)"),
    ("state", n.between(n.remembered), "2", {}, "keeps state from call to call"),
    ("state", n.keeps_a_graph, "2", {}, r"keeps state from call to call"),
    ("state", n.between(n.late), "2", {"recipe": recipe([(32, 60, (1e-3, 1e-3), None)])}, "keeps state"),
    ("copy", n.globally_named, "1", {}, "uses a Conv2d that is not part of it"),
    ("copy", n.OfTheClass, "last", {}, "uses a Conv2d that is not part of it"),
    ("copy", n.weakly_held, "1", {}, "uses a tensor of .* that is not part of it"),
    ("gradient", n.between(lambda self, x: x.detach()), "2", {}, r"reaches the image; it ends in '1' \(Does\)"),
    ("gradient", n.between(torch.no_grad()(lambda self, x: x * 2)), "2", {}, "no gradient reaches the image"),
    ("gradient", n.between(lambda self, x: torch.from_numpy(x.numpy() * 2)), "2", {}, "no gradient can be taken"),
    ("gradient", n.statement(lambda x: torch.add(x, 1, out=x)), "0", {}, "no gradient can be taken"),
    ("type", n.between(torch.nn.Identity.forward), "none", {}, "no layer 'none'"),
    ("type", n.between(lambda self, x: torch.fft.fft2(x)), "1", {}, r"complex numbers \(complex64\)"),
    ("type", n.between(lambda self, x: x.mul(9).long()), "1", {}, r"without a gradient \(int64\)"),
    ("type", n.between(lambda self, x: x > 0), "1", {}, r"without a gradient \(bool\)"),
    ("type", n.between(lambda self, x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)), "1", {},
     r"without a gradient \(quint8\)"),
    ("values", lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "0", {}, "'0.weight' is lazy and has no values yet"),
    ("values", lambda: nn.Sequential(n.conv(device="meta")), "0", {}, "'0.weight' is on the device meta"),
    ("whole", lambda: torch.jit.script(nn.Sequential(n.conv())), "0", {}, "a scripted network runs as one piece"),
    ("single", n.squeezed, "2", {"batch_size": 1}, r"for 1 image it gives .* batch_size: 2 or more is needed"),
    ("ends", n.between(lambda self, x: exit(0)), "2", {}, "gives nothing at 32 x 32 px: SystemExit"),
]  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:.*quantiz:DeprecationWarning",  # torch's own plans for its quantized and its scripted modules
    "ignore:.*quantiz:UserWarning",
    "ignore:`torch.jit",
)
@pytest.mark.parametrize(("kind", "build", "layer", "options", "line"), REFUSED)
def test_what_cannot_be_right_is_refused_in_one_line(kind, build, layer, options, line):
    """Before the first step, except for what shows late."""
    words = {"recipe": recipe(GROWING), "batch_size": 2, "progress": False, **options}
    with pytest.raises(UsageError, match=line) as caught:
        featlight.visualize(build(), layer, [FEATURE], **words)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_norm_that_holds_its_activation_is_folded_with_it():
    network = frozen_copy(timm_network("test_efficientnet"), torch.device("cpu"), torch.float32)
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    folds = find_folds(network, [torch.rand(2, 3, 64, 64)])
    assert {type(network.get_submodule(fold.norm)).__name__ for fold in folds} == {"BatchNormAct2d"}
    assert len(folds) == len(norms)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (4, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("size", [(17, 20), (16, 16), (3, 7)])
def test_a_convolution_that_pads_as_tensorflow_does_takes_its_norm(kernel, stride, size):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
    convolution = Conv2dSame(4, 4, kernel, stride=stride, bias=False, groups=2)
    network = nn.Sequential(convolution, norm, nn.ReLU()).double().eval().requires_grad_(False)
    images = torch.rand(2, 4, *size, dtype=torch.float64)
    folded = fold_in(network, [Fold("0", "1")])
    assert type(folded[0]) is not Conv2dSame
    assert torch.allclose(folded(images), network(images), atol=1e-12)


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish])
def test_an_activation_writes_beside_what_its_gradient_needs(activation):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), activation(inplace=True)
    network = nn.Sequential(*layers).eval().requires_grad_(False)
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    folded = fold_in(network, find_folds(network, [images.detach()]))
    assert network[2].inplace
    assert not folded[2].inplace

    class Ignores(nn.Module):
        """What its activation gives is not looked at, but what it writes is."""

        def __init__(self):
            super().__init__()
            self.net, self.act = nn.Sequential(*layers[:2]), activation(inplace=True)

        def forward(self, x):
            x = self.net(x)
            self.act(x)
            return x

    strange = Ignores().eval().requires_grad_(False)
    assert find_folds(strange, [4 * images.detach()]) == []
    assert torch.equal(fold_in(strange, [])(images), strange(images))  # and then nothing at all is changed


def test_what_does_more_than_a_convolution_keeps_its_norm():
    class More(Conv2dSame):
        def forward(self, x):
            return super().forward(x) + 1

    for kind, folds in ((Conv2dSame, 1), (More, 0)):
        network = nn.Sequential(kind(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4)).eval().requires_grad_(False)
        assert len(find_folds(network, [torch.rand(2, 3, 16, 16)])) == folds


class Deceives(nn.Module):
    """Its graph is right where a descent starts, and wrong where it leads to."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = n.conv(), n.conv(6, 4)

    def forward(self, x):
        return self.last(self.first(x).clamp(-1, 1))


@pytest.fixture
def deceiving(monkeypatch):
    """A rewriting that loses the clamp, as if nothing had been looked at."""
    from featlight.models.rewriting import trace

    def careless(network, layers, images, **options):
        graph = whole(network, layers, images, **options)
        for node in graph.graph.find_nodes(op="call_method", target="clamp"):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
        graph.recompile()
        return graph

    whole = trace.traced
    monkeypatch.setattr("featlight.models.prepared.traced", careless)
    monkeypatch.setattr("featlight.models.prepared.operations", lambda outputs: None)
    monkeypatch.setattr("featlight.models.prepared.shortened", lambda graph: graph)


@pytest.mark.usefixtures("deceiving")
@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_a_rewriting_that_proves_wrong_is_given_up_and_said_once(precision, caplog):
    """Nothing wrong is kept: the chunks are made again by the network as it was given, two of them here."""
    with caplog.at_level(logging.WARNING, "featlight"):
        made = featlight.visualize(
            Deceives(), "last", "0-3", recipe=recipe(FAR), precision=precision, batch_size=2, progress=False
        )
    assert [record.getMessage() for record in caplog.records] == [
        "Deceives: the rewritten network differs from the original at last, on the final images: such chunks are "
        "recomputed with the original, which is slower"
    ]
    network = precise(Deceives())
    expected = descended(hooked(network, ["last"], 1), FEATURE, FAR)
    if precision == "fp64":
        assert (made[1] - expected[0]).abs().max() < 1e-6 * expected.std()
    elif precision == "fp32":
        assert torch.corrcoef(torch.stack([made[1].flatten().double(), expected.flatten()]))[0, 1] > 0.99


@pytest.mark.usefixtures("deceiving")
def test_each_chunk_decides_for_itself_so_that_bits_do_not_depend_on_the_others():
    options = {"recipe": recipe(FAR), "batch_size": 2, "progress": False}
    whole = featlight.visualize(Deceives(), "last", "0-3", **options)
    for pair in ([0, 1], [2, 3]):
        alone = featlight.visualize(Deceives(), "last", pair, **options)
        assert torch.equal(alone.images, whole.images[pair])


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_torchvisions_networks_need_no_second_try(network_of, name, caplog):
    layer = {"resnet18": "layer2", "googlenet": "inception3a"}[name]
    table = [(64, 6, (0.4, 0.3), (1.2, 0.6)), (80, 4, (0.3, 0.2), None)]
    featlight.visualize(network_of(name), layer, [0, 3], recipe=recipe(table), progress=False)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "features",
    [np.array([1, 3]), torch.tensor([1, 3]), [np.int64(1), torch.tensor(3)], np.array([False, True, False, True])],
)
def test_features_may_be_arrays(features, small_recipe):
    made = featlight.visualize(n.statement(lambda x: None)(), "0", features, recipe=small_recipe, progress=False)
    assert [record["feature"] for record in made.records] == [1, 3]


@pytest.mark.parametrize(
    ("features", "line"),
    [
        (np.zeros((2, 2), int), r"an array of \(2, 2\), int64, given; a row of whole numbers is needed"),
        (torch.tensor([0.5]), r"an array of \(1,\), float32, given"),
        ([0.5], r"features: \[0.5\] given; allowed: `all`, whole numbers"),
        (np.array([], int), "features: .* given"),
        (np.array([4]), "features: 4 given; layer '0' has 4, 0 to 3"),
    ],
)
def test_features_that_are_none_are_refused(features, line, small_recipe):
    with pytest.raises(UsageError, match=line):
        featlight.visualize(n.statement(lambda x: None)(), "0", features, recipe=small_recipe, progress=False)


def test_a_layer_may_be_a_module_or_a_number(small_recipe):
    network = n.locked()
    options = {"features": [0], "recipe": small_recipe, "progress": False}
    names = [
        [record["layer"] for record in featlight.visualize(network, layer, **options).records]
        for layer in (network[2], 2, -1, [network[0], np.int64(2)], {network[1]: "0"})
    ]
    assert names == [["2"], ["2"], ["2"], ["0", "2"], ["1"]]
    for layer, line in (
        (nn.ReLU(), "a ReLU given that is none of the network's"),
        (3, "3 given; Locked has 3 children"),
    ):
        with pytest.raises(UsageError, match=line):
            featlight.visualize(network, layer, **options)
    with pytest.raises(UsageError, match="network: a str given"):
        featlight.visualize("resnet18", "layer1", **options)
