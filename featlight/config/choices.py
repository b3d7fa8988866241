"""Which features of a layer to visualize: all, some by number or name, or a random sample; patterns of layers."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from featlight.config.tile import LARGEST_FEATURE, MOST_TILES

ALLOWED = "allowed: `all`, numbers and ranges as in 0-15,199,201, names, or sample:16"


@dataclass(frozen=True)
class Sample:
    """A random sample of a layer's features.

    Args:
        count: number of features, at least 1; a layer with fewer features gives all.
    """

    count: int

    def __str__(self) -> str:
        return f"sample:{self.count}"

    def draw(self, layer: str, features: int, seed: int) -> tuple[int, ...]:
        """Return the sampled features of one layer, in ascending order.

        Features are ranked by a hash of seed, layer and number, so other layers do not change the sample, and a larger
        sample contains a smaller one.

        Args:
            layer: name of the layer.
            features: number of its features.
            seed: seed of the run.
        """

        def rank(feature: int) -> bytes:
            return hashlib.sha256(f"{seed}\0{layer}\0{feature}".encode()).digest()

        return tuple(sorted(sorted(range(features), key=rank)[: self.count]))


Features = Literal["all"] | Sample | tuple[int | str, ...]  # text is a feature's name, or a part of one


def parse_features(given: Any) -> Features:
    """Parse `all`, `sample:16`, or numbers, ranges and names as in `0-15,tiger,201`; each feature appears once.

    Names become numbers later, in `Names.numbers`.

    Raises:
        ValueError: the text is none of these, or names too many features.
    """
    if isinstance(given, Sample):
        return given
    if given == "all":
        return "all"
    if isinstance(given, str) and (match := re.fullmatch(r"\s*sample:([0-9]{1,7})\s*", given)):
        if not 1 <= int(match[1]) <= LARGEST_FEATURE:
            raise ValueError(f"{given!r} given; a sample needs at least one feature, as in sample:1")
        return Sample(int(match[1]))
    ranges = _parts(given)
    if not ranges:
        raise ValueError(f"none given; {ALLOWED}")
    count = sum(len(part) if isinstance(part, range) else 1 for part in ranges)
    if count > MOST_TILES:  # a typo must not fill the memory
        raise ValueError(f"{count:,} features given; a run has {MOST_TILES:,} tiles at most")
    unique: dict[int | tuple[int, str], int | str] = {}  # repeated text stays: it may be a part of several names
    for place, part in enumerate(ranges):
        unique |= {(place, part): part} if isinstance(part, str) else {feature: feature for feature in part}
    return tuple(unique.values())


def count_features(given: Any) -> int:
    """Count the features that a value for `parse_features` lists; 0 for `all`, a sample, and what cannot be parsed."""
    try:
        unlisted = given is None or isinstance(given, Sample) or given == "all"
        return 0 if unlisted else sum(len(part) if isinstance(part, range) else 1 for part in _parts(given))
    except ValueError:
        return 0


def _parts(given: Any) -> list[range | str]:
    """Split into ranges of numbers and names; a name contains a letter."""
    ranges: list[range | str] = []
    for part in given if isinstance(given, list | tuple) else [None] if given is None else str(given).split(","):
        if isinstance(part, str) and any(map(str.isalpha, part)) and not part.strip().startswith("sample:"):
            ranges += [" ".join(word.split()) for word in part.split(",") if word.strip()]
            continue
        match = re.fullmatch(
            r"\s*([0-9]{1,7})\s*(?:-\s*([0-9]{1,7})\s*)?", str(part)
        )  # layers have fewer than 10,000,000
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"{_short(given)} given; {ALLOWED}")
        ranges.append(range(first, last + 1))
    return ranges


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "..."


def format_features(features: Features) -> str:
    """Return the shortest text that `parse_features` reads back."""
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
    parts = [run if isinstance(run, str) else str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}" for run in runs]
    return ",".join(parts)


EVERY = "all"


def is_pattern(word: str) -> bool:
    """Return whether text may match several layers; a module with exactly this name takes precedence."""
    return word == EVERY or any(sign in word for sign in "*?[")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that match a pattern, in their order.

    Args:
        pattern: name in which `*` matches any text between two dots, `?` one character, `[ab]` one of these characters,
            `**` any text with dots; `all` is `**`.
        names: names of layers.
    """
    wildcards = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*|\*|\?|\[[^\]]+\])", "**" if pattern == EVERY else pattern)
    expressions = [wildcards.get(part) or (_signs(part) if part.startswith("[") else re.escape(part)) for part in parts]
    whole = re.compile("".join(expressions))
    return [name for name in names if whole.fullmatch(name)]


def _signs(part: str) -> str:
    """Return the regular expression of `[abc]`, `[a-c]` or `[!abc]`, which match no dot."""
    inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"[^.{inner[1:]}]" if inner.startswith("!") and len(inner) > 1 else f"[{inner}]"
