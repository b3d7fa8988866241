"""What a source knows of a network before it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """One network that can be named.

    Args:
        build: gives it with random weights, or with those that a user's own callable gives it.
        build_for: gives it ready to receive these weights.
        find: turns the name of weights into their full name and their file, downloaded if need be; None where weights
            have no names.
        mean: of the pixels that the weights were trained with, per channel; None where it is not known.
        std: likewise.
    """

    build: Callable[[], nn.Module]
    build_for: Callable[[dict[str, Tensor]], nn.Module]
    find: Callable[[str], tuple[str, Path]] | None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
