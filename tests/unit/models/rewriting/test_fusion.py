"""Folded batch norms: which ones, and that nothing but rounding changes."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from featlight.models.rewriting.fusion import Fold, find_folds, fold_in
from tests.conftest import awake

NOISE = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(3)) / 10 + 0.5


def count(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("googlenet", 0),
        ("inception_v3", 0),
        ("resnet18", 0),
        ("mobilenet_v3_small", 0),
        ("densenet121", 62),  # norms that come before their convolutions: of concatenations and of pooled maps
    ],
)
def test_torchvisions_networks_fold_and_keep_their_function(name, left):
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if "ception" in name or name == "googlenet" else {}
    network = awake(torchvision.models.get_model(name, **options), 80).requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    folds = find_folds(network, [NOISE])
    folded = fold_in(network, folds)
    assert count(network) - len(folds) == count(folded) == left
    with torch.no_grad():
        ours, theirs = folded(NOISE), network(NOISE)
        double = copy.deepcopy(network).double()
        precise = fold_in(double, folds)(NOISE.double())
        exact = double(NOISE.double())
    assert (precise - exact).abs().max() < 1e-12 * exact.abs().max()
    # float32 convolutions round differently from one processor to the next: folded is no worse than as it was
    assert (ours - exact).abs().max() < 4 * (theirs - exact).abs().max()
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


class Strange(nn.Module):
    """A convolution whose output is taken twice, or that is called twice, or whose output is changed in between."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        z = self.conv(x)
        if self.way == "in place":
            z.add_(1)
        y = self.bn(z)
        if self.way == "twice called":
            return self.bn(self.conv(y))
        return y + z if self.way == "twice taken" else y


@pytest.mark.parametrize(("way", "folds"), [("plain", 1), ("twice taken", 0), ("twice called", 0), ("in place", 0)])
def test_only_what_keeps_the_function_is_folded(way, folds):
    torch.manual_seed(0)
    assert find_folds(awake(Strange(way), 16), [NOISE]) == [Fold("conv", "bn")] * folds


def test_norms_without_weights_and_convolutions_with_biases():
    torch.manual_seed(0)
    network = awake(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=True),
            nn.BatchNorm2d(4, affine=False),
            nn.BatchNorm2d(4),
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
            nn.BatchNorm2d(4),
        ),
        16,
    )
    assert find_folds(network, [NOISE]) == [Fold("0", "1")]
    folded = fold_in(network, [Fold("0", "1")])
    assert isinstance(folded[1], nn.Identity)
    assert torch.allclose(folded(NOISE), network(NOISE), atol=1e-5)


def test_a_network_that_cannot_run_folds_nothing():
    assert find_folds(nn.Sequential(nn.Linear(7, 7)), [NOISE]) == []
