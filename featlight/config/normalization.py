"""What is done to pixels before the network gets them, in words. Plain data, no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import yaml

from featlight.config.yaml.loader import Loader

Named = Literal["auto", "none", "weights"]


@dataclass(frozen=True)
class Normalization:
    """Pixels less a mean, over a standard deviation, channel by channel.

    Args:
        mean: of each channel, in pixel units.
        std: likewise.

    Raises:
        ValueError: not as many of one as of the other, or a value that is no number above 0.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"mean and std of {len(self.mean)} and {len(self.std)} channels given; as many are needed")
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"{list(self.mean)} and {list(self.std)} given; numbers, those of std above 0, are needed")

    def in_words(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean} std {std}"


def parse_normalization(given: Any) -> Any:
    """A word, or a table of mean and std, as a config has them; a flag's table is YAML."""
    if isinstance(given, str) and given.startswith("{"):
        try:
            given = yaml.load(given, Loader)
        except yaml.YAMLError:
            raise ValueError(f"{given!r} given; a table as in {{mean: [0.5], std: [0.5]}} is needed") from None
    if isinstance(given, Mapping):
        strange = given.keys() - {"mean", "std"}
        if strange or len(given) != 2:
            raise ValueError(f"{dict(given)!r} given; a table of mean and std is needed")
        lists = {key: value if isinstance(value, list | tuple) else [value] for key, value in given.items()}
        try:
            return Normalization(**{key: tuple(map(float, values)) for key, values in lists.items()})
        except TypeError:
            raise ValueError(f"{dict(given)!r} given; lists of numbers are needed") from None
    if not isinstance(given, Normalization) and given not in ("auto", "none", "weights"):
        raise ValueError("auto, none, weights, or a table of mean and std, is allowed")
    return given
