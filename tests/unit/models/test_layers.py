import copy
import warnings

import pytest
import torch
import torchvision
from torch import nn

import featlight
from featlight.errors import UsageError
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import frozen_copy
from featlight.models.layer_info import Layer, table
from featlight.models.layers import list_layers, survey
from tests.conftest import hand_made

CPU = torch.device("cpu")


def outputs_of(network, *names, size=32):
    frozen = frozen_copy(network, CPU, torch.float32)
    found = survey(frozen, size)
    return LayerOutputs(frozen, [found.need(name, "net") for name in names])


def test_layers_are_listed_with_their_maps():
    listed = list_layers(hand_made(), size=32)
    assert [(layer.name, layer.shape, layer.features, layer.kind) for layer in listed] == [
        ("0", (8, 15, 15), 8, "Conv2d"),
        ("1", (8, 15, 15), 8, "BatchNorm2d"),
        ("2", (8, 15, 15), 8, "ReLU"),
        ("3", (12, 15, 15), 12, "Conv2d"),
        ("4", (12, 15, 15), 12, "BatchNorm2d"),
        ("5", (12, 15, 15), 12, "ReLU"),
    ]


def test_layers_stand_in_a_table():
    network = nn.Sequential(hand_made(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 1000))
    assert table(list_layers(network, size=32))[5:] == [
        "0.4          12  15 x 15  BatchNorm2d",
        "0.5          12  15 x 15  ReLU",
        "0            12  15 x 15  Sequential",
        "1            12    1 x 1  AdaptiveAvgPool2d",
        "2            12     flat  Flatten",
        "3          1000     flat  Linear",
    ]
    assert table([Layer("a.very.long.name", (3, 100, 7), 1, kind="Conv2d")]) == [
        "layer             features      map  kind",
        "a.very.long.name         3  100 x 7  Conv2d",
    ]


def test_what_is_overwritten_in_place_is_kept():
    network = hand_made().eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        outputs = outputs_of(network, "1", "4", "5")(x)
        first = network[1](network[0](x))
        second = network[4](network[3](first.clone().relu()))
    torch.testing.assert_close(outputs["1"], first)
    assert (outputs["1"] < 0).any()
    torch.testing.assert_close(outputs["4"], second)
    torch.testing.assert_close(outputs["5"], second.relu())


def test_the_network_stops_after_the_deepest_layer():
    ran = []
    network = nn.Sequential(hand_made(), nn.Conv2d(12, 4, 1), nn.Conv2d(4, 4, 1))
    run = outputs_of(network, "0.3", "1")
    frozen = run._network
    for name, module in frozen.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    run(torch.rand(1, 3, 32, 32))
    assert "1" in ran
    assert "2" not in ran


class Repeats(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.alias = self.relu
        self.unused = nn.Conv2d(3, 3, 1)
        self.pair = Pair()
        self.flat = nn.Linear(3, 5)
        self.rows = nn.Flatten(1, 2)

    def forward(self, x):
        for _ in range(3):
            x = self.relu(self.conv(x))
        x, _ = self.pair(x)
        self.rows(x)
        return self.flat(x.mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_a_module_called_several_times_means_its_last_call():
    network = Repeats()
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = x
        for _ in range(3):
            expected = network.conv(expected).relu()
        outputs = outputs_of(network, "relu", "flat", size=16)(x)
        torch.testing.assert_close(outputs["relu"], expected)
        torch.testing.assert_close(outputs["flat"][:, :, 0, 0], network.flat(expected.mean((2, 3))))
        torch.testing.assert_close(outputs_of(network, "alias", size=16)(x)["alias"], expected)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Conv", "no layer 'Conv' in net; nearest: 'conv'"),
        ("zzz", "no layer 'zzz' in net; allowed: conv, relu, alias, pair:0, pair:1, flat"),
        ("unused", "layer 'unused' in net gives nothing at 16 x 16 px: it is not called"),
        ("pair", "layer 'pair' in net: it gives a tuple, not a tensor; add a part to the layer's name: :0, :1"),
        ("rows", r"layer 'rows' in net: it gives \(N, 48, 16\), and neither its kind"),
    ],
)
def test_a_layer_that_cannot_be_used_is_refused_in_one_line(name, line):
    with pytest.raises(UsageError, match=line):
        survey(frozen_copy(Repeats(), CPU, torch.float32), 16).need(name, "net")


def test_channels_last_maps_are_permuted():
    torch.manual_seed(0)
    swin = torchvision.models.swin_t().eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        outputs = outputs_of(swin, "features.0.0", "features.1", "permute", size=64)(x)
        block = swin.features[1](swin.features[0](x))  # (N, H, W, C)
    torch.testing.assert_close(outputs["features.1"], block.permute(0, 3, 1, 2))
    assert outputs["features.0.0"].shape == (1, 96, 16, 16)
    assert outputs["permute"].shape == (1, 768, 2, 2)
    convnext = {layer.name: layer for layer in list_layers(torchvision.models.convnext_tiny(), 64)}
    assert convnext["features.1.0.block.0"].shape == (96, 16, 16)
    assert convnext["features.1.0.block.3"].shape == (384, 16, 16)  # a Linear on the last axis
    assert convnext["features.1.0"].shape == (96, 16, 16)


def test_pixels_are_normalized_on_request():
    frozen = frozen_copy(nn.Sequential(nn.Identity(), nn.Conv2d(3, 1, 1)), CPU, torch.float32)
    run = LayerOutputs(frozen, [survey(frozen, 8)["0"]], ((0.5, 0.25, 0.0), (0.5, 0.25, 2.0)))
    assert run(torch.ones(1, 3, 8, 8))["0"][0, :, 0, 0].tolist() == [1.0, 3.0, 0.5]


def test_a_size_that_a_network_does_not_take_is_told():
    network = hand_made()
    with pytest.raises(UsageError, match="no layer runs at 2 x 2 px: RuntimeError"):
        list_layers(network, size=2)


def state_of(network):
    return (
        [(name, module.training, len(module._forward_hooks)) for name, module in network.named_modules()],
        [(name, p.requires_grad, p.dtype, p.stride(), p.grad) for name, p in network.named_parameters()],
        {name: value.clone() for name, value in network.state_dict().items()},
    )


@pytest.mark.parametrize("fails", [False, True])
def test_the_users_network_comes_back_as_it_was(fails, small_recipe):
    network = hand_made().double().to(memory_format=torch.channels_last).train()
    network[3].weight.requires_grad_(False)
    network[1].eval()
    network[0].register_forward_hook(lambda *_: None)
    before = copy.deepcopy(state_of(network))

    def visualize():
        featlight.visualize(network, "5", [0, 99 if fails else 1], recipe=small_recipe, progress=False)

    if fails:
        with pytest.raises(ValueError, match="99 given; layer '5' has 12, 0 to 11"):
            visualize()
    else:
        visualize()
    after = state_of(network)
    assert before[:2] == after[:2]
    assert all(torch.equal(value, after[2][name]) for name, value in before[2].items())


class Flattens(nn.Module):
    """As many networks end: `view` takes no channels-last map."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(len(x), -1))


def test_a_network_that_takes_no_channels_last_images_gets_none():
    network = frozen_copy(Flattens(), CPU, torch.float32)
    found = survey(network, 8)
    assert found.failure is None
    assert found["fc"].shape == (5,)
    assert found.format == torch.contiguous_format
    assert survey(frozen_copy(hand_made(), CPU, torch.float32), 32).format == torch.channels_last


class Odd(nn.Module):
    """What networks out there do: write into their input, keep what they computed, hold filters in buffers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("filters", torch.rand(4, 3, 3, 3))
        self.end = nn.ReLU()

    def forward(self, x):
        x.sub_(0.5)
        self.last = nn.functional.conv2d(x, self.filters * torch.ones(1, dtype=x.dtype, requires_grad=True))
        return self.end(self.last)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_odd_networks_run(precision, small_recipe):
    network = Odd()
    network(torch.rand(1, 3, 8, 8))  # now it holds a tensor with a history, which deepcopy refuses
    result = featlight.visualize(network, "end", [1], recipe=small_recipe, precision=precision, progress=False)
    assert result.images.isfinite().all()


def test_old_weight_norm_is_copied(small_recipe):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        conv = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    network = nn.Sequential(conv, nn.ReLU())
    network(torch.rand(1, 3, 8, 8))
    assert len(featlight.visualize(network, "0", recipe=small_recipe, progress=False)) == 4


class Keeper:
    """Another tool's hook, which keeps what the layer gave the last time."""

    def __call__(self, module, inputs, output):
        self.kept = output


def test_a_network_with_hooks_that_hold_outputs_is_copied(small_recipe):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    ours, theirs = Keeper(), Keeper()
    network[0].register_forward_hook(ours)
    network[1].register_forward_hook(theirs.__call__)
    network(torch.rand(1, 3, 8, 8))
    before = ours.kept, theirs.kept
    assert len(featlight.visualize(network, "1", recipe=small_recipe, progress=False)) == 4
    assert (ours.kept, theirs.kept) == before


def test_a_batch_norm_that_mixes_images_is_refused(small_recipe):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(UsageError, match="layer '1' in Sequential: batch norm without running statistics"):
        featlight.visualize(network, "0", recipe=small_recipe, progress=False)


def test_a_layer_that_a_later_octave_breaks_is_refused_before_any_step(small_recipe):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 35))
    shrinking = featlight.Recipe(small_recipe.octaves[::-1])
    with pytest.raises(UsageError, match="layer '1' in Sequential gives nothing at 32 x 32 px: RuntimeError"):
        featlight.visualize(network, "1", recipe=shrinking, progress=False)


def test_images_do_not_hang_on_the_callers_torch_settings(small_recipe):
    network = hand_made()
    expected = featlight.visualize(network, "4", [3], recipe=small_recipe, progress=False).images
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        other = featlight.visualize(network, "4", [3], recipe=small_recipe, progress=False).images
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(expected, other)
    with torch.inference_mode():
        assert torch.equal(expected, featlight.visualize(network, "4", [3], recipe=small_recipe, progress=False).images)
    with torch.no_grad():
        featlight.visualize(network, "4", [3], recipe=small_recipe, progress=False)
        assert not torch.is_grad_enabled()
