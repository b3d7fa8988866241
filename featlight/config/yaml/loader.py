"""A YAML loader that refuses duplicate keys and has no surprising number formats."""

import re
from typing import Any

import yaml

from featlight.config.yaml.limits import Parser

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
