"""What a source knows of a network before it is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn


@dataclass(frozen=True)
class NetworkEntry:
    """One network that can be named.

    Args:
        build: gives it with random weights, or with those that a user's own callable gives it.
        build_for: gives it ready to receive these weights.
        find: turns the name of weights into their full name and their file, downloaded if need be; None where weights
            have no names.
        fit: gives a state dict the names that the network has for its tensors.
        mean: of the pixels that the weights were trained with, per channel; None where it is not known.
        std: likewise.
        classes: gives the names of the outputs of its last layer; None where they have none.
        size: height and width of the images that it was trained with, in pixels; None where it is not known.
        resize: shorter side of a photograph before its middle is taken at that size; None for all of that middle.
        interpolation: of that resize, `bilinear` or `bicubic`.
        load: gives it with a file of weights as its library publishes it, whose names the library itself translates;
            None where its files need no translation.
        build_with: gives it ready to receive weights of a file, from the file's content and the weights; None where a
            file says nothing of how it is built.
        name: that it has in records, where it is given by a folder say; "" for the one that the user gives.
    """

    build: Callable[[], nn.Module]
    build_for: Callable[[Mapping[str, Any]], nn.Module]
    find: Callable[[str], tuple[str, Path]] | None
    fit: Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Any]] = lambda _, state: state
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: Callable[[], list[str]] | None = None
    size: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"
    load: Callable[[Path], nn.Module] | None = None
    build_with: Callable[[Any, Mapping[str, Any]], nn.Module] | None = None
    name: str = ""
