"""How far a picture is processed like its own dataset examples, at one layer.

Source: Geirhos et al. 2023, "Don't trust your eyes: on the (un)reliability of feature visualizations".
"""

import torch
from torch import Tensor


def rank_vectors(means: Tensor) -> Tensor:
    """Return standardized ranks, whose dot products are Spearman correlations; NaN for constant vectors.

    Args:
        means: vectors, (N, C).

    Returns:
        (N, C), float64.
    """
    # equal values share the mean of their ranks; vector by vector, because the comparisons are C x C
    ranks = torch.stack([((x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1)).double() / 2 for x in means])
    centered = ranks - ranks.mean(1, keepdim=True)
    return centered / centered.square().sum(1, keepdim=True).sqrt()


def path_similarity(picture: Tensor, examples: Tensor, others: Tensor) -> float | None:
    """Return 1 for a picture that is processed like the examples, 0 for one processed like any other image.

    Args:
        picture: standardized ranks of the picture's channel means, (C,).
        examples: those of its examples, (E, C).
        others: those of random images, (R, C).

    Returns:
        None if the examples are not more similar to each other than to random images: there is no scale then.
    """
    if len(examples) < 2 or not len(others):
        return None
    among = examples @ examples.T  # (E, E)
    count = len(examples)
    own = (among.sum() - among.diagonal().sum()) / (count * (count - 1))
    base = (others @ examples.T).mean()
    value = ((examples @ picture).mean() - base) / (own - base)
    return value.item() if value.isfinite() and own > base else None
