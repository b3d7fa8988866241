"""Metrics of images for the tables beside figures: noise, similarity, and the area that changed.

Images are in pixel units (0 black, 1 white), (N, 3, H, W), and are clipped to [0, 1] first, as they are displayed:
otherwise a few pixels far beyond white would dominate. Metrics per pixel or in cycles per pixel depend on the size of
the image: compare images of one size only.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import image as metrics

FLAT = 1e-12  # variance, in squared pixel units, that rounding alone explains


class Area(NamedTuple):
    """Area in which images differ from their start.

    Args:
        share: share of all pixels, (N,).
        mask: changed pixels, (N, H, W), bool.
        box: top, left, bottom and right in pixels, the last two exclusive, (N, 4), int64.
    """

    share: Tensor
    mask: Tensor
    box: Tensor


class Overlap(NamedTuple):
    """Areas in which two features are active.

    Args:
        first: share of the map in which the first feature is active, (N,).
        second: share of the map in which the second feature is active, (N,).
        both: intersection over union, (N,).
    """

    first: Tensor
    second: Tensor
    both: Tensor


def _clipped(images: Tensor) -> Tensor:
    return images.double().clamp(0, 1)


def total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighboring pixels, summed over channels and both directions.

    Args:
        images: images, (N, 3, H, W).

    Returns:
        (N,), float64, in pixel units per pixel; 0 for a flat image.

    Source: Rudin, Osher and Fatemi 1992, the anisotropic form, as in torchmetrics.
    """
    total: Tensor = metrics.total_variation(_clipped(images), reduction="none")  # (N,)
    return total / (images.shape[2] * images.shape[3])


def high_frequency_share(images: Tensor) -> Tensor:
    """Return the share of the spectral energy at high frequencies.

    The energy of a frequency (u, v), in cycles per pixel, is the squared modulus of the discrete Fourier transform,
    summed over channels, each without its mean. High frequencies have sqrt(u^2 + v^2) >= 1/4, half of the Nyquist
    frequency; they include the corners of the spectrum.

    Args:
        images: images, (N, 3, H, W).

    Returns:
        (N,), float64 in [0, 1]: 1 - pi / 16 = 0.80 for white noise, 0 for a flat image.
    """
    images = _clipped(images)
    energy = torch.fft.fft2(images - images.mean((2, 3), keepdim=True)).abs().square().sum(1)  # (N, H, W)
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64, device=images.device) for n in images.shape[2:])
    is_high = torch.hypot(rows[:, None], columns) >= 0.25  # (H, W)
    total = energy.sum((1, 2))  # (N,)
    is_flat = total <= FLAT * images[0].numel() * energy[0].numel()  # Parseval: sum of variances times (H W)^2
    return torch.where(is_flat, 0, (energy * is_high).sum((1, 2)) / total.where(~is_flat, 1))


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the structural similarity (SSIM) of each pair of images.

    Args:
        first: images, (N, 3, H, W), at least 6 pixels high and wide.
        second: images of the same shape.

    Returns:
        (N,), float64: 1 for equal images, less for others.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, with the 11 x 11 window of standard deviation 1.5 of torchmetrics.
    """
    score = metrics.structural_similarity_index_measure(
        _clipped(first), _clipped(second), data_range=1.0, reduction="none"
    )  # (N,)
    assert isinstance(score, Tensor)
    return score


def affected_area(images: Tensor, start: Tensor, share: float = 0.95) -> Area:
    """Return the smallest set of pixels that holds a share of the squared change, and the box of its central part.

    A threshold on the change would depend on the pixel that changed most; a share depends on all pixels. The box
    spans the rows (and columns) that hold `share` of the change and leave equal parts above and below, so that a
    stray pixel does not extend it.

    Args:
        images: images, (N, 3, H, W).
        start: images without an objective, (3, H, W) or (N, 3, H, W): the start after the same octaves and blurs,
            because a blur changes noise everywhere.
        share: share of the squared change, summed over channels, in (0, 1].

    Returns:
        Share of pixels, mask and box; all zero without a change.
    """
    change = (_clipped(images) - _clipped(start)).square().sum(1)  # (N, H, W)
    falling, order = change.flatten(1).sort(descending=True, stable=True)  # (N, H W)
    total = falling.sum(1, keepdim=True)  # (N, 1)
    before = falling.cumsum(1) - falling  # (N, H W), change of the pixels that changed more
    chosen = (before < share * total) & (falling > 0)
    mask = torch.zeros_like(chosen).scatter(1, order, chosen).view_as(change)
    top, bottom = _central_range(change.sum(2), share)
    left, right = _central_range(change.sum(1), share)
    return Area(mask.double().mean((1, 2)), mask, torch.stack([top, left, bottom, right], 1))


def _central_range(weights: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return start and end (exclusive) of the central share of weights (N, L); each (N,), int64."""
    cumulative = weights.cumsum(1)  # (N, L)
    total = cumulative[:, -1:]
    tail = (1 - share) / 2 * total
    first = (cumulative <= tail).sum(1)
    last = (cumulative < total - tail).sum(1)
    has_weight = total[:, 0] > 0
    return torch.where(has_weight, first, 0), torch.where(has_weight, last + 1, 0)


def change_outside(before: Tensor, after: Tensor, area: Tensor) -> Tensor:
    """Return the share of the squared change between two images that lies outside an area.

    Figures of a growing feature compare images before and after adding a neuron, and the area of this neuron alone.

    Args:
        before: images, (N, 3, H, W).
        after: images of the same shape.
        area: mask, (H, W) or (N, H, W), bool.

    Returns:
        (N,), float64 in [0, 1]; 0 without a change.
    """
    change = (_clipped(after) - _clipped(before)).square().sum(1)  # (N, H, W)
    total = change.sum((1, 2))  # (N,)
    return (change * ~area).sum((1, 2)) / total.where(total > 0, 1)


def activity_overlap(first: Tensor, second: Tensor) -> Overlap:
    """Return where each of two features is active, and their overlap. Active is above half of the map's maximum.

    Args:
        first: activations of one feature, (N, H, W).
        second: activations of another feature on the same images, (N, H', W'); the coarser map is enlarged.

    Returns:
        Shares of the map and intersection over union, float64; 0 for a feature that is nowhere above 0.
    """
    size = max(first.shape[1], second.shape[1]), max(first.shape[2], second.shape[2])
    a, b = _active(first, size), _active(second, size)  # (N, H, W)
    union = (a | b).sum((1, 2))
    both = (a & b).sum((1, 2)).double() / union.clamp(min=1)
    return Overlap(a.double().mean((1, 2)), b.double().mean((1, 2)), both)


def _active(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the active positions of maps (N, H, W) as a mask (N, *size), enlarged by nearest neighbor."""
    active = (maps > maps.amax((1, 2), keepdim=True) / 2) & (maps > 0)
    return F.interpolate(active[:, None].float(), size, mode="nearest-exact")[:, 0] > 0
