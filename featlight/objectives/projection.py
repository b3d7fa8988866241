"""How far the features of each position lie along a direction."""

import torch
from torch import Tensor

LEAST_COSINE = 0.1  # what lies elsewhere still has a gradient, after lucid


def along(output: Tensor, vectors: Tensor, power: float = 0.0) -> tuple[Tensor, Tensor]:
    """The projection on each image's direction, and the value that is maximised.

    Args:
        output: of a layer, z, (N, C, H, W).
        vectors: v, of each image, (N, C, 1, 1), or of each position, (N, C, H, W).
        power: p, of the cosine; 0 for the plain projection.

    Returns:
        `z . v` and `z . v max(0.1, cos(z, v))^p` at each position, (N, 1, H, W) each.
    """
    projection = (output * vectors).sum(1, keepdim=True)  # (N, 1, H, W)
    if power == 0:
        return projection, projection
    lengths = torch.linalg.vector_norm(output, dim=1, keepdim=True)  # (N, 1, H, W)
    lengths = lengths * torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    cosine = projection / lengths.clamp_min(torch.finfo(output.dtype).tiny)  # no length, no cosine
    return projection, projection * cosine.clamp_min(LEAST_COSINE) ** power
