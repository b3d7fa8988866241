"""YAML as people mean it: no key twice, and numbers that are read as they are written."""

import re
from typing import Any

import yaml

from featlight.config.yaml.limits import Parser

# What is not a word
_TAGS = {
    "int": r"[-+]?(?:0|[1-9][0-9]*)",
    "float": r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "null": r"~|null|Null|NULL|",
    "merge": r"<<",
}


class Loader(Parser):  # type: ignore[misc]  # one of PyYAML's two safe ones
    """YAML 1.1 reads 010 as 8, 12:30 as 750, 1_000 as 1000, `on` and `no` as truth values, 2026-01-01 as a date, and
    takes the last of two equal keys. Here these are words, which a key takes or refuses, and a key stands once.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise TwiceError(f"line {line}: the key {key!r} stands in line {lines[key]} already")
            lines[key] = line
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class TwiceError(yaml.YAMLError):
    """A key that stands twice in a table."""


Loader.yaml_implicit_resolvers = {}
for _name, _pattern in _TAGS.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), None)
