"""Whole descents in float64 beside a literal loop: one and five channels, no squares, networks of one size."""

import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featlight
from featlight.config.tile import feature_tile
from featlight.param.image import own_seed
from featlight.param.spectrum import magnitudes
from featlight.transforms import RandomTransforms
from tests.reference.test_recipes import SPECTRAL, Moves, annealed, kernel

OCTAVES = [((24, 36), 4, (0.2, 0.1), (0.8, 0.5)), ((40, 32), 3, (0.1, 0.05), (0.6, 0.4))]
DRAWN = ({"jitter": 3}, {"rotate": [-20, 20]})
FEATURE = 3


@cache
def network_of(channels):
    torch.manual_seed(channels)
    layers = [nn.Conv2d(channels, 8, 3, stride=2), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 6, 3)]
    return nn.Sequential(*layers).double().eval()


class OneSize(nn.Module):
    """Patches and a table of positions, as vision transformers have them."""

    def __init__(self, channels, height, width):
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 4, stride=4)
        self.positions = nn.Parameter(torch.randn(1, 8, height // 4, width // 4))
        self.mix = nn.Conv2d(8, 6, 1)
        self.mix.weight.data *= 40  # so that images move

    def forward(self, x):
        return self.mix(F.gelu(self.patches(x) + self.positions))


@cache
def one_size(channels, height, width):
    torch.manual_seed(channels)
    return OneSize(channels, height, width).double().eval()


def literal_view(image, draws, to):
    """Shift and turn of one image (1, C, H, W), by the inverse of what each does to a place in pixels."""
    height, width = image.shape[2:]
    u, v, angle = draws.tolist()
    turn = math.radians(-20 + 40 * angle)
    half = np.diag([width / 2, height / 2, 1])  # from -1 to 1 to pixels from the middle
    shift = np.array([[1, 0, (2 * u - 1) * 3], [0, 1, (2 * v - 1) * 3], [0, 0, 1]])
    rotate = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    matrix = torch.from_numpy((np.linalg.inv(half) @ shift @ rotate @ half)[None, :2])
    grid = F.affine_grid(matrix, [1, image.shape[1], *to], align_corners=False)
    return F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def waves(p, size):
    rows, columns = torch.fft.fftfreq(size[0]).double()[:, None], torch.fft.rfftfreq(size[1]).double()
    f = torch.sqrt(rows**2 + columns**2).clamp_min(1 / max(size))
    return torch.fft.irfft2(torch.complex(p[..., 0], p[..., 1]) * math.sqrt(size[0] * size[1]) / f, s=size) / 4


def descend(network, start, optimizer, *, bounded=False, mean=0.0, std=1.0, views=None, to=None, fourier=False):
    """One image; the optimizer by torch's class, or the spectral one's constants."""
    p, number = start, 0
    for size, steps, lr, sigma in OCTAVES:
        if tuple(p.shape[2:]) != size and not fourier:
            p = F.interpolate(p, size, mode="bilinear", align_corners=False)
        p = nn.Parameter(p)
        move = Moves(p, optimizer)
        for i in range(steps):
            image = 0.5 + waves(p, size) if fourier else p
            image = torch.sigmoid(4 * (image - 0.5)) if bounded else image
            shown = image if views is None else literal_view(image, views[number], to or size)
            if to is not None and views is None:
                shown = F.interpolate(image, to, mode="bilinear", align_corners=False, antialias=True)
            z = network((shown - mean) / std)[0, FEATURE]
            (g,) = torch.autograd.grad((200.0 - z).sum(), p)
            rate, blur = annealed(lr, i, steps), annealed(sigma, i, steps)
            moved = move(g, rate)
            with torch.no_grad():
                p.copy_(moved if fourier else kernel(moved, blur))
            number += 1
        p = p.detach()
        if fourier:
            break
    image = 0.5 + waves(p, size) if fourier else p
    return (torch.sigmoid(4 * (image - 0.5)) if bounded else image)[0]


def start_of(channels, size=(24, 36)):
    generator = torch.Generator().manual_seed(999)
    return torch.rand(channels, *size, generator=generator).double()[None] / 10 + 0.5


def recipe_of(optimizer="sgd", *, bounded=False, transforms=()):
    rule = {"name": "spectral", **SPECTRAL} if optimizer == "spectral" else optimizer
    octaves = [featlight.Octave(*octave) for octave in OCTAVES]
    return featlight.Recipe(
        octaves,
        optimizer=rule,
        range="sigmoid" if bounded else "unbounded",
        color="decorrelated",
        transforms=transforms,
    )


def made(network, layer, recipe, **settings):
    found = featlight.visualize(network, layer, [FEATURE], recipe=recipe, precision="fp64", progress=False, **settings)
    assert found.records[0]["status"] == "ok"
    return found.images[0]


def table_of(layer, transforms):
    seed = own_seed(999, feature_tile(layer, FEATURE))
    return (
        RandomTransforms(recipe_of(transforms=transforms).transforms, [seed], 7, torch.device("cpu"))
        ._draws[:, 0, 0, :3]
        .double()
    )


def agree(ours, theirs):
    return (ours - theirs).abs().max() < 1e-6 * theirs.std()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_plain_steps_with_a_normalization_of_ones_own(channels):
    mean, std = [0.1 * (i + 1) for i in range(channels)], [0.5 + 0.1 * i for i in range(channels)]
    recipe = featlight.Recipe([featlight.Octave(*octave) for octave in OCTAVES])
    ours = made(network_of(channels), "3", recipe, normalize={"mean": mean, "std": std})
    mean, std = (torch.tensor(each, dtype=torch.float64).view(-1, 1, 1) for each in (mean, std))
    theirs = descend(network_of(channels), start_of(channels), torch.optim.SGD, mean=mean, std=std)
    assert ours.shape == (channels, 40, 32)
    assert agree(ours, theirs)


@pytest.mark.parametrize("channels", [1, 5])
def test_the_spectral_step_on_views_of_what_is_no_square(channels):
    start = start_of(channels)
    recipe = recipe_of("spectral", bounded=True, transforms=DRAWN)
    ours = made(network_of(channels), "3", recipe, init=start[0])
    logits = torch.logit(start) / 4 + 0.5
    views = table_of("3", DRAWN)
    theirs = descend(network_of(channels), logits, SPECTRAL, bounded=True, views=views)
    assert (ours - theirs).abs().max() < 1e-5  # the start is float32, as noise is


def bounded(parameterization, optimizer, octave):
    kinds = {"parameterization": parameterization, "range": "sigmoid", "color": "decorrelated"}
    return featlight.Recipe([octave], optimizer=optimizer, **kinds)


def test_coefficients_of_five_channels():
    ours = made(network_of(5), "3", bounded("fourier", "adam", featlight.Octave((24, 36), 4, (0.2, 0.1))))
    drawn = 0.01 * torch.randn(5, 24, 19, 2, generator=torch.Generator().manual_seed(999))
    theirs = descend(network_of(5), drawn.double()[None], torch.optim.Adam, bounded=True, fourier=True)
    assert agree(ours, theirs)


@pytest.mark.parametrize("transforms", [(), DRAWN], ids=["as it is", "views"])
@pytest.mark.parametrize(("channels", "to"), [(3, (24, 24)), (1, (16, 28))])
def test_a_network_of_one_size_sees_every_octave_at_that_size(channels, to, transforms):
    network = one_size(channels, *to)
    network.img_size = to  # as timm's networks say it; a square is found without
    ours = made(network, "mix", recipe_of("sgd", transforms=transforms) if channels == 1 else rgb(transforms))
    views = table_of("mix", DRAWN) if transforms else None
    theirs = descend(network, start_of(channels), torch.optim.SGD, views=views, to=to)
    assert ours.shape == (channels, 40, 32)
    assert agree(ours, theirs)


def rgb(transforms):
    return featlight.Recipe([featlight.Octave(*octave) for octave in OCTAVES], transforms=transforms)


def test_maco_of_one_channel_has_what_is_light_and_dark_in_photographs():
    image = made(network_of(1), "3", bounded("maco", "nadam", featlight.Octave((32, 48), 3, (0.5, 0.1))))
    spectrum = torch.fft.rfft2(torch.logit(image))[0].abs()
    known = magnitudes((32, 48), image)[0]
    ratio = (spectrum / known)[1:16, 1:24]  # of the waves that are no mirror of their own
    assert image.shape == (1, 32, 48)
    assert ratio.std() < 1e-5 * ratio.mean()
