"""Which features of a layer: all, some by number or name, or so many by chance."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Literal

from featlight.config.tile import LARGEST_FEATURE, MOST_TILES

ALLOWED = "`all`, numbers and ranges as in 0-15,199,201, names, or sample:16, are allowed"


@dataclass(frozen=True)
class Sample:
    """So many features of a layer, by chance.

    Args:
        count: of them, at least 1; a layer that has fewer gives all of its own.
    """

    count: int

    def __str__(self) -> str:
        return f"sample:{self.count}"

    def of(self, layer: str, features: int, seed: int) -> tuple[int, ...]:
        """The features of one layer, in ascending order.

        Each has a place in the lottery by the seed, the layer's name and its own number alone: other layers change
        nothing, and a larger sample holds the smaller one.

        Args:
            layer: its name.
            features: how many it has.
            seed: of the run.
        """

        def lot(feature: int) -> bytes:
            return hashlib.sha256(f"{seed}\0{layer}\0{feature}".encode()).digest()

        return tuple(sorted(sorted(range(features), key=lot)[: self.count]))


Features = Literal["all"] | Sample | tuple[int | str, ...]  # a word is the name of a feature, or a part of one


def parse_features(given: Any) -> Features:
    """`all`, a sample, or the features that `0-15,tiger,201`, a number or a list of them names, in order, each once.

    Whose feature a name is, the network or its labels tell later.

    Raises:
        ValueError: it names none of these, or too many.
    """
    if isinstance(given, Sample):
        return given
    if given == "all":
        return "all"
    if isinstance(given, str) and (match := re.fullmatch(r"\s*sample:([0-9]{1,7})\s*", given)):
        if not 1 <= int(match[1]) <= LARGEST_FEATURE:
            raise ValueError(f"{given!r} given; a sample has at least one feature")
        return Sample(int(match[1]))
    ranges = _parts(given)
    if not ranges:
        raise ValueError(f"none given; {ALLOWED}")
    count = sum(len(part) if isinstance(part, range) else 1 for part in ranges)
    if count > MOST_TILES:  # a slip of a digit must not fill the memory
        raise ValueError(f"{count:,} features given; a run has {MOST_TILES:,} tiles at most")
    found: dict[int | tuple[int, str], int | str] = {}  # a word stays each time: it may be a part of several names
    for place, part in enumerate(ranges):
        found |= {(place, part): part} if isinstance(part, str) else {feature: feature for feature in part}
    return tuple(found.values())


def count_features(given: Any) -> int:
    """How many features such words name, `all` and samples left out; 0 where they cannot be read."""
    try:
        named = given is None or isinstance(given, Sample) or given == "all"
        return 0 if named else sum(len(part) if isinstance(part, range) else 1 for part in _parts(given))
    except ValueError:
        return 0


def _parts(given: Any) -> list[range | str]:
    """Ranges, and names: what has a letter in it."""
    ranges: list[range | str] = []
    for part in given if isinstance(given, list | tuple) else [None] if given is None else str(given).split(","):
        if isinstance(part, str) and any(map(str.isalpha, part)) and not part.strip().startswith("sample:"):
            ranges += [" ".join(word.split()) for word in part.split(",") if word.strip()]
            continue
        match = re.fullmatch(r"\s*([0-9]{1,7})\s*(?:-\s*([0-9]{1,7})\s*)?", str(part))  # no layer has more
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"{_short(given)} given; {ALLOWED}")
        ranges.append(range(first, last + 1))
    return ranges


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "..."


def format_features(features: Features) -> str:
    """The shortest words that `parse_features` reads back."""
    if isinstance(features, Sample) or features == "all":
        return str(features)
    runs: list[list[int] | str] = []
    for feature in features:
        last = runs[-1] if runs else None
        if isinstance(feature, str):
            runs.append(feature)
        elif isinstance(last, list) and feature == last[1] + 1:
            last[1] = feature
        else:
            runs.append([feature, feature])
    words = [run if isinstance(run, str) else str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}" for run in runs]
    return ",".join(words)
