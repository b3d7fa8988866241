"""Convolutions that pad as TensorFlow does, by the library's own padding where a padded copy would cost more."""

import torch.nn.functional as F
from torch import Tensor, nn


class PaddedConv2d(nn.Module):
    """The same convolution.

    TensorFlow's `SAME` puts an odd zero behind, where the library's own padding is alike on both sides. A depthwise
    kernel gets zeros in front of it, and padding for these: the same sums by a few more products, instead of a copy of
    the map, there and on the way back. Others would take too many products more, and copy.

    Args:
        convolution: timm's, not dilated; its weight and bias are shared.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.kernel_size, self.stride = convolution.kernel_size, convolution.stride
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.is_depthwise = convolution.groups == convolution.in_channels

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self._zeros(x)
        weight, padding = self.weight, (rows // 2, columns // 2)
        if self.is_depthwise:
            weight, padding = self.padded(x)
        elif rows % 2 or columns % 2:
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
            padding = 0, 0
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """A kernel with zeros in front, and the padding that goes with it, for a map."""
        rows, columns = self._zeros(x)
        return F.pad(self.weight, (columns % 2, 0, rows % 2, 0)), ((rows + 1) // 2, (columns + 1) // 2)

    def _zeros(self, x: Tensor) -> tuple[int, int]:
        """That a map needs, in all, in each direction."""
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        rows, columns = (max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sides)
        return rows, columns
