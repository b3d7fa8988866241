"""Files of labels in the forms that are published: what they name, and in which order. Plain data, no torch."""

import csv
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featlight.config.tile import LARGEST_FEATURE
from featlight.errors import unknown

SYNSET = re.compile(r"n\d{8}")
SYNSET_LINE = re.compile(r"n\d{8}[\s,:]+(\S.*)")
NUMBERED_LINE = re.compile(r"""\{?\s*(\d{1,9})\s*[:\s]\s*['"]?(.+?)['"]?\s*,?\s*\}?""")  # `0: 'tench',` and `0 tench`
INSIDE = ("id2label", "label_names", "class_names", "classes", "categories", "labels", "names")  # keys that hold names
NUMBER_KEYS, NAME_KEYS = ("id", "index", "class_id", "label_id", "label"), ("name", "label", "class", "description")
HEADER = {*NUMBER_KEYS, *NAME_KEYS, "idx", "number", "feature", "class_name", "label_name", "synset", "wnid", "names"}


@dataclass(frozen=True)
class Labels:
    """Names of features.

    Args:
        words: by number, empty ones left out.
        listed: length of a plain list, empty ones and all; None where each name has a number of its own.
    """

    words: Mapping[int, str]
    listed: int | None = None


def parse_labels(suffix: str, text: str, layers: Collection[str]) -> Labels | dict[str, Labels]:
    """Names of one layer's features, or by layer.

    Args:
        suffix: suffix of the file's name, without the dot.
        text: content of the file.
        layers: names of the layers that are asked for.

    Raises:
        ValueError: it is no list of names, or names a number twice, or none of the layers.
    """
    if suffix in ("json", "jsonl", "ndjson"):
        values = _json(suffix, text)
        by_layer = _by_layer(values, layers)
        return _labels(values) if by_layer is None else {layer: _labels(each) for layer, each in by_layer.items()}
    lines = [line.strip() for line in _lines(text)]
    filled = [line for line in lines if line]
    if suffix in ("csv", "tsv") or (filled and all("\t" in line for line in filled)):
        return _of_rows(list(csv.reader(io.StringIO(text), delimiter="," if suffix == "csv" else "\t")))
    return _of_lines(lines)


def _json(suffix: str, text: str) -> Any:
    try:
        if suffix == "json":
            return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
    return [json.loads(line, object_pairs_hook=_once) for line in _lines(text) if line.strip()]


def _lines(text: str) -> list[str]:
    """Its lines, but for empty ones at the end; str.splitlines ends lines at signs that may stand in a name."""
    return re.split(r"\r\n|\r|\n", text.rstrip("\r\n\t "))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands there twice")
        found[key] = value
    return found


def _by_layer(values: Any, layers: Collection[str]) -> Mapping[str, Any] | None:
    """The lists of a file that has one for each layer; None where it is a list itself.

    Raises:
        ValueError: it has none of the layers that are asked for.
    """
    if not isinstance(values, dict) or not values or not all(isinstance(each, dict | list) for each in values.values()):
        return None
    if any(key in values for key in INSIDE) and not any(layer in values for layer in layers):
        return None
    if all(key.isdecimal() and _is_row(row) for key, row in values.items()):
        return None  # {"0": ["n01440764", "tench"]}
    found = {layer: values[layer] for layer in layers if layer in values}
    if not found:
        raise ValueError(unknown("layer", next(iter(values)), layers, "among those that are asked for"))
    return found


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and len(row) > 1 and isinstance(row[0], str) and bool(SYNSET.fullmatch(row[0]))


def _labels(values: Any) -> Labels:
    """Names from a list of them, from pairs of a number and a name, or from one to the other."""
    if isinstance(values, dict):
        inner = next((values[key] for key in INSIDE if isinstance(values.get(key), dict | list)), None)
        if inner is not None:
            return _labels(inner)
        if values and not any(key.isdecimal() for key in values) and all(type(each) is int for each in values.values()):
            return _numbered([(number, name) for name, number in values.items()])  # torchvision's class_to_idx
        return _numbered([(number, _word(word, number)) for number, word in values.items()])
    if not isinstance(values, list):
        raise ValueError(f"a {type(values).__name__} given; a list, or numbers with their names, is needed")
    rows = [_row(each) for each in values]
    if rows and all(isinstance(row, tuple) for row in rows):
        return _numbered(rows)
    return _listed([_word(each, place) for place, each in enumerate(values)])


def _row(given: Any) -> Any:
    """A number and a name; None where it is a name alone."""
    if isinstance(given, dict):
        name = next((given[key] for key in NAME_KEYS if isinstance(given.get(key), str)), None)
        number = next((given[key] for key in NUMBER_KEYS if type(given.get(key)) is int), None)
        return None if name is None or number is None else (number, name)
    if isinstance(given, list) and len(given) == 2 and type(given[0]) is int and isinstance(given[1], str):
        return given[0], given[1]
    return None


def _word(given: Any, number: Any) -> str:
    """The name in an entry: itself, or what stands after its synset."""
    if isinstance(given, dict):
        given = next((given[key] for key in NAME_KEYS if isinstance(given.get(key), str)), given)
    if _is_row(given):
        given = given[1]
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(f"{str(given)[:60]} given for {number}; a name is needed")
    found = SYNSET_LINE.fullmatch(str(given).strip())
    return found[1] if found else str(given)


def _of_rows(rows: Sequence[Sequence[str]]) -> Labels:
    """Names from a table, with or without a row of headings."""
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
            raise ValueError(f"{','.join(filled[0])[:60]!r} given; a feature's number and its name are needed in a row")
        return _listed(columns[chosen])
    return _numbered(list(zip(columns[numbers], columns[chosen], strict=True)))


def _of_lines(lines: Sequence[str]) -> Labels:
    """Names from a line each: alone, after their synsets, or after their numbers from 0."""
    filled = [line for line in lines if line not in ("", "{", "}")]
    for pattern in (SYNSET_LINE, NUMBERED_LINE):
        found = [pattern.fullmatch(line) for line in filled]
        if len(found) > 1 and all(found):
            last = [match.groups() for match in found if match]
            if pattern is SYNSET_LINE:
                return _listed([groups[-1] for groups in last])
            if [int(groups[0]) for groups in last] == list(range(len(last))):
                return _numbered([(int(groups[0]), groups[1]) for groups in last])
    return _listed(lines)


def _listed(names: Sequence[str]) -> Labels:
    if len(names) > LARGEST_FEATURE:
        raise ValueError(f"{len(names)} names given; {LARGEST_FEATURE} at most are allowed")
    return Labels({number: name for number, name in enumerate(names) if name}, len(names))


def _numbered(pairs: Sequence[tuple[Any, str]]) -> Labels:
    found: dict[int, str] = {}
    for number, name in pairs:
        digits = str(number)
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19) or int(digits) >= LARGEST_FEATURE:
            raise ValueError(f"{digits[:60]!r} given; a feature's number is needed")
        if int(digits) in found:
            raise ValueError(f"the number {int(digits)} stands there twice")
        found[int(digits)] = name
    return Labels({number: name for number, name in found.items() if name})
