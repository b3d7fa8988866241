"""Numbers that say whether a picture shows what a network sees, and need no person. Pure functions of tensors.

Images are (N, 3, H, W) in pixel units (0 black, 1 white), as they are shown: clipped, in steps of 1/255.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from featlight.transforms import Jitter, RandomTransforms, Rotate, Scale

Activation = Callable[[Tensor], Tensor]  # images (N, 3, H, W) to one number each, (N,)

SMALL_MOVES = (Jitter(8), Scale(0.9, 1.1), Rotate(-8, 8))  # pixels, factors, degrees
DRAWS = 8
DARK, BRIGHT = 5, 250  # of 255: at the ends of the range
COARSE, FINE, RINGS = 1 / 32, 1 / 4, 8  # cycles per pixel between which a spectrum's slope is taken, and in how many
TOP = 5


def shown(images: Tensor) -> Tensor:
    """What a PNG would hold of images."""
    return (images.clamp(0, 1) * 255).round() / 255


def moved_activation(activation: Activation, images: Tensor, draws: int = DRAWS) -> Tensor:
    """Mean activation of each image over small random shifts, scalings and turns, mirrored at the edges.

    Args:
        activation: of images.
        images: (N, 3, H, W).
        draws: of each image; those of a place are the same in every call.

    Returns:
        (N,).
    """
    views = RandomTransforms(SMALL_MOVES, range(len(images)), draws, images.device)
    return torch.stack([activation(views(images, draw)) for draw in range(draws)]).mean(0)


def clipped_share(images: Tensor) -> Tensor:
    """Share of an image's values near black or white, (N,)."""
    values = (images.clamp(0, 1) * 255).round()
    return ((values <= DARK) | (values >= BRIGHT)).float().mean((1, 2, 3))


def spectrum_slope(images: Tensor) -> Tensor:
    """Exponent of the frequency that the power of an image's brightness falls off with; about -2 in photographs.

    A line through the logarithms of frequency and mean power in rings of equal width on a logarithmic scale, under a
    Hann window, so that edges which do not meet add no power of their own.

    Args:
        images: (N, 3, H, W), at least 64 pixels a side.

    Returns:
        (N,), float64.

    Source: Field 1987, "Relations between the statistics of natural images and the response properties of cortical
    cells".
    """
    height, width = images.shape[2:]
    brightness = images.double().mean(1)  # (N, H, W)
    window = torch.outer(*(torch.hann_window(n, dtype=torch.float64) for n in (height, width)))
    mean = (brightness * window).sum((1, 2), keepdim=True) / window.sum()
    power = torch.fft.fft2((brightness - mean) * window).abs().square()  # (N, H, W)
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    frequency = torch.hypot(rows[:, None], columns)  # (H, W)
    edges = COARSE * (FINE / COARSE) ** (torch.arange(RINGS + 1, dtype=torch.float64) / RINGS)
    rings = [(frequency >= low) & (frequency < high) for low, high in pairwise(edges)]
    x = torch.stack([frequency[ring].log().mean() for ring in rings])  # (RINGS,)
    y = torch.stack([power[:, ring].mean(1).clamp_min(1e-30).log() for ring in rings], 1)  # (N, RINGS)
    x = x - x.mean()
    return y @ x / x.square().sum()


def color_share(images: Tensor) -> Tensor:
    """Share of the variance of an image's colours outside of their first principal one, (N,), float64; 0 for grays."""
    pixels = images.double().flatten(2)  # (N, 3, H W)
    pixels = pixels - pixels.mean(2, keepdim=True)
    variances = torch.linalg.eigvalsh(pixels @ pixels.transpose(1, 2))  # (N, 3), rising
    return variances[:, :2].clamp_min(0).sum(1) / variances.sum(1).clamp_min(1e-30)


def ranks(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """How many classes a network puts before the one that each image was made for, (N,), from its logits (N, K)."""
    own = logits.gather(1, torch.tensor(classes, device=logits.device)[:, None])  # (N, 1)
    return (logits > own).sum(1)


def transfer(found: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Shares of the images that are ranked first, and among the first five, by each network and by all of them.

    Args:
        found: ranks, (N,), by the name of the network.
    """
    shares = {}
    for name, most in (("first", 1), ("top_five", TOP)):
        good = {network: places < most for network, places in found.items()}
        good["all"] = torch.stack(list(good.values())).all(0)
        shares[name] = {network: float(each.float().mean()) for network, each in good.items()}
    return shares
