"""Convolutions with TensorFlow's padding, without a padded copy of the map where the library's padding is cheaper."""

import torch.nn.functional as F
from torch import Tensor, nn


class PaddedConv2d(nn.Module):
    """A convolution with TensorFlow's `SAME` padding, which puts an odd zero at the end.

    The library pads both sides equally. A depthwise kernel gets leading zeros and padding for these: equal sums with a
    few more products, but without copies of the map in the forward and backward pass. For other kernels the products
    would cost more than the copies.

    Args:
        convolution: timm's convolution without dilation; its weight and bias are shared.
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
        """Return a kernel with leading zeros, and its padding, for a map."""
        rows, columns = self._zeros(x)
        return F.pad(self.weight, (columns % 2, 0, rows % 2, 0)), ((rows + 1) // 2, (columns + 1) // 2)

    def _zeros(self, x: Tensor) -> tuple[int, int]:
        """Return the total number of zeros that a map needs in each direction."""
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        rows, columns = (max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sides)
        return rows, columns
