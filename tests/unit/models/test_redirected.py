"""Redirected ReLUs: the same values, the same gradients where there are any, and each image by itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from featlight.models.redirected import Redirected, has_smooth, redirected_relus

KINDS = {
    "module": nn.ReLU(),
    "inplace": nn.ReLU(inplace=True),
    "functional": F.relu,
    "torch": torch.relu,
    "method": lambda x: x.relu(),
    "relu6": nn.ReLU6(),
    "relu6, functional": F.relu6,
    "hardtanh": nn.Hardtanh(-1.0, 2.0),
}


def inputs():
    generator = torch.Generator().manual_seed(0)
    x = 4 * torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64)
    x[1] = -x[1].abs() - 2.5  # dead below
    return x


def gradient_of(function, x, weights, redirect):
    x = x.clone().requires_grad_(True)
    if redirect:
        with redirected_relus():
            y = function(1 * x)
    else:
        y = function(1 * x)
    (y * weights).sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_same_and_gradients_where_there_are_any(kind):
    x, weights = inputs(), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    ours, redirected = gradient_of(KINDS[kind], x, weights, True)
    theirs, plain = gradient_of(KINDS[kind], x, weights, False)
    assert torch.equal(ours, theirs)
    for image in (0, 2):
        assert torch.equal(redirected[image], plain[image])
    assert (plain[1] == 0).all()
    assert torch.equal(redirected[1], weights[1].clamp(max=0))  # a descent moves what is below up, and nothing down


def test_an_image_above_the_upper_bound_is_drawn_down():
    x, weights = torch.full((1, 1, 2, 2), 9.0), torch.tensor([[[[1.0, -1.0], [2.0, -2.0]]]])
    assert torch.equal(gradient_of(nn.ReLU6(), x, weights, True)[1], weights.clamp(min=0))


SMOOTH = {
    "gelu": (nn.GELU(), -0.751791),
    "gelu, tanh": (lambda x: F.gelu(x, approximate="tanh"), -0.752461),
    "silu": (nn.SiLU(), -1.278465),
    "silu, inplace": (nn.SiLU(inplace=True), -1.278465),
}


@pytest.mark.parametrize("kind", SMOOTH)
def test_what_rests_below_a_smooth_minimum_is_drawn_up(kind):
    function, lowest = SMOOTH[kind]
    x, weights = inputs(), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    ours, redirected = gradient_of(function, x, weights, True)
    theirs, plain = gradient_of(function, x, weights, False)
    assert torch.equal(ours, theirs)
    for image in (0, 2):  # some of their units are above the minimum
        assert torch.equal(redirected[image], plain[image])
    assert torch.equal(redirected[1], weights[1].clamp(max=0))
    for distance, rests in ((-1e-4, True), (1e-4, False)):
        x = torch.full((1, 1), lowest + distance, dtype=torch.float64)
        moved = gradient_of(function, x, -torch.ones_like(x), True)[1]
        assert (moved == -1).item() is rests


def test_relus_may_be_left_as_they_are_while_smooth_ones_are_lifted():
    x = torch.full((1, 2), -4.0).requires_grad_(True)
    with redirected_relus(relus=False):
        (F.relu(x)[0, 0] + F.gelu(x)[0, 1]).mul(-1).backward()
    assert x.grad.tolist() == [[0.0, -1.0]]


def test_smooth_activations_are_found_where_they_run():
    x = torch.zeros(1, 2)
    for found, function in (
        (True, nn.Sequential(nn.Linear(2, 2), nn.GELU())),
        (True, lambda x: F.silu(x)),
        (False, nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
    ):
        assert has_smooth(function, x) is found


def test_units_that_nobody_asks_for_keep_no_image_awake():
    x = torch.tensor([[[-4.0, 3.0]]]).transpose(1, 2)  # (1, 2, 1): the feature of the first rests
    weights = torch.tensor([[[-1.0, 0.0]]]).transpose(1, 2)
    assert torch.equal(gradient_of(nn.GELU(), x, weights, True)[1], weights)


def test_neighbours_never_matter():
    x, weights = inputs(), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    together = gradient_of(F.relu, x, weights, True)[1]
    alone = gradient_of(F.relu, x[1:2], weights[1:2], True)[1]
    assert torch.equal(together[1:2], alone)


def test_nothing_is_left_afterwards():
    x = inputs()[1:2]
    with redirected_relus():
        pass
    assert (gradient_of(F.relu, x, torch.ones_like(x), False)[1] == 0).all()


def test_the_gradient_of_an_image_that_has_one_is_the_derivative():
    x = (5 * torch.rand(2, 3, 4, 4, dtype=torch.float64) + 0.5).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: Redirected.apply(z, 0.0, 6.0), x)


@pytest.mark.parametrize("place", [0, 11])
def test_a_unit_that_is_awake_keeps_its_image_as_it_is_wherever_it_stands(place):
    x, weights = torch.full((2, 12, 3), -4.0), torch.full((2, 12, 3), -1.0)
    x[0, place, 2] = 3.0
    redirected = gradient_of(nn.GELU(), x, weights, True)[1]
    plain = gradient_of(nn.GELU(), x, weights, False)[1]
    assert torch.equal(redirected[0], plain[0])
    assert torch.equal(redirected[1], weights[1])
    awake = torch.full((1, 12, 3), 3.0)
    assert torch.equal(*(gradient_of(nn.GELU(), awake, weights[:1], each)[1] for each in (True, False)))
