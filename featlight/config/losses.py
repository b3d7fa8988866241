"""Losses: the distance of each image's selected neurons to the target. No import of torch.

A loss is a function here and its line of `METRICS`. It maps distances (N, K, H, W), 0 outside the region, to (N,).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


def l1(distance: "Tensor") -> "Tensor":
    """Return the signed sum, as in the article: a neuron beyond the target still lowers the loss."""
    return distance.sum((1, 2, 3))


def l2(distance: "Tensor") -> "Tensor":
    """Return five times the Euclidean norm, as in the article."""
    import torch

    norm: Tensor = torch.linalg.vector_norm(distance, dim=(1, 2, 3))
    return 5 * norm


def linf(distance: "Tensor") -> "Tensor":
    """Return the largest absolute distance, as in the article's text; ties share the gradient evenly."""
    return distance.abs().amax((1, 2, 3))


def linf_rows(distance: "Tensor") -> "Tensor":
    """Return the largest row sum of absolute distances (a matrix infinity norm), as in the article's listing."""
    return distance.abs().sum(3).amax((1, 2))


def squares(distance: "Tensor") -> "Tensor":
    """Return minus the sum of squared activations, which amplifies every active neuron, as in DeepDream."""
    return -distance.square().sum((1, 2, 3))


class Loss(NamedTuple):
    function: Callable[["Tensor"], "Tensor"]
    has_target: bool = True  # else the distance is to 0

    def in_words(self, name: str, target: float) -> str:
        """Return a caption, such as "l1 to 200"."""
        return f"{name} to {target:g}" if self.has_target else name


METRICS = {
    "l1": Loss(l1),
    "l2": Loss(l2),
    "linf": Loss(linf),
    "linf-rows": Loss(linf_rows),
    "squares": Loss(squares, has_target=False),
}
