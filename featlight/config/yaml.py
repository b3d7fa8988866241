"""Size limits of YAML text, checked before any object is built.

A few hundred bytes with anchors (`&`) and aliases (`*`) can expand to billions of values, and Python refuses to parse
numbers of thousands of digits.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

TEXT = 4 << 20  # characters
VALUES = 30_000  # keys, scalars, lists and tables; enough for 2,700 named tiles of one term, read in a second
DEPTH = 32  # nested lists and tables; a config has 6
DIGITS = 40
Parser: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast, but not always installed
_NUMBER = re.compile(r"[-+.:_0-9a-fA-FxXo]*[0-9][-+.:_0-9a-fA-FxXo]*")


def check_text(text: str, values: int = VALUES) -> None:
    """Check that YAML text is within the limits.

    Args:
        text: YAML text.
        values: largest number of values, with aliases expanded.

    Raises:
        ValueError: the text exceeds a limit.
        yaml.YAMLError: the text is not YAML.
    """
    if len(text) > TEXT:
        raise ValueError(f"{len(text):,} characters given; at most {TEXT:,} are read")
    depth = 0
    for count, current in _walk(text):
        depth = max(depth, current)
        if count > values:
            raise ValueError(f"more than {values:,} values given; larger runs are made in parts, or from Python")
        if depth > DEPTH:
            raise ValueError(f"lists and tables inside each other, deeper than {DEPTH}")


def _walk(text: str) -> Iterator[tuple[int, int]]:
    """Yield after each YAML event the number of values so far, with aliases expanded, and the depth."""
    total = 0
    sizes: dict[str | None, int] = {}  # by anchor
    open_parts: list[tuple[str | None, int]] = []  # anchor of each enclosing list or table, and the total before it
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


# The scalars that are not text
_TAGS = {
    "int": r"[-+]?(?:0|[1-9][0-9]*)",
    "float": r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "null": r"~|null|Null|NULL|",
    "merge": r"<<",
}


class Loader(Parser):  # type: ignore[misc]  # one of PyYAML's two safe ones
    """A loader without the surprises of YAML 1.1.

    YAML 1.1 reads 010 as 8, 12:30 as 750, 1_000 as 1000, `on` and `no` as booleans, 2026-01-01 as a date, and keeps the
    last of two equal keys. Here these values are text, and a duplicate key is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise TwiceError(f"line {line}: the key {key!r} given again after line {lines[key]}; remove one")
            lines[key] = line
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class TwiceError(yaml.YAMLError):
    """A key is given twice in a table."""


Loader.yaml_implicit_resolvers = {}
for _name, _pattern in _TAGS.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), None)
