"""What the pulls on an image say of its transparency, against a literal loop."""

import numpy as np
import pytest
import torch

from featlight.param.transparency import opacity, pull, resized_pull, to_levels


def literal(pulls):
    height, width = pulls.shape
    smooth = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            smooth[y, x] = pulls[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean()
    high = sorted(smooth.ravel())[max(1, round(0.9 * smooth.size)) - 1]
    return (smooth / high).clip(0, 1)


@pytest.mark.parametrize("size", [(2, 2), (12, 12), (9, 17)])
def test_opacity_is_the_literal_one_for_each_image_alone(size):
    pulls = torch.rand(3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    pulls[1] *= 1e-30
    ours = opacity(pulls)
    for image, own in zip(ours, pulls, strict=True):
        assert np.allclose(image.numpy(), literal(own.numpy()), atol=1e-12)
        assert image.max() == 1
    assert torch.equal(opacity(pulls[2:])[0], ours[2])


def test_an_image_that_nothing_pulled_at_is_opaque():
    pulls = torch.rand(3, 8, 8)
    pulls[0], pulls[1, 2, 3] = 0.0, torch.nan
    ours = to_levels(opacity(pulls))
    assert (ours[:2] == 255).all()
    assert ours[2].float().std() > 0


def test_one_spot_in_a_still_image_is_all_that_is_opaque():
    pulls = torch.zeros(1, 30, 30)
    pulls[0, 10, 20] = 1e-20
    (ours,) = opacity(pulls)
    assert torch.allclose(ours[8:13, 18:23], torch.ones(5, 5))
    assert ours.sum().item() == pytest.approx(25)


def test_a_pull_sums_over_the_channels_and_keeps_its_place_at_another_size():
    gradient = torch.zeros(1, 3, 4, 4)
    gradient[0, :, 1, 2] = torch.tensor([0.5, -2.0, 0.25])
    pulls = pull(gradient)
    assert pulls[0, 1, 2] == 2.75
    assert pulls.sum() == 2.75
    grown = resized_pull(pulls, (8, 8))
    assert grown.shape == (1, 8, 8)
    assert grown[0, 2:4, 4:6].sum() > 0.5 * grown.sum()
