"""The receptive field of one neuron in an image, measured: the pixels that its value has a gradient to."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from featlight.config.inputs.fit import Fit
from featlight.config.inputs.sizes import ImageSize, both_sides
from featlight.config.tile import Term
from featlight.drawing.example_strip import Box
from featlight.errors import FeatlightError
from featlight.examples.decoding import middle
from featlight.models.extractor import LayerOutputs
from featlight.objectives.directions import Directions, vectors_of


def measure_receptive_fields(
    outputs: LayerOutputs,
    pixels: Tensor,
    term: Term,
    neurons: Sequence[Sequence[int]],
    directions: Directions | None = None,
) -> list[Box]:
    """The smallest box around all pixels that move a neuron's value, in each image; all of it where none does.

    Args:
        outputs: of the network, the term's among them.
        pixels: (N, C, H, W), as the network is given them.
        term: whose feature or direction it is; the mean over all features where it takes all.
        neurons: row and column of each, on the term's map.
        directions: that the term is a row of; None where it is none.
    """
    x = pixels.detach().requires_grad_(True)
    output = outputs(x)[term.output]  # (N, K, h, w)
    rows, columns = torch.tensor(neurons).T
    if bool((rows >= output.shape[2]).any() | (columns >= output.shape[3]).any()):
        raise FeatlightError("examples/found: damaged (a neuron outside of its map); delete that folder to look anew")
    rows, columns = rows.to(x.device), columns.to(x.device)
    at = output[torch.arange(len(x), device=x.device), :, rows, columns]  # (N, K)
    match term.choice:
        case "direction":
            value = at @ torch.from_numpy(vectors_of([term], directions))[0].to(at)  # (N,)
        case "feature":
            value = at[:, term.feature]
        case _:
            value = at.mean(1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    moves = (gradient != 0).any(1)  # (N, H, W)
    return [_around(each) for each in moves.cpu()]


def _around(moves: Tensor) -> Box:
    """The smallest box around what is true in (H, W); all of it where nothing is."""
    height, width = moves.shape
    rows, columns = moves.any(1).nonzero()[:, 0], moves.any(0).nonzero()[:, 0]
    if not len(rows):
        return 0, 0, width, height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def squared(box: Box, size: tuple[int, int]) -> Box:
    """A box made as wide as high, around the same middle as far as the image reaches.

    Args:
        box: to be shown whole.
        size: width and height of the image.
    """
    longer = max(box[2] - box[0], box[3] - box[1])
    sides = [min(longer, most) for most in size]
    starts = [
        min(max((box[axis] + box[axis + 2] - sides[axis]) // 2, 0), size[axis] - sides[axis]) for axis in range(2)
    ]
    return starts[0], starts[1], starts[0] + sides[0], starts[1] + sides[1]


def in_source(box: Box, fit: Fit, view: ImageSize | None, source: tuple[int, int]) -> Box:
    """A box of what the network is given, in the pixels of the image that this was made of.

    Args:
        box: in the fitted image.
        fit: of the image.
        view: the size that the whole image was brought to, where it was not fitted; None where it was left as it was.
        source: height and width of the image.
    """
    scaled = fit.scaled(*source) if view is None else both_sides(view)
    left, top = middle(fit, *scaled)
    down, across = source[0] / scaled[0], source[1] / scaled[1]
    return (
        max(0, int((box[0] + left) * across + 1e-6)),
        max(0, int((box[1] + top) * down + 1e-6)),
        min(source[1], math.ceil((box[2] + left) * across - 1e-6)),
        min(source[0], math.ceil((box[3] + top) * down - 1e-6)),
    )
