"""The distance of images to the statistics of photographs that a network's batch norms have stored.

A norm subtracts a channel's mean over its training photographs and divides by the deviation. In these units, the
photographs have mean 0 and deviation 1 at the input of each norm.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST = 1e-6  # variance below which a flat channel gets no gradient: that of its root would be infinite
EARLY_STRIDE = 6  # strides of 1, 2 and 4 are below, 8 is above, even if maps lose their edges


class NormTarget(NamedTuple):
    """The statistics of photographs at the input of a norm, and how they count.

    Args:
        deviation: deviation of each channel, (C,), in units in which the norm divides by 1; 0 for dead channels.
        counts: share of each channel, (C,), with a sum of 1; 0 for channels that the norm switches off.
        stride: pixels of the network's input for a row of the norm's map.
    """

    deviation: Tensor
    counts: Tensor
    stride: float


class Moments(NamedTuple):
    """The statistics of views at the input of a norm, in its units.

    Args:
        mean: mean over the positions of the map, (N, C).
        square: mean of the squares, (N, C).
    """

    mean: Tensor
    square: Tensor


def statistics_distance(
    moments: Sequence[Moments], targets: Sequence[NormTarget], early: float, boxes: int = 1
) -> Tensor:
    """Return the distance of each image to the statistics of photographs, the weighted mean over the norms.

    Args:
        moments: statistics of each norm's input; those of an image's views are averaged.
        targets: statistics of photographs at each norm.
        early: weight of norms whose map is at least a quarter of the input's side; the others weigh 1.
        boxes: number of views of each image, adjacent in the moments.

    Returns:
        (N / boxes,).
    """
    total, sum_of_weights = torch.zeros_like(moments[0].mean[::boxes, 0]), 0.0
    for (mean, square), target in zip(moments, targets, strict=True):
        if boxes > 1:
            mean, square = (each.view(-1, boxes, each.shape[1]).mean(1) for each in (mean, square))  # (N / boxes, C)
        deviation = (square - mean.square()).clamp_min(SMALLEST).sqrt()  # (N / boxes, C)
        away = mean.square() + (deviation - target.deviation).square()
        weight = early if target.stride < EARLY_STRIDE else 1.0
        total = total + weight * (away * target.counts).sum(1)
        sum_of_weights += weight
    return total / sum_of_weights
