"""Metrics: the distance of each image's selected neurons to the target."""

from collections.abc import Callable

import torch
from torch import Tensor

from featlight.config.tile import Metric


def l1(distance: Tensor) -> Tensor:
    """Return the signed sum, as in the article: a neuron beyond the target still lowers the loss."""
    return distance.sum((1, 2, 3))


def l2(distance: Tensor) -> Tensor:
    """Return five times the Euclidean norm, as in the article."""
    norm: Tensor = torch.linalg.vector_norm(distance, dim=(1, 2, 3))
    return 5 * norm


def linf(distance: Tensor) -> Tensor:
    """Return the largest absolute distance, as in the article's text; ties share the gradient evenly."""
    return distance.abs().amax((1, 2, 3))


def linf_rows(distance: Tensor) -> Tensor:
    """Return the largest row sum of absolute distances (a matrix infinity norm), as in the article's listing."""
    return distance.abs().sum(3).amax((1, 2))


def squares(distance: Tensor) -> Tensor:
    """Return minus the sum of squared activations, which amplifies every active neuron, as in DeepDream."""
    return -distance.square().sum((1, 2, 3))


# From (N, K, H, W) distances to the target, 0 outside the region, to (N,)
METRIC_FUNCTIONS: dict[Metric, Callable[[Tensor], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "linf": linf,
    "linf-rows": linf_rows,
    "squares": squares,
}
