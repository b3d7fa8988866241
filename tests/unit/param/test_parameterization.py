"""What is optimised and the image that it stands for: there and back, against literal formulas, and at another size."""

import math

import pytest
import torch

import featlight
from featlight.config.recipe import Octave, Recipe
from featlight.errors import UsageError
from featlight.param.color import basis, from_rgb, to_rgb
from featlight.param.fourier import Fourier
from featlight.param.image import blur
from featlight.param.pixel import Pixel
from featlight.param.registry import parameterization_of
from featlight.param.spectrum import bands, frequencies, padded, transfer

SIZES = [(16, 16), (15, 15), (12, 18), (9, 14), (16, 33), (81, 4)]


def pictures(count=2, size=(16, 16)):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, *size, generator=generator, dtype=torch.float64) * 0.8 + 0.1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("color", ["rgb", "decorrelated"])
@pytest.mark.parametrize("range", ["unbounded", "sigmoid"])
@pytest.mark.parametrize("kind", [Pixel, Fourier])
def test_an_image_comes_back(kind, range, color, size):
    held, images = kind(range, color), pictures(size=size)
    assert torch.allclose(held.image(held.of(images), size), images, atol=1e-12)


def test_the_articles_parameters_are_the_image_itself():
    images = pictures()
    held = parameterization_of(Recipe((Octave(16, 1, (0.1, 0.1)),)))
    assert held.image(images, (16, 16)) is images
    assert held.of(images) is images


def literal_fourier(parameters, height, width):
    """One image of lucid's formula, coefficient by coefficient."""
    spectrum = torch.zeros(3, height, width // 2 + 1, dtype=torch.complex128)
    for row in range(height):
        for column in range(width // 2 + 1):
            y, x = (row if row <= height // 2 else row - height) / height, column / width
            scale = math.sqrt(height * width) / max(math.hypot(y, x), 1 / max(width, height))
            spectrum[:, row, column] = torch.complex(*parameters[:, row, column].unbind(-1)) * scale
    return torch.fft.irfft2(spectrum, s=(height, width)) / 4


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_fourier_against_the_literal_formula(size):
    parameters = torch.randn(2, 3, size[0], size[1] // 2 + 1, 2, dtype=torch.float64)
    ours = Fourier("sigmoid", "decorrelated").image(parameters, size)
    for image, own in zip(ours, parameters, strict=True):
        waves = literal_fourier(own, *size)
        root = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
        rgb = torch.einsum("dc,chw->dhw", root / root.norm(dim=0).max(), waves)
        assert torch.allclose(image, torch.sigmoid(4 * rgb), atol=1e-12)


def test_independent_colours_there_and_back():
    images = pictures()
    assert torch.allclose(from_rgb(to_rgb(images)), images, atol=1e-12)
    assert basis(images).norm(dim=0).max() == pytest.approx(1)


def test_a_spectrum_that_grows_keeps_the_image():
    """Of an image without its finest waves, which no larger size can tell from others."""
    for old in ((8, 8), (9, 9), (8, 9)):
        low = padded(torch.fft.rfft2(pictures(1, (5, 5))), (5, 5), old)
        image = torch.fft.irfft2(low, s=old) * (old[0] * old[1])
        new = (2 * old[0], 2 * old[1])
        grown = torch.fft.irfft2(padded(torch.fft.rfft2(image), old, new), s=new) * 4
        assert torch.allclose(grown[..., ::2, ::2], image, atol=1e-9)


@pytest.mark.parametrize(("old", "new"), [((8, 8), (5, 7)), ((9, 9), (8, 8)), ((8, 8), (8, 8)), ((6, 6), (7, 7))])
def test_a_spectrum_keeps_the_waves_that_both_sizes_have(old, new):
    spectrum = torch.fft.rfft2(pictures(1, old))
    other = padded(spectrum, old, new)
    assert other.shape[-2:] == (new[0], new[1] // 2 + 1)
    rows = min((old[0] - 1) // 2, (new[0] - 1) // 2)
    columns = min((old[1] - 1) // 2, (new[1] - 1) // 2)
    for row in range(-rows, rows + 1):
        assert torch.equal(other[..., row, : columns + 1], spectrum[..., row, : columns + 1])


def test_a_coefficient_means_the_same_at_every_size():
    held = Fourier("unbounded", "rgb")
    parameters = torch.zeros(1, 3, 8, 5, 2, dtype=torch.float64)
    parameters[0, :, 1, 2] = torch.tensor([0.3, -0.2])
    small = held.image(parameters, (8, 8))
    large = held.image(held.resized(parameters, (8, 8), (16, 16)), (16, 16))
    assert torch.allclose(large[..., ::2, ::2], small, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.4])
def test_the_transfer_function_is_that_of_the_blur(sigma):
    """Beside the border, where the blur reflects and waves go round."""
    image = pictures(1, (24, 20))
    waves = torch.fft.irfft2(torch.fft.rfft2(image) * transfer((24, 20), sigma, image), s=(24, 20))
    assert torch.allclose(waves[..., 1:-1, 1:-1], blur(image, sigma)[..., 1:-1, 1:-1], atol=1e-7)


def test_frequencies_are_in_cycles_per_pixel():
    found = frequencies((4, 6), pictures())
    assert found.shape == (4, 4)
    assert found[1, 2].item() == pytest.approx(math.hypot(1 / 4, 2 / 6))
    assert found[3, 0].item() == pytest.approx(1 / 4)


@pytest.mark.parametrize("size", SIZES)
def test_rings_share_every_coefficient_out(size):
    rings = bands(size, 2, pictures())
    assert torch.allclose(rings.sum(0), torch.ones_like(rings[0]))
    assert rings.min() >= 0
    assert (rings.flatten(1).sum(1) > 0).all()


@pytest.mark.parametrize("kind", [Pixel, Fourier])
def test_neighbours_never_change_an_image(kind):
    held, images = kind("sigmoid", "decorrelated"), pictures(3)
    parameters = held.of(images)
    alone = held.of(images[1:2])
    for batch, own in ((held.image(parameters, (16, 16)), held.image(alone, (16, 16))),
                       (held.resized(parameters, (16, 16), (20, 20)), held.resized(alone, (16, 16), (20, 20))),
                       (held.smoothed(parameters, 0.7, (16, 16)), held.smoothed(alone, 0.7, (16, 16)))):  # fmt: skip
        assert torch.allclose(batch[1:2], own, atol=1e-12)


class Upside(Pixel):
    """Pixels that stand on their heads."""

    def image(self, parameters, size):
        return super().image(parameters, size).flip(2)

    def of(self, images):
        return super().of(images.flip(2))


def test_a_parameterization_of_ones_own(network_of):
    network = network_of("hand_made")
    octaves = [featlight.Octave(24, 3, (0.1, 0.05))]
    plain, own = (
        featlight.visualize(
            network, "4", [0], recipe=featlight.Recipe(octaves, parameterization=kind), progress=False
        ).images
        for kind in ("pixel", Upside)
    )
    assert torch.allclose(plain, own, atol=1e-6)  # what it optimises stands otherwise, the image does not
    with pytest.raises(UsageError, match="recipe: Upside given with out"):
        featlight.visualize(
            network, "4", [0], recipe=featlight.Recipe(octaves, parameterization=Upside), out="run", progress=False
        )
