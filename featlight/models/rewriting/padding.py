"""Convolutions that pad as TensorFlow does, without a padded copy of what they take."""

import torch.nn.functional as F
from torch import Tensor, nn


class PaddedConv2d(nn.Module):
    """The same convolution by the library's own padding, which is alike on both sides.

    TensorFlow's `SAME` puts an odd zero behind. A kernel with zeros in front of it, and padding for these, gives
    the same sums: a few more products instead of a copy of the map, there and on the way back.

    Args:
        convolution: timm's, not dilated; its weight and bias are shared.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.kernel_size, self.stride, self.groups = convolution.kernel_size, convolution.stride, convolution.groups

    def forward(self, x: Tensor) -> Tensor:
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        rows, columns = (max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sides)  # zeros in all
        weight = F.pad(self.weight, (columns % 2, 0, rows % 2, 0))
        padding = (rows + 1) // 2, (columns + 1) // 2
        return F.conv2d(x, weight, self.bias, self.stride, padding, groups=self.groups)
