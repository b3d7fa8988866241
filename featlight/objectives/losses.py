"""Distances between the chosen neurons and the target, one for each image."""

from collections.abc import Callable

import torch
from torch import Tensor

from featlight.config.tile import Metric


def l1(distance: Tensor) -> Tensor:
    """Signed sum, as in the article: a neuron beyond the target is still rewarded."""
    return distance.sum((1, 2, 3))


def l2(distance: Tensor) -> Tensor:
    """Five times the Euclidean norm, the article's constant."""
    norm: Tensor = torch.linalg.vector_norm(distance, dim=(1, 2, 3))
    return 5 * norm


def linf(distance: Tensor) -> Tensor:
    """The largest absolute distance, what the article's text says; ties share the gradient evenly."""
    return distance.abs().amax((1, 2, 3))


def linf_rows(distance: Tensor) -> Tensor:
    """The largest row sum of absolute distances, what the article's listing computes (a matrix infinity norm)."""
    return distance.abs().sum(3).amax((1, 2))


def squares(distance: Tensor) -> Tensor:
    """Less the sum of squares, of distances to 0: what strengthens whatever is there, as in deep dreams."""
    return -distance.square().sum((1, 2, 3))


# From (N, K, H, W) distances to the target, 0 outside the region, to (N,). A new metric is a line here.
METRIC_FUNCTIONS: dict[Metric, Callable[[Tensor], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "linf": linf,
    "linf-rows": linf_rows,
    "squares": squares,
}
