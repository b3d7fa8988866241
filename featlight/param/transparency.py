"""The opacity of each pixel: the size of its gradients over the steps.

Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with magnitude constrained optimization".
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 5  # px, side of the square over which gradients are averaged
OPAQUE = 0.9  # share of the pixels below full opacity


def pull(gradient: Tensor) -> Tensor:
    """Return the sum of |d loss / d image| over the channels: (N, C, H, W) to (N, H, W)."""
    return gradient.abs().sum(1)


def resized_pull(pulls: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize summed pulls to another image size, bilinear: (N, H, W) to (N, *size)."""
    return F.interpolate(pulls[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def opacity(pulls: Tensor) -> Tensor:
    """Return the opacity of each image from its summed pulls: from 0, clear, to 1, opaque.

    Args:
        pulls: summed over the steps, (N, H, W), on the CPU.

    Returns:
        (N, H, W). An image whose pulls are all 0, or not finite, is opaque.
    """
    smooth = F.avg_pool2d(pulls[:, None], SMOOTH, 1, SMOOTH // 2, count_include_pad=False)[:, 0]  # (N, H, W)
    places = smooth.flatten(1)
    # not `torch.quantile`, which refuses more than 16 million pixels
    high = places.kthvalue(max(1, round(OPAQUE * places.shape[1])), 1).values[:, None, None]
    high = torch.where(high > 0, high, smooth.amax((1, 2), keepdim=True))  # if most pixels have no pull
    said = (places.amax(1) > 0) & torch.isfinite(places).all(1)
    return torch.where(said[:, None, None], (smooth / high).clamp(0, 1), 1)


def to_levels(opacities: Tensor) -> Tensor:
    """Convert opacities to 256 levels for a PNG: (N, H, W), uint8."""
    return (opacities * 255).round().to(torch.uint8)
