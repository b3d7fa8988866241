from collections import Counter

import pytest
import torch
from torch import nn

import featlight
from featlight.errors import UsageError
from featlight.models.layers import CPU, list_layers
from featlight.models.probing.inputs import FixedInputSize, Inputs, inputs_of
from tests.conftest import hand_made


class OneSize(nn.Module):
    """As vision transformers refuse other sizes: by a message, or by a table of positions that does not fit."""

    def __init__(self, size, channels=3, *, says=True):
        super().__init__()
        self.says, self.size = says, size
        self.conv = nn.Conv2d(channels, 8, 8, stride=8)
        self.positions = nn.Parameter(torch.randn((size // 8) ** 2 + 1, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        if self.says:
            assert x.shape[-1] == self.size, f"Input height ({x.shape[-2]}) does not match the model's ({self.size})"
        tokens = self.conv(x).flatten(2).mT  # (N, T, C)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.positions
        return self.head(tokens.mean(1))


def flat_head(side):
    """A classifier of one size, whose convolutions take all."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (side // 2) ** 2, 5))


class Multiples(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of, self.conv = of, nn.Conv2d(3, 4, of, stride=of)

    def forward(self, x):
        if x.shape[-1] % self.of or x.shape[-2] % self.of:
            raise ValueError("not a multiple")
        return self.conv(x)


class Asking(nn.Module):
    """Nobody can tell how many channels it takes, by its convolutions."""

    def __init__(self, channels):
        super().__init__()
        self.channels, self.late = channels, nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return self.late(x.view(len(x), self.channels, *x.shape[2:])[:, :2])


def found(network, *sizes, in_channels="auto", **how):
    return inputs_of(network.eval(), list(sizes), CPU, torch.float32, in_channels, **how)


def views(network, *sizes, **how):
    return {size: view.size for size, view in found(network, *sizes, **how).views.items()}


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13, 242])
def test_as_many_channels_as_the_first_convolution_takes(channels):
    assert found(nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 6, 3)), 16, 24) == Inputs(channels)


def test_channels_are_found_by_trying_where_no_convolution_tells():
    assert found(nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(5 * 16 * 16, 3)), 16).channels == 5
    assert found(Asking(4), 16, 24).channels == 4
    assert found(Asking(40), 16, 24, in_channels=40).channels == 40
    assert found(nn.Sequential(nn.AvgPool2d(2)), 16, 24) == Inputs(3)  # takes any


def test_channels_of_a_network_that_refuses_the_size_before_it_looks_at_them():
    assert found(OneSize(64, channels=6), 24, 40) == Inputs(6, {24: FixedInputSize(64), 40: FixedInputSize(64)})


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("size", [32, 64, 72, 120, 224])
def test_a_network_of_one_size(size, says):
    free = frozenset() if says else frozenset({"conv"})  # which runs at every size
    assert found(OneSize(size, says=says), 48, (40, 80)).views == {
        48: FixedInputSize(size, free),
        (40, 80): FixedInputSize(size, free),
    }


@pytest.mark.parametrize("side", [28, 50, 64])
def test_layers_before_a_head_of_one_size_run_as_they_did(side):
    view = FixedInputSize(side, frozenset({"0", "1", "2"}))
    assert found(flat_head(side), 48, 40).views == {48: view, 40: view}
    recipe = featlight.Recipe([featlight.Octave(48, 2, (0.1, 0.1)), featlight.Octave(40, 2, (0.1, 0.1))])
    whole = flat_head(side)
    alone = featlight.visualize(whole[:2], "1", [1], recipe=recipe, progress=False).images
    assert torch.equal(featlight.visualize(whole, "1", [1], recipe=recipe, progress=False).images, alone)
    assert featlight.visualize(whole, "3", [1], recipe=recipe, progress=False).images.isfinite().all()


def test_the_one_size_itself_needs_views_of_it_all_the_same():
    network = OneSize(64)
    assert views(network, 64) == {}  # and nothing is tried: views are of the images' own size
    assert views(network, 64, views_differ=True) == {64: 64}
    padded = featlight.Recipe(
        [featlight.Octave(64, 2, (0.1, 0.1))],
        transforms=[{"pad": 6}, {"jitter": 4}, {"crop": {"boxes": 2, "side": [0.6, 0.3], "view": 0.5}}],
    )
    made = featlight.visualize(network, "head", [2], recipe=padded, progress=False)
    assert made.images.shape == (1, 3, 64, 64)
    assert made.records[0]["status"] == "ok"


def test_sizes_on_a_grid():
    assert views(Multiples(14), 48, 42) == {48: 224}  # each size by itself, so that no variant changes another
    assert views(Multiples(14), 48, 42, views_differ=True) == {48: 224, 42: 42}
    assert views(Multiples(16), 48, 64, views_differ=True) == {}


def test_a_size_that_is_too_small_is_refused_as_ever():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 20))
    assert found(network, 24) == found(network, 24, 48) == Inputs(3)
    recipe = featlight.Recipe([featlight.Octave((24, 30), 2, (0.1, 0.1))])
    with pytest.raises(UsageError, match="layer '1' in Sequential gives nothing at 24 x 30 px: RuntimeError"):
        featlight.visualize(network, "1", recipe=recipe, progress=False)


def test_what_takes_all_sizes_is_run_no_more_than_once_a_size():
    network, runs = hand_made().eval(), Counter()
    network.register_forward_pre_hook(lambda _, given: runs.update([tuple(given[0].shape)]))
    assert found(network, 32, (40, 24)) == Inputs(3)
    assert set(runs.values()) == {1}
    assert set(runs) == {(2, 3, 32, 32), (2, 3, 40, 24)}


def test_layers_are_listed_at_what_the_network_takes():
    shapes = {layer.name: layer.shape for layer in list_layers(OneSize(64, channels=2), (48, 32))}
    assert shapes == {"conv": (8, 8, 8), "head": (5,)}
    assert list_layers(nn.Sequential(nn.Conv2d(7, 4, 3)), (48, 32))[0].shape == (4, 46, 30)
    with pytest.raises(ValueError, match=r"size: \[1, 2, 3\] given; a side, or \[height, width\], in pixels"):
        list_layers(hand_made(), (1, 2, 3))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"normalize": {"mean": [0.5] * 3, "std": [0.5] * 3}},
            "normalize: mean and std of 3 channels given",
        ),
        ({"show_channels": [3, 2, 5]}, "show_channels: channel 5 given; images have 5, 0 to 4 in Sequential"),
        ({"show_channels": [3, 2]}, "show_channels: .* auto, one channel, or three for red, green and blue"),
        ({"in_channels": 0}, "in_channels: 0 given; allowed: auto, or a whole number from 1 to 1024"),
        ({"init": torch.zeros(3, 16, 16)}, r"init: a tensor of \(3, 16, 16\) given; \(5, S, S\) or \(6, 5, S, S\)"),
        (
            {"init": "photo.png"},
            "init: 'photo.png' given, a picture of three channels; the network takes images of 5",
        ),
        ({"normalize": "weights"}, "normalize: weights given, but what Sequential was trained with is not known"),
    ],
)
def test_what_does_not_fit_the_channels_is_said(settings, line):
    from PIL import Image

    Image.new("RGB", (20, 20), (200, 30, 90)).save("photo.png")
    network = nn.Sequential(nn.Conv2d(5, 6, 3))
    recipe = featlight.Recipe([featlight.Octave(16, 1, (0.1, 0.1))])
    with pytest.raises(UsageError, match=line):
        featlight.visualize(network, "0", recipe=recipe, progress=False, **settings)
