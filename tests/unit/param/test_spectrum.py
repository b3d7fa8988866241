"""The spectrum of photographs: its script gives it, it falls as theirs do, and it means the same at every size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from featlight.param import spectrum as spectra
from featlight.param.spectrum import frequencies, magnitudes
from tools import spectrum

SHIPPED = Path(spectra.__file__).with_name(spectra.TABLE)
SIZES = [(2, 2), (7, 9), (32, 32), (64, 48), (224, 224), (1024, 640)]


def found(size, dtype=torch.float64):
    return magnitudes(size, torch.zeros(1, dtype=dtype))


def test_the_script_gives_the_shipped_table(tmp_path):
    path = tmp_path / "table.json"
    assert spectrum.main(["--to", str(path)]) == 0
    ours, shipped = (json.loads(each.read_text()) for each in (path, SHIPPED))
    # JPEG decoders differ in the last bit of a pixel, and the table is rounded
    assert np.allclose(ours.pop("magnitudes"), shipped.pop("magnitudes"), atol=0.02)
    assert ours == shipped


def test_the_table_names_every_photograph_and_its_licence():
    said = json.loads(SHIPPED.read_text())["photographs"]
    assert said.keys() == {f"skimage.data.{name}" for name in ("astronaut", "chelsea", "coffee", "rocket")}
    assert all("public domain" in words or "CC0" in words for words in said.values())


def test_magnitudes_fall_as_those_of_photographs():
    """As f to the power of -1 to -1.5 for amplitudes (Tolhurst et al. 1992), in every colour."""
    cycles, rings = frequencies((256, 256), torch.zeros(1)), found((256, 256))
    among = (cycles > 2**-6) & (cycles < 2**-2)
    for channel in rings:
        slope, _ = np.polyfit(cycles[among].log().numpy(), channel[among].log().numpy(), 1)
        assert -1.6 < slope < -0.9


@pytest.mark.parametrize("size", SIZES)
def test_magnitudes_are_finite_and_positive_but_for_the_mean(size):
    values = found(size)
    assert values.shape == (3, size[0], size[1] // 2 + 1)
    assert torch.isfinite(values).all()
    assert (values[:, 0, 0] == 0).all()
    assert (values.flatten(1)[:, 1:] > 0).all()
    assert torch.allclose(found(size, torch.float32).double(), values, rtol=1e-4)


@pytest.mark.parametrize("times", [2, 3, 8])
def test_a_wave_of_so_many_pixels_is_as_large_at_every_size(times):
    small, large = found((32, 20)), found((32 * times, 20 * times))
    rows = torch.arange(-15, 16)
    assert torch.allclose(large[:, rows * times, : 10 * times : times], small[:, rows, :10], rtol=1e-9)


def test_a_direction_and_its_opposite_are_one():
    values = found((64, 64))
    assert torch.allclose(values[:, 1:, 0], values[:, 1:, 0].flip(1), rtol=1e-9)


def test_waves_slower_than_any_that_were_measured_go_on_growing():
    slow = found((2048, 2048))[0, 0, 1:16]
    assert (slow[:-1] > slow[1:]).all()
