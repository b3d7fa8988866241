"""What features and directions are called: classes of a network, or the labels of a file. No torch."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featlight.config.paths import expanded
from featlight.config.tile import LARGEST_FEATURE
from featlight.config.words import check_word
from featlight.errors import UsageError, unknown
from featlight.files import open_regular

MOST_BYTES = 64 << 20  # of a file of labels
LONGEST = 200  # characters of a label


@dataclass(frozen=True)
class Names:
    """What the features of a layer are called.

    Args:
        words: by number; not every feature needs one.
        has_synonyms: whether each holds several names with commas between them, as ImageNet's classes do.
    """

    words: Mapping[int, str]
    has_synonyms: bool = False

    def title(self, number: int) -> str:
        """What stands beside the number: `tiger` of `tiger, Panthera tigris`; "" where nobody has named it."""
        word = self.words.get(number, "")
        return word.partition(",")[0] if self.has_synonyms else word

    def numbers(self, chosen: Sequence[int | str], layer: str) -> tuple[int, ...]:
        """The features that numbers and names choose, in order, each once.

        Args:
            chosen: numbers; names; parts of a name that has commas itself.
            layer: its name, for messages.

        Raises:
            UsageError: no feature is called so, or several are.
        """
        whole = _index({number: [word] for number, word in self.words.items()})
        single = _index({number: word.split(",") for number, word in self.words.items()}) if self.has_synonyms else {}
        found: list[int] = []
        place = 0
        while place < len(chosen):
            word = chosen[place]
            if isinstance(word, int):
                found.append(word)
                place += 1
                continue
            end = place + 1
            while end < len(chosen) and isinstance(chosen[end], str):
                end += 1
            # a name may have commas in it: the longest that there is
            joined = (_key(", ".join(map(str, chosen[place:stop]))) for stop in range(end, place, -1))
            key = next((each for each in joined if each in whole), _key(word))
            numbers = whole.get(key) or single.get(key)
            if numbers is None:
                known = [name for word in self.words.values() for name in self._each(word)]
                raise UsageError(f"features: {unknown('name', word, known, f'among those of layer {layer!r}')}")
            if len(numbers) > 1:
                several = ", ".join(f"{number} ({self.words[number]})" for number in numbers)
                raise UsageError(f"features: {word!r} given; several are called so: {several}; give a number")
            found += numbers
            place += max(1, key.count(",") + 1)
        return tuple(dict.fromkeys(found))

    def _each(self, word: str) -> list[str]:
        return [name.strip() for name in word.split(",")] if self.has_synonyms else [word]


def _key(word: str) -> str:
    return ",".join(" ".join(part.split()) for part in word.casefold().split(","))


def _index(names: Mapping[int, Sequence[str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, words in names.items():
        for key in dict.fromkeys(map(_key, words)):
            found.setdefault(key, []).append(number)
    return found


def read_labels(file: str, layers: Sequence[str]) -> dict[str, Names]:
    """By layer, the names that a file gives its features, or the run's directions.

    Args:
        file: `.json`: a list, `{number: name}`, or `{layer: either of these}`; `.csv`: a number and a name in each row;
            of any other suffix: a name in each line, from 0, where an empty one names nothing.
        layers: of the run.

    Raises:
        UsageError: it cannot be read, or names no layer where there are several.
    """
    try:
        with open_regular(expanded(file), MOST_BYTES, links=True) as opened:
            text = opened.read().decode("utf-8-sig")
        found = _labels(file, text, layers)
        for names in found.values():
            for word in names.words.values():
                check_word(word, LONGEST)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"labels: {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise UsageError(f"labels: {file}: {' '.join(str(error).split())[:200]}") from None
    return found


def _labels(file: str, text: str, layers: Sequence[str]) -> dict[str, Names]:
    suffix = file.rpartition(".")[2].casefold()
    if suffix == "json":
        values = json.loads(text)
        if isinstance(values, dict) and values and all(isinstance(each, dict | list) for each in values.values()):
            return {layer: _names(values[layer]) for layer in layers if layer in values}
        names = _names(values)
    elif suffix == "csv":
        names = _names(_of_csv(text))
    else:
        # str.splitlines ends lines at signs that may stand in a name, and shifts all names behind it
        names = _names([line.strip() for line in re.split(r"\r\n|\r|\n", text)])
    if len(layers) > 1:
        raise UsageError(
            f"labels: {file} names no layers, and {len(layers)} are asked for; JSON of {{layer: names}} is needed"
        )
    return dict.fromkeys(layers, names)


def _of_csv(text: str) -> dict[str, str]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and not rows[0][0].strip().isdecimal():
        rows = rows[1:]  # what the columns are called
    return {row[0].strip(): row[1].strip() if len(row) > 1 else "" for row in rows}


def _names(values: Any) -> Names:
    """Names from a list, or from numbers to names."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else None
    if pairs is None:
        raise ValueError(f"a {type(values).__name__} given; a list, or numbers with their names, is needed")
    found = {}
    for number, word in pairs:
        if not str(number).isdecimal() or int(number) >= LARGEST_FEATURE:
            raise ValueError(f"{number!r} given; a feature's number is needed")
        if not isinstance(word, str | int | float):
            raise ValueError(f"{word!r} given for {number}; a name is needed")
        if str(word):
            found[int(number)] = str(word)
    return Names(found)
