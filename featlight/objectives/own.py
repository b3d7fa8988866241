"""Objectives of the user's own: a function of what named layers give."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from featlight.config.optimizer import python_name
from featlight.errors import UsageError
from featlight.objectives.objective import Scores

Function = Callable[[Mapping[str, Tensor]], Tensor]  # outputs (N, C, H, W) by layer to (N,), which is to be maximised


def name_of(function: Function) -> str:
    """What it calls itself, `name`, or what Python calls it."""
    return str(getattr(function, "name", "")) or python_name(function)


def name_and_version(function: Function) -> str:
    """What a plan can hold of it: `mine 2`, for a `version` of 2.

    Raises:
        UsageError: it has no version.
    """
    version = getattr(function, "version", None)
    if version is None:
        raise UsageError(
            f"objective: {name_of(function)} given with out, and it has no version: no plan can hold what a function "
            "does; set its attributes name and version, and another version whenever it changes"
        )
    return f"{name_of(function)} {version}"


class OwnObjective:
    """What every image of a batch is to maximise.

    Args:
        function: the user's own; each image by itself.
    """

    def __init__(self, function: Function) -> None:
        self._function = function

    def __call__(self, outputs: Mapping[str, Tensor], guide: Mapping[str, Tensor] | None = None) -> Scores:
        """The loss and the value of each image.

        Raises:
            UsageError: the function does not give a number for each image.
        """
        value: Any = self._function(outputs)
        count = len(next(iter(outputs.values())))
        if not isinstance(value, Tensor) or value.shape != (count,):
            given = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise UsageError(
                f"objective: {name_of(self._function)} gives {given}; a tensor ({count},) is needed, a number "
                "for each image"
            )
        return Scores(-value, value.detach())

    def maps(self, outputs: Mapping[str, Tensor], guide: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The mean map of each layer, (N, H, W)."""
        return [output.mean(1) for output in outputs.values()]
