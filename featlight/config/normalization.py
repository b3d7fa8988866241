"""Normalization of pixels before they enter the network. No torch."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import yaml

from featlight.config.yaml import Loader

LARGEST = 10.0  # mean or std that is plausible for pixels from 0 to 1
Named = Literal["auto", "none", "weights"]


@dataclass(frozen=True)
class Normalization:
    """Subtract a mean and divide by a standard deviation, per channel.

    Args:
        mean: mean of each channel, in pixel units.
        std: standard deviation of each channel, in pixel units.

    Raises:
        ValueError: the lengths differ, a value is not finite, or a std is not above 0.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std of {len(self.mean)} and {len(self.std)} channels given; the numbers must be equal"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise ValueError(
                f"{list(self.mean)} and {list(self.std)} given; finite numbers are needed, and those of std above 0"
            )

    @property
    def is_of_bytes(self) -> bool:
        """Whether the values look like those of pixels from 0 to 255."""
        return max(map(abs, (*self.mean, *self.std))) > LARGEST

    def in_words(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean} std {std}"


def _numbers(given: Any) -> Iterator[float]:
    """Yield the numbers of nested lists, of an array or tensor of any shape, or a single number."""
    plain = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(plain, list | tuple):
        for each in plain:
            yield from _numbers(each)
    else:
        yield float(plain)


def parse_normalization(given: Any) -> Any:
    """Parse `auto`, `none`, `weights`, or a table of mean and std; a flag gives the table as YAML."""
    if isinstance(given, str) and given.startswith("{"):
        try:
            given = yaml.load(given, Loader)
        except yaml.YAMLError:
            raise ValueError(f"{given!r} given; a table as in {{mean: [0.5], std: [0.5]}} is needed") from None
    if isinstance(given, Mapping):
        strange = given.keys() - {"mean", "std"}
        if strange or len(given) != 2:
            raise ValueError(f"{dict(given)!r} given; a table of mean and std is needed")
        try:
            return Normalization(**{key: tuple(_numbers(value)) for key, value in given.items()})
        except (TypeError, RecursionError):
            raise ValueError(f"{dict(given)!r} given; lists of numbers are needed") from None
    if not isinstance(given, Normalization) and given not in ("auto", "none", "weights"):
        raise ValueError("allowed: auto, none, weights, or a table of mean and std")
    return given
