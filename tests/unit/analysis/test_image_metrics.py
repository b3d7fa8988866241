"""Each number against a literal loop, and against cases whose answer is known."""

import cmath
import math

import numpy as np
import pytest
import torch

from featlight.analysis.image_metrics import (
    activity_overlap,
    affected_area,
    change_outside,
    high_frequency_share,
    structural_similarity,
    total_variation,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wave(cycles_down: int, cycles_across: int, side: int = 32, phase: float = 0.3) -> torch.Tensor:
    """A sinusoid, (1, 3, side, side)."""
    at = torch.arange(side, dtype=torch.float64)
    turns = (cycles_down * at[:, None] + cycles_across * at) / side
    return (0.5 + 0.2 * torch.cos(2 * math.pi * turns + phase)).expand(1, 3, side, side)


def test_total_variation_is_the_literal_sum():
    images = random(2, 3, 5, 7)
    ours = total_variation(images)
    for n, image in enumerate(images.tolist()):
        theirs = 0.0
        for channel in image:
            for y in range(5):
                for x in range(7):
                    theirs += abs(channel[y + 1][x] - channel[y][x]) if y < 4 else 0
                    theirs += abs(channel[y][x + 1] - channel[y][x]) if x < 6 else 0
        assert ours[n].item() == pytest.approx(theirs / 35)


def test_total_variation_of_stripes_and_of_nothing():
    stripes = torch.zeros(1, 3, 8, 8)
    stripes[..., ::2] = 1  # 7 jumps of 1 in each of 8 rows and 3 channels
    assert total_variation(stripes).tolist() == [7 * 8 * 3 / 64]
    assert total_variation(torch.full((2, 3, 8, 8), 0.5)).tolist() == [0, 0]


def literal_share(channels: np.ndarray) -> float:
    """The discrete Fourier transform written out."""
    height, width = channels.shape[1:]
    fine = total = 0.0
    for channel in channels:
        channel = channel - channel.mean()
        for k in range(height):
            for m in range(width):
                value = sum(
                    channel[y, x] * cmath.exp(-2j * math.pi * (k * y / height + m * x / width))
                    for y in range(height)
                    for x in range(width)
                )
                u, v = min(k, height - k) / height, min(m, width - m) / width
                total += abs(value) ** 2
                fine += abs(value) ** 2 if math.hypot(u, v) >= 0.25 else 0
    return fine / total


@pytest.mark.parametrize("size", [(6, 9), (8, 8), (5, 4)])
def test_high_frequency_share_is_the_literal_transforms(size):
    images = random(2, 3, *size)
    theirs = [literal_share(image) for image in images.numpy()]
    assert high_frequency_share(images).tolist() == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("down", "across", "share"),
    [(0, 1, 0), (3, 0, 0), (0, 7, 0), (0, 8, 1), (16, 0, 1), (5, 5, 0), (6, 6, 1), (12, 13, 1)],  # 8 of 32: a quarter
)
def test_a_wave_is_coarse_or_fine(down, across, share):
    assert high_frequency_share(wave(down, across)).item() == pytest.approx(share, abs=1e-12)


def test_waves_add_their_energies_and_the_mean_does_not_count():
    mixed = 0.2 * wave(0, 2) + 0.6 * wave(9, 0) + 0.1  # within [0, 1]
    assert high_frequency_share(mixed).item() == pytest.approx(9 / 10)
    assert high_frequency_share(random(1, 3, 128, 128)).item() == pytest.approx(1 - math.pi / 16, abs=0.01)  # chance


def test_flat_images_have_no_fine_detail():
    images = torch.stack([torch.full((3, 16, 16), 0.1), wave(0, 12, 16)[0].float()])
    assert high_frequency_share(images).tolist() == pytest.approx([0, 1], abs=1e-6)


def literal_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004, window by window, the border reflected."""
    at = np.arange(-5, 6)
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    scores = []
    for a, b in zip(first, second, strict=True):
        a, b = np.pad(a, 5, mode="reflect"), np.pad(b, 5, mode="reflect")
        for y in range(a.shape[0] - 10):
            for x in range(a.shape[1] - 10):
                p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
                both = (window * (p - mean_p) * (q - mean_q)).sum()
                scores.append(
                    (2 * mean_p * mean_q + 0.01**2)
                    * (2 * both + 0.03**2)
                    / ((mean_p**2 + mean_q**2 + 0.01**2) * (var_p + var_q + 0.03**2))
                )
    return float(np.mean(scores))


def test_similarity_is_the_literal_windows():
    first, second = 1.6 * random(2, 3, 12, 14) - 0.3, 1.6 * random(2, 3, 12, 14, seed=1) - 0.3  # beyond what is shown
    pairs = zip(first.clamp(0, 1).numpy(), second.clamp(0, 1).numpy(), strict=True)
    assert structural_similarity(first, second).tolist() == pytest.approx([literal_similarity(a, b) for a, b in pairs])


def test_similarity_of_equals_and_opposites():
    images = random(2, 3, 24, 24)
    assert structural_similarity(images, images).tolist() == pytest.approx([1, 1])
    assert structural_similarity(1 + images, 2 + images).tolist() == pytest.approx([1, 1])  # all white when shown
    assert (structural_similarity(images, 1 - images) < 0).all()


def test_the_area_is_the_smallest_set_of_pixels():
    start = torch.full((3, 8, 8), 0.5)
    images = start.repeat(3, 1, 1, 1)
    images[0, :, 2:4, 3:6] += 0.1  # 6 pixels alike
    images[1, :, 1, 1] += 0.5
    images[1, 0, 7, 7] += 0.1  # a hundredth of the whole
    area = affected_area(images, start)
    assert area.share.tolist() == [6 / 64, 1 / 64, 0]
    assert area.mask[0].nonzero().tolist() == [[y, x] for y in (2, 3) for x in (3, 4, 5)]
    assert area.mask[1].nonzero().tolist() == [[1, 1]]
    assert area.box.tolist() == [[2, 3, 4, 6], [1, 1, 2, 2], [0, 0, 0, 0]]


def test_the_area_holds_its_share_and_no_smaller_one_does():
    start, images = random(2, 3, 10, 12), random(2, 3, 10, 12, seed=1)
    for share in (0.3, 0.95, 1.0):
        area = affected_area(images, start, share)
        for image, origin, mask in zip(images, start, area.mask, strict=True):
            change = sorted(((image - origin) ** 2).sum(0).flatten().tolist(), reverse=True)
            held, count = 0.0, 0
            while held < share * sum(change) * (1 - 1e-12):
                held, count = held + change[count], count + 1
            assert mask.sum().item() == count
            assert ((image - origin) ** 2).sum(0)[mask].sum().item() == pytest.approx(held)


def test_the_box_is_not_stretched_by_a_stray_pixel():
    image = torch.zeros(1, 3, 20, 20)
    image[:, :, 5:9, 6:12] = 1
    image[:, :, 19, 0] = 0.5  # a hundredth of the whole
    assert affected_area(image, torch.zeros(3, 20, 20)).box.tolist() == [[5, 6, 9, 12]]
    assert affected_area(image, torch.zeros(3, 20, 20), 1.0).box.tolist() == [[5, 0, 20, 12]]


def test_the_box_covers_ends_alike():
    image = torch.ones(1, 3, 100, 100)
    assert affected_area(image, torch.zeros(3, 100, 100), 0.5).box.tolist() == [[25, 25, 75, 75]]
    assert affected_area(image, torch.zeros(3, 100, 100), 1.0).box.tolist() == [[0, 0, 100, 100]]


def test_change_outside_an_area():
    before = random(2, 3, 6, 6) / 2
    after = before.clone()
    after[0, :, 0, 0] += 0.1
    after[0, :, 5, 5] += 0.2
    area = torch.zeros(6, 6, dtype=torch.bool)
    area[5, 5] = True
    assert change_outside(before, after, area).tolist() == pytest.approx([1 / 5, 0])  # the second did not change
    both = torch.stack([~area, area])
    assert change_outside(before, after, both).tolist() == pytest.approx([4 / 5, 0])
    assert change_outside(before, after, torch.zeros_like(both)).tolist() == pytest.approx([1, 0])


def test_overlap_of_maps():
    first = torch.zeros(2, 4, 4)
    first[0, :2] = 8.0
    first[0, 3, 3] = 4.0  # half of the maximum is not above it
    second = torch.zeros(2, 4, 4)
    second[0, 1:3] = 0.1  # each by its own maximum
    second[1] = -1.0
    overlap = activity_overlap(first, second)
    assert overlap.first.tolist() == [0.5, 0]
    assert overlap.second.tolist() == [0.5, 0]
    assert overlap.both.tolist() == [pytest.approx(1 / 3), 0]


def test_overlap_of_maps_of_two_sizes():
    coarse = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    fine = torch.zeros(1, 4, 4)
    fine[0, :2, :3] = 1
    overlap = activity_overlap(coarse, fine)
    assert [number.item() for number in overlap] == pytest.approx([4 / 16, 6 / 16, 4 / 6])
    swapped = activity_overlap(fine, coarse)
    assert [number.item() for number in swapped] == pytest.approx([6 / 16, 4 / 16, 4 / 6])


def test_all_is_measured_as_it_is_shown():
    images, others = 3 * random(2, 3, 12, 12) - 1, 3 * random(2, 3, 12, 12, seed=1) - 1
    clipped, others_clipped = images.clamp(0, 1), others.clamp(0, 1)
    for measure in (total_variation, high_frequency_share):
        assert torch.equal(measure(images), measure(clipped))
    assert torch.equal(structural_similarity(images, others), structural_similarity(clipped, others_clipped))
    assert torch.equal(affected_area(images, others).mask, affected_area(clipped, others_clipped).mask)
    area = random(12, 12) > 0.5
    assert torch.equal(change_outside(images, others, area), change_outside(clipped, others_clipped, area))


def test_the_dtype_of_images_hardly_matters():
    images, others = random(2, 3, 16, 16), random(2, 3, 16, 16, seed=1)
    assert structural_similarity(images.float(), others.float()).tolist() == pytest.approx(
        structural_similarity(images, others).tolist()
    )
    assert total_variation(images.float()).dtype == torch.float64


def test_the_area_stops_once_it_holds_its_share():
    image = torch.zeros(1, 3, 4, 4)
    image[:, :, 0] = 0.5  # four pixels alike
    assert affected_area(image, torch.zeros(3, 4, 4), 0.5).share.tolist() == [2 / 16]
