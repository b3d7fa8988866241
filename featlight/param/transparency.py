"""How opaque each place of an image is: as much as its objective pulled there while it was descended.

Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with magnitude constrained optimization".
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 5  # px, side of the square that a place shares its pull with
OPAQUE = 0.9  # share of the places that stay below full opacity


def pull(gradient: Tensor) -> Tensor:
    """Of one step on each place: the sum of |d loss / d image| over the channels; (N, C, H, W) to (N, H, W)."""
    return gradient.abs().sum(1)


def resized_pull(pulls: Tensor, size: tuple[int, int]) -> Tensor:
    """Pulls on the places of an image of another size, bilinear; (N, H, W) to (N, *size)."""
    return F.interpolate(pulls[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def opacity(pulls: Tensor) -> Tensor:
    """What a descent's pulls say of each image by itself: from 0, clear, to 1, opaque.

    Args:
        pulls: summed over the steps, (N, H, W), on the CPU.

    Returns:
        (N, H, W). An image that nothing pulled at, or something that is not finite, is opaque.
    """
    smooth = F.avg_pool2d(pulls[:, None], SMOOTH, 1, SMOOTH // 2, count_include_pad=False)[:, 0]  # (N, H, W)
    places = smooth.flatten(1)
    # no `torch.quantile`, which takes no image of more than 16 million pixels
    high = places.kthvalue(max(1, round(OPAQUE * places.shape[1])), 1).values[:, None, None]
    high = torch.where(high > 0, high, smooth.amax((1, 2), keepdim=True))  # where most places were let alone
    said = (places.amax(1) > 0) & torch.isfinite(places).all(1)
    return torch.where(said[:, None, None], (smooth / high).clamp(0, 1), 1)


def to_levels(opacities: Tensor) -> Tensor:
    """In 256 steps, as they are kept: (N, H, W), uint8."""
    return (opacities * 255).round().to(torch.uint8)
