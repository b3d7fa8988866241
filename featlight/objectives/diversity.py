"""Pictures of one feature that are to differ: what alike ones pay.

It couples the images of one feature on purpose: they are a group that no chunk, no worker and no halved batch splits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from featlight.config.tile import Tile


def whole_groups(tiles: Sequence[Tile], faces: int) -> int:
    """How many whole groups of faces a batch begins with; what pads it is none."""
    starts = range(0, len(tiles) - faces + 1, faces)
    return sum([tile.face for tile in tiles[i : i + faces]] == list(range(faces)) for i in starts)


def gram_similarity(output: Tensor, faces: int, boxes: int = 1) -> Tensor:
    """How alike each image is to the others of its group: the mean cosine of their Gram matrices.

        G_i = F_i F_i^T / ||F_i F_i^T||,   mean over j != i of <G_i, G_j>

    Args:
        output: F, of a layer, (groups x faces x boxes, C, H, W).
        faces: images of a group.
        boxes: views of an image, which count as one.

    Returns:
        (groups x faces,).
    """
    positions = output.reshape(-1, boxes, output.shape[1], output[0, 0].numel())  # (M, boxes, C, P)
    grams = torch.einsum("mbcp,mbdp->mcd", positions, positions).flatten(1)  # (M, C x C)
    lengths = torch.linalg.vector_norm(grams, dim=1, keepdim=True)
    grams = (grams / lengths.clamp_min(torch.finfo(grams.dtype).tiny)).reshape(
        -1, faces, grams.shape[1]
    )  # (G, faces, C x C)
    cosines = grams @ grams.transpose(1, 2)  # (G, faces, faces)
    own = torch.diagonal(cosines, dim1=1, dim2=2)  # (G, faces)
    others: Tensor = (cosines.sum(2) - own) / (faces - 1)
    return others.flatten()
