"""What a neuron sees of an image: against arithmetic on a network by hand, and back in the photograph's pixels."""

import pytest
import torch
from torch import nn

from featlight.config.image_shape import Fit, parse_fit
from featlight.config.tile import Term
from featlight.examples.receptive_fields import in_source, measure_receptive_fields, squared
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import frozen_copy
from featlight.models.layers import survey

CPU = torch.device("cpu")


@pytest.fixture
def outputs() -> LayerOutputs:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.LeakyReLU(), nn.Conv2d(8, 4, 3, padding=1))
    network = frozen_copy(network, CPU, torch.float32)
    return LayerOutputs(network, [survey(network, 32)["2"]])


@pytest.mark.parametrize(
    ("neuron", "box"),
    # a neuron of the first layer sees 3 pixels from twice its own place on; one of the second sees 3 such, or 2
    [((5, 7), (12, 8, 19, 15)), ((0, 0), (0, 0, 5, 5)), ((14, 3), (4, 26, 11, 31))],
)
def test_a_field_is_what_arithmetic_says(outputs, neuron, box):
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for feature in (1, None):
        ours = measure_receptive_fields(outputs, pixels, Term("2", feature), [neuron, (5, 7)])
        assert ours == [box, (12, 8, 19, 15)]
    assert not pixels.requires_grad


def test_of_a_neuron_that_nothing_moves_all_of_the_image_is_taken():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    nn.init.constant_(network[0].bias, -100)
    network = frozen_copy(network, CPU, torch.float32)
    outputs = LayerOutputs(network, [survey(network, 32)["1"]])
    assert measure_receptive_fields(outputs, torch.rand(1, 3, 32, 32), Term("1", 0), [(3, 3)]) == [(0, 0, 32, 32)]


@pytest.mark.parametrize(
    ("fit", "view", "source", "box", "expected"),
    [
        (Fit(), None, (50, 70), (3, 4, 20, 30), (3, 4, 20, 30)),
        (Fit(), 64, (32, 128), (16, 16, 32, 64), (32, 8, 64, 32)),  # brought to the one size that there is
        (Fit(64), None, (128, 256), (0, 0, 64, 64), (64, 0, 192, 128)),  # the middle, at half the size
        (Fit(64, 80), None, (160, 160), (0, 0, 8, 64), (16, 16, 32, 144)),
        (Fit((32, 64)), None, (64, 64), (0, 0, 64, 32), (0, 16, 64, 48)),
        (Fit(64), None, (30, 40), (0, 0, 1, 1), (4, 0, 6, 1)),  # whole pixels, none of them left out
    ],
)
def test_a_box_lies_in_the_photographs_own_pixels(fit, view, source, box, expected):
    assert in_source(box, fit, view, source) == expected


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ((10, 10, 20, 30), (100, 100), (5, 10, 25, 30)),
        ((0, 40, 7, 50), (100, 100), (0, 40, 10, 50)),
        ((95, 0, 100, 9), (100, 100), (91, 0, 100, 9)),
        ((2, 3, 12, 43), (15, 50), (0, 3, 15, 43)),
        ((0, 0, 8, 8), (8, 8), (0, 0, 8, 8)),
    ],
)
def test_what_is_shown_of_a_field_is_square_as_far_as_the_image_reaches(box, size, expected):
    assert squared(box, size) == expected


def test_how_images_are_fitted_is_a_word_or_a_size():
    assert [parse_fit(word) for word in ("auto", "NONE", "96", "96x128", "64 x 64")] == [
        "auto",
        "none",
        96,
        (96, 128),
        64,
    ]
    for word in ("", "7", "0x9", "224x", "big"):
        with pytest.raises(ValueError, match="auto, none, or a size"):
            parse_fit(word)
