"""What a source knows about a network before the network is built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """How a network was trained: its images and its classes.

    Args:
        mean: mean of the pixels for each channel; None if unknown.
        std: standard deviation of the pixels for each channel; None if unknown.
        classes: function that returns the names of the outputs of the last layer; None if they have no known names.
        size: height and width of the training images in pixels; None if unknown.
        resize: shorter side of a photograph before the center crop to `size`; None for the largest center crop.
        interpolation: interpolation of that resize, `bilinear` or `bicubic`.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: Callable[[], list[str]] | None = None
    size: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class NetworkEntry(TrainingInputs):
    """One network that a user can name.

    Args:
        build: builds the network with random weights, or with the weights that a user's callable gives it.
        build_for: builds the network for a given state dict.
        find: turns the name of weights into their full name and their file; None if the weights have no names.
        fit: renames the tensors of a state dict to the network's names.
        load: builds the network from a file that its library publishes and translates; None if the files need no
            translation.
        build_with: builds the network from the content of a file and a state dict; None if files do not describe the
            network.
        name: name of the network in records; "" for the name that the user gives.
    """

    build: Callable[[], nn.Module]
    build_for: Callable[[Mapping[str, Any]], nn.Module]
    find: Callable[[str], tuple[str, Path]] | None = None
    fit: Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Any]] = lambda _, state: state
    load: Callable[[Path], nn.Module] | None = None
    build_with: Callable[[Any, Mapping[str, Any]], nn.Module] | None = None
    name: str = ""


class NetworkSource(Protocol):
    """A module of `featlight.models.sources`."""

    def has(self, model: str) -> bool:
        """Return whether this source is responsible for the name of a network."""

    def names(self) -> Sequence[str]:
        """Return the names that the source can list."""

    def entry(self, model: str) -> NetworkEntry:
        """Return the network of that name; raise UsageError if there is none."""
