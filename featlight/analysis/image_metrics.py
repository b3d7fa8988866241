"""Numbers for the tables beside the figures: how noisy images are, how alike, and where they change.

Images are in pixel units (0 black, 1 white), (N, 3, H, W), and measured as they are shown, clipped to [0, 1]: a few
pixels far beyond white must not outweigh all that can be seen. What is counted in pixels or in cycles per pixel hangs
on the size of the image: compare images of one size.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import image as metrics

FLAT = 1e-12  # variance, in squared pixel units, below which an image is flat except for rounding


class Area(NamedTuple):
    """Where images differ from the ones they started from."""

    share: Tensor  # (N,), of all pixels
    mask: Tensor  # (N, H, W), bool
    box: Tensor  # (N, 4), int64: top, left, bottom and right, in pixels, the last two exclusive


class Overlap(NamedTuple):
    """Where two features are active, as shares."""

    first: Tensor  # (N,), of the area
    second: Tensor  # (N,), of the area
    both: Tensor  # (N,), intersection over union


def shown(images: Tensor) -> Tensor:
    """Clipped to [0, 1], in float64."""
    return images.double().clamp(0, 1)


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference between neighbours: summed over channels and both directions, per pixel.

    Args:
        images: (N, 3, H, W).

    Returns:
        (N,), float64, in pixel units per pixel; 0 for a flat image.

    Source: Rudin, Osher and Fatemi 1992, the anisotropic form, as in torchmetrics.
    """
    total: Tensor = metrics.total_variation(shown(images), reduction="none")  # (N,)
    return total / (images.shape[2] * images.shape[3])


def high_frequency_share(images: Tensor) -> Tensor:
    """How much of the spectral energy is fine detail.

    The energy of a frequency (u, v), in cycles per pixel, is the squared modulus of the discrete Fourier transform,
    summed over channels, each without its mean. Fine are those with sqrt(u^2 + v^2) >= 1/4: the upper half of the
    way from 0 to Nyquist (1/2), and the corners of the spectrum beyond it.

    Args:
        images: (N, 3, H, W).

    Returns:
        (N,), float64 in [0, 1]: white noise has 1 - pi / 16 = 0.80, a flat image 0.
    """
    images = shown(images)
    energy = torch.fft.fft2(images - images.mean((2, 3), keepdim=True)).abs().square().sum(1)  # (N, H, W)
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64, device=images.device) for n in images.shape[2:])
    fine = torch.hypot(rows[:, None], columns) >= 0.25  # (H, W)
    total = energy.sum((1, 2))  # (N,)
    flat = total <= FLAT * images[0].numel() * energy[0].numel()  # Parseval: the sum of variances times H W, squared
    return torch.where(flat, 0, (energy * fine).sum((1, 2)) / total.where(~flat, 1))


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of each pair.

    Args:
        first: (N, 3, H, W), at least 6 pixels a side.
        second: the same.

    Returns:
        (N,), float64: 1 for equal images, less for others.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, with their 11 x 11 window of standard deviation 1.5, as in
    torchmetrics.
    """
    score = metrics.structural_similarity_index_measure(
        shown(first), shown(second), data_range=1.0, reduction="none"
    )  # (N,)
    assert isinstance(score, Tensor)
    return score


def affected_area(images: Tensor, start: Tensor, share: float = 0.95) -> Area:
    """The smallest set of pixels that holds most of the squared change, and the box around the middle of it.

    A threshold on the change itself would depend on its brightest pixel; this depends on all of it. The box lies
    between those rows (and columns) that leave as much of the change above as below and hold `share` of it between
    them, so a stray pixel does not stretch it.

    Args:
        images: (N, 3, H, W).
        start: what they would be without their objective, (3, H, W) or (N, 3, H, W): the start, taken through the
            same octaves and blurs, for a blur changes noise everywhere.
        share: of the squared change, summed over channels, in (0, 1].

    Returns:
        Share of pixels, mask and box; all zero where nothing changed.
    """
    change = (shown(images) - shown(start)).square().sum(1)  # (N, H, W)
    falling, order = change.flatten(1).sort(descending=True, stable=True)  # (N, H W)
    total = falling.sum(1, keepdim=True)  # (N, 1)
    before = falling.cumsum(1) - falling  # (N, H W), held by the pixels that changed more
    chosen = (before < share * total) & (falling > 0)
    mask = torch.zeros_like(chosen).scatter(1, order, chosen).view_as(change)
    top, bottom = _middle(change.sum(2), share)
    left, right = _middle(change.sum(1), share)
    return Area(mask.double().mean((1, 2)), mask, torch.stack([top, left, bottom, right], 1))


def _middle(weights: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """From where to where the middle `share` of weights (N, L) lies, the end exclusive; each (N,), int64."""
    held = weights.cumsum(1)  # (N, L)
    total = held[:, -1:]
    tail = (1 - share) / 2 * total
    first = (held <= tail).sum(1)
    last = (held < total - tail).sum(1)
    something = total[:, 0] > 0
    return torch.where(something, first, 0), torch.where(something, last + 1, 0)


def change_outside(before: Tensor, after: Tensor, area: Tensor) -> Tensor:
    """How much of the step from one image to the next lies outside an area.

    For a growing feature: the images before and after a neuron was added, and the area that it affects alone.

    Args:
        before: (N, 3, H, W).
        after: the same.
        area: (H, W) or (N, H, W), bool.

    Returns:
        (N,), float64 in [0, 1]: share of the squared change; 0 where nothing changed.
    """
    change = (shown(after) - shown(before)).square().sum(1)  # (N, H, W)
    total = change.sum((1, 2))  # (N,)
    return (change * ~area).sum((1, 2)) / total.where(total > 0, 1)


def activity_overlap(first: Tensor, second: Tensor) -> Overlap:
    """Where each of two features is active, above half of its own maximum, and where both are.

    Args:
        first: activations of one feature, (N, H, W).
        second: of the other, (N, H', W') over the same images; the coarser map is brought to the finer grid.

    Returns:
        Shares of the area and intersection over union, float64; 0 where a feature is nowhere above 0.
    """
    size = max(first.shape[1], second.shape[1]), max(first.shape[2], second.shape[2])
    a, b = _active(first, size), _active(second, size)  # (N, H, W)
    union = (a | b).sum((1, 2))
    both = (a & b).sum((1, 2)).double() / union.clamp(min=1)
    return Overlap(a.double().mean((1, 2)), b.double().mean((1, 2)), both)


def _active(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) to a bool mask (N, *size), each neuron spread over the pixels nearest to it."""
    active = (maps > maps.amax((1, 2), keepdim=True) / 2) & (maps > 0)
    return F.interpolate(active[:, None].float(), size, mode="nearest-exact")[:, 0] > 0
