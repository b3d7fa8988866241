"""Penalties on images, added to the objective's loss; each image by itself."""

from torch import Tensor

from featlight.config.recipe import Regularizers


def penalty(images: Tensor, weights: Regularizers) -> Tensor:
    """Return the weighted sum of the penalties.

    Args:
        images: (N, C, H, W), in pixel units.
        weights: weight of each penalty.

    Returns:
        (N,).
    """
    terms = ((weights.tv, total_variation), (weights.l1, distance), (weights.l2, squared_distance))
    chosen = [weight * term(images) for weight, term in terms if weight]
    return sum(chosen[1:], chosen[0])


def departure(images: Tensor, start: Tensor) -> Tensor:
    """Return the mean squared difference to the starting images; (N, C, H, W) to (N,)."""
    return (images - start).square().mean((1, 2, 3))


def total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighboring pixels, down and across; (N, C, H, W) to (N,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().mean((1, 2, 3))
    across = (images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3))
    return down + across


def distance(images: Tensor) -> Tensor:
    """Return the mean distance of the pixels to gray; (N, C, H, W) to (N,)."""
    return (images - 0.5).abs().mean((1, 2, 3))


def squared_distance(images: Tensor) -> Tensor:
    """Return the mean squared distance of the pixels to gray; (N, C, H, W) to (N,)."""
    return (images - 0.5).square().mean((1, 2, 3))
