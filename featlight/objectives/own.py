"""The user's own objectives: functions of layer outputs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from featlight.config.optimizer import python_name
from featlight.errors import UsageError, in_a_line
from featlight.objectives.objective import Scores

Function = Callable[[Mapping[str, Tensor]], Tensor]  # outputs (N, C, H, W) by layer to values to maximize, (N,)


def name_of(function: Function) -> str:
    """Return a function's attribute `name`, or its name in Python."""
    return str(getattr(function, "name", "")) or python_name(function)


def name_and_version(function: Function) -> str:
    """Return the name and version that a plan holds, such as `mine 2`.

    Raises:
        UsageError: the function has no version.
    """
    version = getattr(function, "version", None)
    if version is None:
        raise UsageError(
            f"objective: {name_of(function)} given with out, and it has no version: no plan can hold what a function "
            "does; set its attributes name and version, and another version whenever it changes"
        )
    return f"{name_of(function)} {version}"


class OwnObjective:
    """The user's own objective, in the form of `Objective`.

    Args:
        function: function that computes each image's value by itself.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self.word = f"objective: {name_of(function)}"
        names = getattr(getattr(function, "__code__", None), "co_names", ())
        self.uses = [value for name, value in getattr(function, "__globals__", {}).items() if name in names]

    def __call__(self, outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor] | None = None) -> Scores:
        """Return the loss and the value of each image.

        Raises:
            UsageError: the function fails, or does not return a number for each image.
        """
        given = dict(outputs)
        versions = {name: output._version for name, output in given.items()}
        try:
            with in_a_line(f"{self.word} fails"):
                value: Any = self._function(given)
        except UsageError as error:
            if isinstance(error.__cause__, KeyError):
                raise UsageError(f"{error}; it is given the layers {', '.join(map(repr, outputs))}") from None
            raise
        first = next(iter(outputs.values()))
        if not _is_vector(value, len(first)):
            raise UsageError(
                f"{self.word} gives {_in_words(value)}; a tensor ({len(first)},) of floats is needed, one an image"
            )
        for name, output in outputs.items():
            if output._version != versions[name]:
                raise UsageError(f"{self.word} writes into the output of layer {name!r}; let it work on a copy (clone)")
        value = value.to(first)
        return Scores(-value, value.detach())

    def maps(self, outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the mean map of each layer, (N, H, W)."""
        return [output.mean(1) for output in outputs.values()]


def _is_vector(value: Any, count: int) -> bool:
    """Return whether a value is a dense tensor of floats with one entry per image."""
    if not isinstance(value, Tensor) or value.shape != (count,):
        return False
    return value.is_floating_point() and value.layout == torch.strided and not value.is_meta


def _in_words(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    kinds = [value.dtype, *([value.layout] if value.layout != torch.strided else [])]
    words = [str(kind).removeprefix("torch.") for kind in kinds] + ["on meta"] * value.is_meta
    return ", ".join([f"a tensor {tuple(value.shape)}", *words])
