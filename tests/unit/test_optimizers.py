"""Rules of descent beside torch's own, and the spectral one beside its formula, one image at a time."""

import numpy as np
import pytest
import torch
from torch import nn

import featlight
from featlight.config.optimizer import CONSTANTS, Optimizer
from featlight.errors import UsageError
from featlight.optimizers import NEW, RULES, apply_rule, bound_contrast

SIZE = (12, 10)


def gradients(steps, count=2, size=SIZE, channels=3):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(steps, count, channels, *size, generator=generator, dtype=torch.float64)


def run(rule, start, steps, lr=0.1):
    state = NEW
    for gradient in steps:
        start, state = apply_rule(rule, start, gradient, state, lr)
    return start


def test_every_rule_has_its_constants():
    assert RULES.keys() == CONSTANTS.keys()


@pytest.mark.parametrize(
    ("name", "theirs"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("nadam", torch.optim.NAdam)]
)
def test_a_rule_moves_as_torchs_own(name, theirs):
    steps = gradients(9)
    start = torch.rand(2, 3, *SIZE, dtype=torch.float64)
    parameter = nn.Parameter(start.clone())
    optimizer = theirs([parameter], lr=0.1)
    for gradient in steps:
        parameter.grad = gradient
        optimizer.step()
    tolerance = 1e-8 if name == "nadam" else 1e-14  # torch keeps a product of NAdam's in float32
    assert torch.allclose(run(Optimizer(name), start, steps), parameter.detach(), atol=tolerance, rtol=0)


def literal_spectral(images, steps, lr, exponent, beta1, beta2, contrast, pull, bound=0.0, floor=0.0):
    """One image (C, H, W) in numpy, ring by ring; of other than three channels, each is independent as it is."""
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0, -0.05], [0.27, -0.09, 0.03]])
    colors = root / np.linalg.norm(root, axis=0).max() if len(images) == 3 else np.eye(len(images))
    height, width = images.shape[1:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    low = 1 / max(height, width)
    frequency = np.maximum(frequency, low)
    position = 2 * np.log2(frequency / low)
    rings = [np.maximum(0, 1 - np.abs(position - k)) for k in range(int(np.ceil(position.max())) + 1)]
    rings = [ring for ring in rings if ring.any()]
    mean = power = 0.0
    for count, gradient in enumerate(steps, 1):
        waves = np.fft.rfft2(np.einsum("dc,dhw->chw", colors, gradient))
        ours = np.array([[(np.abs(wave) ** 2 * ring).sum() / ring.sum() for ring in rings] for wave in waves])
        mean = beta1 * mean + (1 - beta1) * waves
        power = beta2 * power + (1 - beta2) * ours
        scale = ((power + floor * power.max()) / (1 - beta2**count)) ** -0.5
        whitening = np.array([sum(s * ring for s, ring in zip(row, rings, strict=True)) for row in scale])
        step = np.fft.irfft2(mean * whitening * frequency**-exponent, s=(height, width))
        step = np.einsum("dc,chw->dhw", colors, step)
        images = images - lr * step / np.sqrt((step**2).mean())
        middle = images.mean((1, 2), keepdims=True)
        deviation = images.std(ddof=1)
        factor = min(1, contrast / deviation) if contrast else 1
        images = middle + pull * (0.5 - middle) + (images - middle) * factor
        images = np.clip(images, 0.5 - bound, 0.5 + bound) if bound else images
    return images


@pytest.mark.parametrize("contrast", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(
    ("size", "channels"), [((12, 10), 3), ((9, 9), 3), ((8, 12), 1), ((9, 8), 5), ((5, 40), 3), ((31, 8), 1)]
)
def test_the_spectral_step_is_its_formula(size, channels, contrast):
    steps = gradients(6, size=size, channels=channels)
    start = 0.5 + 0.05 * gradients(1, size=size, channels=channels)[0]
    constants = {"exponent": 0.8, "beta1": 0.7, "beta2": 0.95, "contrast": contrast, "pull": 0.2}
    constants |= {"bound": 0.55 * contrast, "floor": contrast / 2}
    ours = run(Optimizer("spectral", **constants), start, steps)
    for i in range(2):
        theirs = literal_spectral(start[i].numpy(), steps[:, i].numpy(), 0.1, **constants)
        assert np.abs(ours[i].numpy() - theirs).max() < 1e-12


@pytest.mark.parametrize("name", RULES)
def test_neighbours_never_change_a_step(name):
    steps, start = gradients(4, 3), 0.5 + 0.05 * gradients(1, 3)[0]
    together, alone = (run(Optimizer(name), start[part], steps[:, part]) for part in (slice(0, 3), slice(1, 2)))
    assert torch.allclose(together[1:2], alone, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_an_image_without_gradient_stays(name):
    start = 0.5 + 0.05 * gradients(1)[0]
    start = start - start.mean((2, 3), keepdim=True) + 0.5
    moved = run(Optimizer(name), start, torch.zeros(3, 2, 3, *SIZE, dtype=torch.float64))
    assert torch.allclose(moved, start, atol=1e-12)


def test_contrast_is_bounded_and_means_are_drawn_to_gray():
    images = 0.7 + torch.randn(2, 3, 40, 40, dtype=torch.float64) * torch.tensor([0.5, 0.01]).view(2, 1, 1, 1)
    found = bound_contrast(images, 0.25, 0.1)
    assert found.mean((2, 3)).flatten().tolist() == pytest.approx((0.9 * images.mean((2, 3)) + 0.05).flatten().tolist())
    assert found[0].std().item() == pytest.approx(0.25, rel=0.01)
    assert found[1].std().item() == pytest.approx(0.01, rel=0.1)  # a faint one is not raised


def signs(parameters, gradient, state, *, lr, decay):
    return parameters * (1 - decay) - lr * gradient.sign(), {"count": state.get("count", 0) + 1}


def test_a_rule_of_ones_own_moves_as_it_says(network_of):
    steps, start = gradients(3), 0.5 + 0.05 * gradients(1)[0]
    expected = start
    for gradient in steps:
        expected = expected * 0.99 - 0.1 * gradient.sign()
    assert torch.equal(run(Optimizer(signs, decay=0.01), start, steps), expected)
    recipe = featlight.Recipe([featlight.Octave(24, 2, (0.1, 0.1))], optimizer=Optimizer(signs, decay=0.0))
    options = {"recipe": recipe, "init": "gray", "progress": False}
    (image,) = featlight.visualize(network_of("hand_made"), "4", [0], **options).images
    moved = (image - 0.5).abs()  # two signs, each a tenth
    assert ((moved < 1e-6) | ((moved - 0.2).abs() < 1e-6) | ((moved - 0.1).abs() < 1e-6)).all()
    assert moved.max() > 0.1
    with pytest.raises(UsageError, match="recipe: signs given with out; a plan cannot hold"):
        featlight.visualize(network_of("hand_made"), "4", [0], out="run", **options)
