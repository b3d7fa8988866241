"""How large a config file may be, told from its text before anything is built of it.

A few hundred bytes of anchors (`&`) and aliases (`*`) can stand for billions of values, and thousands of digits for a
number that Python does not read.
"""

import re
from collections.abc import Iterator

import yaml

TEXT = 4 << 20  # characters
VALUES = 30_000  # each name, number and list counts; 2,700 named tiles of one term, read in a second
DEPTH = 32  # lists and tables inside each other; a config has 6
DIGITS = 40
Parser: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast, but not everywhere
_NUMBER = re.compile(r"[-+.:_0-9a-fA-FxXo]*[0-9][-+.:_0-9a-fA-FxXo]*")


def check_text(text: str, values: int = VALUES) -> None:
    """Raise where a text would give too much.

    Args:
        text: YAML.
        values: that it may hold, with all that its aliases stand for.

    Raises:
        ValueError: which limit it goes beyond.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > TEXT:
        raise ValueError(f"{len(text):,} characters given; at most {TEXT:,} are read")
    depth = 0
    for count, here in _walk(text):
        depth = max(depth, here)
        if count > values:
            raise ValueError(f"more than {values:,} values given; larger runs are made in parts, or from Python")
        if depth > DEPTH:
            raise ValueError(f"lists and tables inside each other, deeper than {DEPTH}")


def _walk(text: str) -> Iterator[tuple[int, int]]:
    """After each part of a text: how many values there are by now, aliases written out, and how deep it stands."""
    total = 0
    sizes: dict[str | None, int] = {}  # by anchor
    open_parts: list[tuple[str | None, int]] = []  # the anchor of each list or table around, and the total before it
    for event in yaml.parse(text, Loader=Parser):
        match event:
            case yaml.AliasEvent():
                if event.anchor not in sizes:
                    raise ValueError(f"the alias *{event.anchor} stands inside of what it stands for, or for nothing")
                total += sizes[event.anchor]
            case yaml.ScalarEvent():
                total += 1
                if len(event.value) > DIGITS and event.implicit[0] and _NUMBER.fullmatch(event.value):
                    raise ValueError(f"a number of {len(event.value):,} digits given; at most {DIGITS} are read")
                if event.anchor is not None:
                    sizes[event.anchor] = 1
            case yaml.CollectionStartEvent():
                total += 1
                sizes.pop(event.anchor, None)
                open_parts.append((event.anchor, total - 1))
            case yaml.CollectionEndEvent():
                anchor, before = open_parts.pop()
                if anchor is not None:
                    sizes[anchor] = total - before
        yield total, len(open_parts)
