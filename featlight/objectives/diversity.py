"""The diversity of a feature's images: a penalty on their similarity.

It couples the images of one feature, so chunks, workers and halved batches never split this group.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from featlight.config.tile import Tile


def whole_groups(tiles: Sequence[Tile], faces: int) -> int:
    """Count the whole groups of faces in a batch; padding counts as none."""
    starts = range(0, len(tiles) - faces + 1, faces)
    return sum([tile.face for tile in tiles[i : i + faces]] == list(range(faces)) for i in starts)


def gram_similarity(output: Tensor, faces: int, boxes: int = 1) -> Tensor:
    """Return each image's similarity to the others of its group: the mean cosine of their Gram matrices.

        G_i = F_i F_i^T / ||F_i F_i^T||,   mean over j != i of <G_i, G_j>

    Args:
        output: output F of a layer, (groups x faces x boxes, C, H, W).
        faces: number of images of a group.
        boxes: number of views of an image; they share one Gram matrix.

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
