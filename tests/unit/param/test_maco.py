"""Phases alone: magnitudes that never change, a start from a picture, growth, and no image that others change."""

import math

import pytest
import torch

from featlight.config.optimizer import Optimizer
from featlight.optimizers import NEW, apply_rule
from featlight.param.maco import Maco, odd
from featlight.param.spectrum import magnitudes

SIZES = [(16, 16), (15, 15), (12, 18), (9, 14), (2, 3)]


def phases(size, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(count, 3, size[0], size[1] // 2 + 1, generator=generator, dtype=torch.float64)


def spread(images):
    """The standard deviation of each image in logits, which no phase changes."""
    return torch.logit(images).std((1, 2, 3))


@pytest.mark.parametrize("size", SIZES)
def test_magnitudes_are_those_of_photographs_whatever_the_phases(size):
    found = torch.fft.rfft2(Maco("sigmoid", "decorrelated").waves(phases(size), size)).abs()
    assert torch.allclose(found, magnitudes(size, found).expand_as(found), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", ["sgd", "nadam"])
def test_a_descent_changes_phases_and_no_magnitude(rule):
    held, size = Maco("sigmoid", "rgb"), (20, 20)
    parameters, state = phases(size), NEW
    before = torch.fft.rfft2(held.waves(parameters, size))
    target = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for _ in range(5):
        parameters.requires_grad_(True)
        (gradient,) = torch.autograd.grad((held.image(parameters, size) - target).square().sum(), parameters)
        parameters, state = apply_rule(Optimizer(rule), parameters.detach(), gradient, state, 0.3)
    after = torch.fft.rfft2(held.waves(parameters, size))
    ratio = (after.abs() / before.abs()).flatten(2)[..., 1:]
    assert torch.allclose(ratio, torch.ones_like(ratio), rtol=1e-9)
    assert (torch.angle(after) - torch.angle(before)).abs().mean() > 0.1


def literal(own, height, width):
    """One image, wave by wave."""
    sizes = magnitudes((height, width), own)
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    waves = torch.zeros(3, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width // 2 + 1):
            if column in (0, width / 2):  # the wave and its mirror are both here, and each is half of a real one
                phase, twice = (own[:, row, column] - own[:, -row % height, column]) / 2, 1
                if row in (0, height / 2):  # it is its own mirror
                    phase = math.pi * (own[:, row, column] / math.pi).round()
            else:
                phase, twice = own[:, row, column], 2
            turn = 2 * math.pi * (row * y / height + column * x / width)
            waves += twice * sizes[:, row, column, None, None] * torch.cos(turn + phase[:, None, None])
    root = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
    waves = waves / (height * width)
    return torch.sigmoid(torch.einsum("dc,chw->dhw", root / root.norm(dim=0).max(), waves / (waves.std() + 1e-5)))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 7)])
def test_an_image_is_the_literal_sum_of_waves(size):
    parameters = phases(size)
    ours = Maco("sigmoid", "decorrelated").image(parameters, size)
    for image, own in zip(ours, parameters, strict=True):
        assert torch.allclose(image, literal(own, *size), atol=1e-9)


@pytest.mark.parametrize("color", ["rgb", "decorrelated"])
@pytest.mark.parametrize("size", SIZES[:-1])
def test_a_start_has_the_phases_of_its_picture(color, size):
    held = Maco("sigmoid", color)
    pictures = held.image(phases(size), size)  # whose magnitudes are right already
    assert torch.allclose(held.image(held.of(pictures), size), pictures, atol=1e-6)
    other = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 0.8 + 0.1
    again = held.of(held.image(held.of(other), size))
    turned = torch.exp(1j * (again - held.of(other))).flatten(2)[..., 1:]  # the mean has no magnitude
    assert torch.allclose(turned, torch.ones_like(turned), atol=1e-6)


def test_a_gray_start_is_finite_and_moves():
    held, size = Maco("sigmoid", "decorrelated"), (12, 12)
    parameters = held.of(torch.full((1, 3, *size), 0.5)).requires_grad_(True)
    image = held.image(parameters, size)
    (gradient,) = torch.autograd.grad(image[:, :, 3, 4].sum(), parameters)
    assert torch.isfinite(image).all()
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def test_noise_makes_no_spot_and_has_contrast():
    held, size = Maco("sigmoid", "decorrelated"), (64, 64)
    drawn = torch.stack([held.noise(size, torch.Generator().manual_seed(i)) for i in range(40)])
    waves = held.waves(drawn, size)
    corner, anywhere = waves[:, 0, 0, 0].std(), waves[:, 0].std()
    assert corner < 2 * anywhere
    assert waves[:, 0, 0, 0].mean().abs() < anywhere
    assert (spread(held.image(drawn, size)) > 0.2).all()


@pytest.mark.parametrize(("old", "new"), [((16, 16), (24, 24)), ((15, 15), (20, 20)), ((16, 12), (10, 20))])
def test_waves_that_both_sizes_have_keep_their_phases_and_new_ones_are_noise(old, new):
    held, parameters = Maco("sigmoid", "rgb"), phases(old)
    other = held.resized(parameters, old, new)
    rows, columns = (min(old[i] - 1, new[i] - 1) // 2 for i in (0, 1))
    for row in range(-rows, rows + 1):
        assert torch.equal(other[:, :, row, : columns + 1], parameters[:, :, row, : columns + 1])
    fresh = other[..., columns + 1 :] if new[1] > old[1] else other[:, :, rows + 2 : -rows - 1]
    assert fresh.std() > 1
    assert torch.equal(held.resized(parameters, old, old), parameters)
    assert torch.equal(held.resized(parameters[1:], old, new)[0], other[1])


def test_odd_phases_stay_as_they_are():
    once = odd(phases((8, 8)), (8, 8))
    assert torch.equal(odd(once, (8, 8)), once)


def test_neighbours_change_no_image():
    held, parameters = Maco("sigmoid", "decorrelated"), phases((20, 20), 3)
    others = torch.stack([parameters[2], parameters[1], 0 * parameters[0]])
    together = held.image(parameters, (20, 20))[1]
    assert torch.equal(held.image(others, (20, 20))[1], together)
    assert torch.allclose(held.image(parameters[1:2], (20, 20))[0], together, atol=1e-14)
