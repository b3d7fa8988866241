"""Decorrelated colors, in which photographs vary independently, and their conversion from and to rgb."""

from functools import cache

import torch
from torch import Tensor

# Square root of the covariance of ImageNet's pixels, its largest column scaled to length 1; rows: red, green, blue.
# Source: lucid, `optvis/param/color.py`.
_ROOT = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))
_LENGTH = 0.46195237849804394  # length of its largest column, (.26, .27, .27)


def basis(like: Tensor) -> Tensor:
    """Return the matrix (3, 3) from decorrelated colors (columns) to rgb (rows), in a tensor's device and dtype."""
    return _basis(like.dtype, like.device)


@cache
def _basis(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Cache the matrix: a copy to the device in each step would synchronize with it."""
    with torch.inference_mode(False):
        return torch.tensor(_ROOT, dtype=dtype, device=device) / _LENGTH


def to_rgb(images: Tensor) -> Tensor:
    """Convert decorrelated colors to rgb, (N, 3, H, W)."""
    return mixed(images, basis(images))


def from_rgb(images: Tensor) -> Tensor:
    """Convert rgb to decorrelated colors, (N, 3, H, W)."""
    return mixed(images, torch.linalg.inv(basis(images)))


def mixed(images: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of each pixel or Fourier coefficient by a matrix (C', C): (N, C, H, W) to (N, C', H, W)."""
    if images.is_complex():
        parts = torch.view_as_real(images).flatten(2)  # (N, C, H W 2)
        return torch.view_as_complex((matrix @ parts).view(len(images), -1, *images.shape[2:], 2))
    mixed: Tensor = matrix @ images.flatten(2)  # (N, C', H W)
    return mixed.view(len(images), -1, *images.shape[2:])
