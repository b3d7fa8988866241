"""The receptive field of one neuron in an image: the pixels with a gradient of its value."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from featlight.config.image_shape import Fit, ImageSize, both_sides
from featlight.config.tile import Term
from featlight.drawing.example_strip import Box
from featlight.errors import FeatlightError
from featlight.examples.decoding import crop_offset
from featlight.models.extractor import LayerOutputs
from featlight.objectives.directions import Directions
from featlight.objectives.objective import operand_of


def measure_receptive_fields(
    outputs: LayerOutputs,
    pixels: Tensor,
    term: Term,
    neurons: Sequence[Sequence[int]],
    directions: Directions | None = None,
) -> list[Box]:
    """Return the bounding box of the pixels that change a neuron's value, one per image; the whole image if none does.

    Args:
        outputs: outputs of the network, including the term's.
        pixels: input of the network, (N, C, H, W).
        term: term that selects the feature or direction; the mean over all features if it selects all.
        neurons: row and column of each image's neuron on the term's map.
        directions: directions whose row the term names; None if it names none.
    """
    x = pixels.detach().requires_grad_(True)
    output = outputs(x)[term.output]  # (N, K, h, w)
    rows, columns = torch.tensor(neurons).T
    if bool((rows >= output.shape[2]).any() | (columns >= output.shape[3]).any()):
        raise FeatlightError(
            "examples/found: damaged (a neuron lies outside its map); delete this folder to scan the images again"
        )
    rows, columns = rows.to(x.device), columns.to(x.device)
    at = output[torch.arange(len(x), device=x.device), :, rows, columns]  # (N, K)
    every = torch.arange(len(x), device=x.device)
    value = term.measure.maps(at[:, :, None, None], every, operand_of([term], directions, x.device))  # (N, 1, 1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return [_bounding_box(mask) for mask in (gradient != 0).any(1).cpu()]  # (H, W) each


def _bounding_box(mask: Tensor) -> Box:
    """Return the bounding box of a mask (H, W); the whole area if the mask is empty."""
    height, width = mask.shape
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return 0, 0, width, height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def squared(box: Box, size: tuple[int, int]) -> Box:
    """Extend a box to a square around the same center, as far as the image allows.

    Args:
        box: box inside the image.
        size: width and height of the image.
    """
    longer = max(box[2] - box[0], box[3] - box[1])
    sides = [min(longer, most) for most in size]
    starts = [
        min(max((box[axis] + box[axis + 2] - sides[axis]) // 2, 0), size[axis] - sides[axis]) for axis in range(2)
    ]
    return starts[0], starts[1], starts[0] + sides[0], starts[1] + sides[1]


def in_source(box: Box, fit: Fit, input_size: ImageSize | None, source: tuple[int, int]) -> Box:
    """Map a box from the network's input to the pixels of the image file.

    Args:
        box: box in the network's input.
        fit: fit that was applied to the image.
        input_size: size that the whole image was resized to instead of a fit; None if it was not.
        source: height and width of the image file.
    """
    scaled = fit.scaled(*source) if input_size is None else both_sides(input_size)
    left, top = crop_offset(fit, *scaled)
    down, across = source[0] / scaled[0], source[1] / scaled[1]
    return (
        max(0, int((box[0] + left) * across + 1e-6)),
        max(0, int((box[1] + top) * down + 1e-6)),
        min(source[1], math.ceil((box[2] + left) * across - 1e-6)),
        min(source[0], math.ceil((box[3] + top) * down - 1e-6)),
    )
