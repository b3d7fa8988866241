"""Mean and std as they are given: in lists, arrays and tensors, and in the units of pixels."""

import numpy as np
import pytest
import torch

from featlight.config.normalization import Normalization, parse_normalization
from featlight.config.validation import check
from featlight.errors import UsageError

ENDLESS = []
ENDLESS.append(ENDLESS)
WANTED = Normalization((0.5, 0.25, 0.125), (0.5, 0.5, 0.25))


@pytest.mark.parametrize(
    "array",
    [
        list,
        tuple,
        np.array,
        lambda values: np.array(values, np.float16),
        torch.tensor,
        lambda values: torch.tensor(values, requires_grad=True),
        lambda values: torch.tensor(values, dtype=torch.bfloat16).view(1, 3, 1, 1),
        lambda values: [torch.tensor(value) for value in values],
    ],
)
def test_mean_and_std_come_in_any_array(array):
    assert parse_normalization({"mean": array(WANTED.mean), "std": array(WANTED.std)}) == WANTED


@pytest.mark.parametrize("value", [None, {"a": 1}, [[None]], object(), ENDLESS])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="lists of numbers are needed"):
        parse_normalization({"mean": value, "std": value})


@pytest.mark.parametrize(
    "given",
    [
        {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
        {"mean": [0.0], "std": [255.0]},
        Normalization((127.5,), (1.0,)),
    ],
)
def test_mean_and_std_of_bytes_are_refused(given):
    with pytest.raises(UsageError, match=r"normalize: mean .* given; pixels range from 0 to 1: divide"):
        check({"layer": "4", "normalize": given})


def test_a_network_of_bytes_is_fed_by_a_small_std():
    assert check({"layer": "4", "normalize": {"mean": [0], "std": [1 / 255]}}).normalize.std == (1 / 255,)
