"""Expanded weights: the derivative of a tile's middle neuron by earlier features, without activation functions.

They depend on no image, only on its size. Where the stretch between two layers is not linear even then, as at an
attention, a gate or a layer norm, there are none.

Source: Olah et al. 2020, Zoom In, Distill; Voss et al. 2021, Visualizing Weights, Distill.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from featlight.circuits.linear_graph import LinearizedActivations, linear_edges
from featlight.circuits.network import CircuitNetwork
from featlight.config.image_shape import ImageSize, both_sides
from featlight.config.tile import Term
from featlight.objectives.objective import operand_of
from featlight.store.circuit_files import KERNEL_SIDE

NEGLIGIBLE = 1e-6  # of a layer's largest weight: rounding errors outside of a kernel


class ExpandedKernel(NamedTuple):
    """The expanded weights of one feature of an earlier layer.

    Args:
        weight: sum over all positions.
        kernel: weights around the tile's neuron, or their sums over blocks, (h, w); None if there is one position.
        block: side of the blocks.
    """

    weight: float
    kernel: "np.ndarray[tuple[int, int], np.dtype[np.float64]] | None"
    block: int = 1


class ExpandedWeights:
    """The network without activation functions, run once on an image of a size.

    Args:
        network: network of the run.
        size: size of the images, in pixels.
    """

    def __init__(self, network: CircuitNetwork, size: ImageSize) -> None:
        self._network = network
        image = torch.full((network.network.in_channels, *both_sides(size)), 0.5)
        with torch.enable_grad(), LinearizedActivations():
            self._linked = network.linked(image, network.layers)
        self._linear: dict[str, set[str]] = {}  # names of the earlier outputs with a linear stretch, by output

    def derivatives(self, term: Term, earlier: Sequence[str]) -> dict[str, Tensor]:
        """Return the derivative of the neuron in the middle of a term's map by each earlier output, (C, H, W).

        Args:
            term: term that selects a feature, all features or a direction.
            earlier: names of earlier outputs; those without a linear stretch are left out of the result.
        """
        output = self._linked.maps[term.output]  # (N, C, H, W)
        if term.output not in self._linear:
            self._linear[term.output] = linear_edges(output, self._linked.edges)
        linear = [name for name in earlier if name in self._linear[term.output]]
        middle = output[0, :, output.shape[2] // 2, output.shape[3] // 2]  # (C,)
        operand, only = operand_of([term], self._network.directions, middle.device), torch.zeros(1, dtype=torch.int64)
        neuron = term.measure.maps(middle[None, :, None, None], only.to(middle.device), operand).sum()
        found = self._linked.gradients(neuron, linear, retain=True)
        return {name: found[name][0] for name in linear if name in found}


def kernels(weights: Tensor, features: Sequence[int]) -> list[ExpandedKernel]:
    """Return the kernels of some features, cropped to the positions from which any feature of the layer has an effect.

    Args:
        weights: derivative by every neuron of a layer, (C, H, W).
        features: features of this layer.
    """
    double = weights.double().cpu()  # (C, H, W)
    sums = double.sum((1, 2))
    size = double.abs().amax(0)  # (H, W)
    effective = size > NEGLIGIBLE * size.amax()
    rows, columns = effective.any(1).nonzero()[:, 0], effective.any(0).nonzero()[:, 0]
    if not len(rows):
        return [ExpandedKernel(0.0, None) for _ in features]
    cropped = double[:, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    block = -(-max(cropped.shape[1:]) // KERNEL_SIDE)
    if cropped.shape[1:] == (1, 1):
        return [ExpandedKernel(float(sums[feature]), None) for feature in features]
    return [ExpandedKernel(float(sums[f]), _in_blocks(cropped[f].numpy(), block), block) for f in features]


def _in_blocks(
    kernel: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", block: int
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Sum a kernel over square blocks; a remainder is divided between both ends."""
    for axis, side in enumerate(kernel.shape):
        rest = -side % block
        before = rest // 2
        widths = [(before, rest - before) if each == axis else (0, 0) for each in range(2)]
        kernel = np.pad(kernel, widths)
        starts = np.arange(0, kernel.shape[axis], block)
        kernel = np.add.reduceat(kernel, starts, axis)
    return kernel
