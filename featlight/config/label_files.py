"""Parsers of label files in the formats in which they are published. No torch."""

import csv
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from featlight.config.tile import LARGEST_FEATURE
from featlight.config.yaml import Loader, check_text
from featlight.errors import one_line, unknown

MOST_VALUES = 300_000  # keys and values of a YAML file, enough for 100,000 classes
SYNSET = re.compile(r"n\d{8}")
SYNSET_LINE = re.compile(r"n\d{8}[\s,:]+(\S.*)")
NUMBERED_LINE = re.compile(
    r"""\{?\s*(?P<number>\d{1,9})\s*[:,\s]\s*['"]?(?P<name>.+?)['"]?\s*,?\s*\}?"""
)  # `0: 'tench',`, `0,tench` and `0 tench`
LINE_WITH_NUMBER = re.compile(r"(?P<name>\S.*)\s(?P<number>\d{1,9})")  # `/a/airfield 0`
NUMBERED_NAME = re.compile(r"\d{1,9}\s+\S.*")
INSIDE = (
    "id2label",
    "label2id",
    "class_to_idx",
    "label_names",
    "class_names",
    "classes",
    "categories",
    "labels",
    "names",
)  # keys of tables that hold names
NUMBER_KEYS, NAME_KEYS = ("id", "index", "class_id", "label_id", "label"), ("name", "label", "class", "description")
HEADER = {*NUMBER_KEYS, *NAME_KEYS, "idx", "number", "feature", "class_name", "label_name", "synset", "wnid", "names"}


@dataclass(frozen=True)
class Labels:
    """Names of features.

    Args:
        words: names by feature number, without empty ones.
        listed: length of a plain list, with empty names; None if the file gives a number with each name.
    """

    words: Mapping[int, str]
    listed: int | None = None


def parse_labels(
    suffix: str, text: str, layers: Collection[str], known: Collection[str] = ()
) -> Labels | dict[str, Labels]:
    """Return the names of one layer's features, or of each layer by name.

    Args:
        suffix: suffix of the file's name, without the dot.
        text: content of the file.
        layers: names of the requested layers.
        known: names of all layers and modules of the network; empty if they are not known.

    Raises:
        ValueError: the text is no list of names, repeats a number, has none of the layers, or names unknown ones.
    """
    if suffix in ("json", "jsonl", "ndjson", "yaml", "yml"):
        values = _yaml(text) if suffix in ("yaml", "yml") else _json(suffix, text)
        by_layer = _by_layer(values, layers, known)
        return _labels(values) if by_layer is None else {layer: _labels(each) for layer, each in by_layer.items()}
    lines = [line.strip() for line in _lines(text)]
    filled = [line for line in lines if line]
    if suffix in ("csv", "tsv") or (filled and all("\t" in line for line in filled)):
        semicolons = "," not in text and all(";" in line for line in filled)
        separator = "\t" if suffix != "csv" else ";" if semicolons else ","
        return _of_rows(list(csv.reader(io.StringIO(text), delimiter=separator)))
    return _of_lines(lines)


def _json(suffix: str, text: str) -> Any:
    try:
        if suffix == "json":
            return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
    return [json.loads(line, object_pairs_hook=_once) for line in _lines(text) if line.strip()]


def _yaml(text: str) -> Any:
    try:
        check_text(text, MOST_VALUES)
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {one_line(error, 200)}") from None


def _lines(text: str) -> list[str]:
    """Split lines, without empty ones at the end; str.splitlines also splits at characters that occur in names."""
    return re.split(r"\r\n|\r|\n", text.rstrip("\r\n\t "))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"{key!r} given twice; a key may stand once")
        table[key] = value
    return table


def _by_layer(values: Any, layers: Collection[str], known: Collection[str]) -> Mapping[str, Any] | None:
    """Return the lists of a file with one list per layer; None for a file with a single list.

    Raises:
        ValueError: the file has none of the requested layers, or a layer that the network does not have.
    """
    if not isinstance(values, dict) or not values or not all(isinstance(each, dict | list) for each in values.values()):
        return None
    if any(key in values for key in INSIDE) and not any(layer in values for layer in layers):
        return None
    if all(str(key).isdecimal() and (_is_row(row) or _named(row)) for key, row in values.items()):
        return None  # {"0": ["n01440764", "tench"]} or {"0": {"name": "tench"}}
    if all(SYNSET.fullmatch(str(key)) for key in values):
        return None  # {"n01440764": [0, "tench"]}
    found = {layer: values[layer] for layer in layers if layer in values}
    if not found:
        raise ValueError(unknown("layer", str(next(iter(values))), layers, "among the requested layers"))
    wrong = next((layer for layer in values if known and layer not in known and layer not in found), None)
    if wrong is not None:
        raise ValueError(unknown("layer", str(wrong), known, "in the network"))
    return found


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and len(row) > 1 and isinstance(row[0], str) and bool(SYNSET.fullmatch(row[0]))


def _named(row: Any) -> bool:
    return isinstance(row, dict) and any(isinstance(row.get(key), str) for key in NAME_KEYS)


def _labels(values: Any) -> Labels:
    """Return the names of a list, of pairs of number and name, or of a table in either direction."""
    if isinstance(values, dict):
        inner = next((values[key] for key in INSIDE if isinstance(values.get(key), dict | list)), None)
        if inner is not None:
            return _labels(inner)
        if values and all(SYNSET.fullmatch(str(key)) for key in values):
            return _labels(list(values.values()))
        has_numbers = any(str(key).isdecimal() for key in values)
        if values and not has_numbers and all(type(each) is int for each in values.values()):
            return _numbered([(number, name) for name, number in values.items()])  # torchvision's class_to_idx
        return _numbered([(number, _word(word, number)) for number, word in values.items()])
    if not isinstance(values, list):
        raise ValueError(
            f"a {type(values).__name__} given; a list of names, or a table of numbers and names, is needed"
        )
    rows = [_row(each) for each in values]
    if rows and all(isinstance(row, tuple) for row in rows):
        return _numbered(rows)
    return _listed([_word(each, place) for place, each in enumerate(values)])


def _row(given: Any) -> Any:
    """Return number and name; None for a name without a number."""
    if isinstance(given, dict):
        name = next((given[key] for key in NAME_KEYS if isinstance(given.get(key), str)), None)
        number = next((given[key] for key in NUMBER_KEYS if type(given.get(key)) is int), None)
        return None if name is None or number is None else (number, name)
    if isinstance(given, list) and len(given) == 2 and type(given[0]) is int and isinstance(given[1], str):
        return given[0], given[1]
    return None


def _word(given: Any, number: Any) -> str:
    """Return the name in an entry, without the synset before it."""
    if isinstance(given, dict):
        given = next((given[key] for key in NAME_KEYS if isinstance(given.get(key), str)), given)
    if _is_row(given):
        given = given[1]
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(f"{str(given)[:60]} given for {number}; a name is needed")
    found = SYNSET_LINE.fullmatch(str(given).strip())
    return found[1] if found else str(given)


def _of_rows(rows: Sequence[Sequence[str]]) -> Labels:
    """Return the names of a table, with or without a header row."""
    table = [[field.strip() for field in row] for row in rows]
    while table and not any(table[-1]):
        table.pop()
    headings = [field.casefold() for field in table[0]] if table else []
    has_headings = bool(set(headings) & HEADER) or (
        len(table) > 1 and not headings[0].isdecimal() and all(row[0].isdecimal() for row in table[1:] if any(row))
    )
    body = table[1:] if has_headings else table
    filled = [row for row in body if any(row)]
    width = max(map(len, filled), default=0)
    columns = [[row[i] if i < len(row) else "" for row in filled] for i in range(width)]
    if width == 1:
        return _of_lines([row[0] if row else "" for row in body])
    numbers = next((i for i, column in enumerate(columns) if all(map(str.isdecimal, column))), None)
    words = [i for i, column in enumerate(columns) if i != numbers and not all(map(SYNSET.fullmatch, column))]
    named = [i for i in words if has_headings and i < len(headings) and "name" in headings[i]]
    chosen = next(iter(named or words), None)
    if chosen is None:
        return Labels({})
    if numbers is None:
        if not has_headings and len(words) == len(columns):
            raise ValueError(f"{','.join(filled[0])[:60]!r} given; a row needs a feature's number and its name")
        return _listed(columns[chosen])
    return _numbered(list(zip(columns[numbers], columns[chosen], strict=True)))


def _of_lines(lines: Sequence[str]) -> Labels:
    """Return the names of lines, each alone, after a synset, or beside a number counted from 0 or 1.

    Raises:
        ValueError: a number that is no feature's stands between a synset and its name, as in map_clsloc.txt.
    """
    filled = [line for line in lines if line not in ("", "{", "}")]
    synsets = [SYNSET_LINE.fullmatch(line) for line in filled]
    if len(synsets) > 1 and all(synsets):
        names = [match[1] for match in synsets if match]
        if all(map(NUMBERED_NAME.fullmatch, names)):
            raise ValueError(f"{filled[0][:60]!r} given, whose number counts in another order; leave the numbers out")
        return _listed(names)
    for pattern in (NUMBERED_LINE, LINE_WITH_NUMBER):
        found = [match for match in map(pattern.fullmatch, filled) if match]
        if not 1 < len(found) == len(filled):
            continue
        pairs = [(int(match["number"]), match["name"].strip()) for match in found]
        first = pairs[0][0]
        different = 2 * len({name for _, name in pairs}) > len(pairs)  # `class 0`, `class 1` are names themselves
        if first < 2 and different and [number for number, _ in pairs] == list(range(first, first + len(pairs))):
            return _numbered(pairs)
    return _listed(lines)


def _listed(names: Sequence[str]) -> Labels:
    if len(names) > LARGEST_FEATURE:
        raise ValueError(f"{len(names):,} names given; at most {LARGEST_FEATURE:,} are allowed")
    return Labels({number: name for number, name in enumerate(names) if name}, len(names))


def _numbered(pairs: Sequence[tuple[Any, str]]) -> Labels:
    found: dict[int, str] = {}
    for number, name in pairs:
        digits = str(number)
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19) or int(digits) >= LARGEST_FEATURE:
            raise ValueError(f"{digits[:60]!r} given; a feature's number is needed")
        if int(digits) in found:
            raise ValueError(f"the number {int(digits)} given twice; each feature has one name")
        found[int(digits)] = name
    return Labels({number: name for number, name in found.items() if name})
