"""Names of features and directions: the classes of a network, or the labels of a file. No torch."""

import csv
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import shorten

from featlight.config.label_files import Labels, parse_labels
from featlight.config.user_text import check_word, expanded
from featlight.errors import UsageError, unknown
from featlight.files import open_regular

MOST_BYTES = 64 << 20  # of a label file
LONGEST = 200  # characters of a label
BACKGROUND = ("background", "dummy")  # first names of lists for networks with a background class

log = logging.getLogger("featlight")


@dataclass(frozen=True)
class Names:
    """Names of a layer's features.

    Args:
        words: names by feature number; some may be missing.
        has_synonyms: whether a name is a list of synonyms with commas between them, as for ImageNet's classes.
        listed: length of the file's list of names; None if the file gives numbers.
    """

    words: Mapping[int, str]
    has_synonyms: bool = False
    listed: int | None = field(default=None, compare=False)

    def for_layer(self, layer: str, count: int, *, may_lack: bool = False) -> "Names":
        """Return the names that fit a layer, without a leading `background` that would shift all of them by one.

        Args:
            layer: name of the layer.
            count: number of its features, or of directions.
            may_lack: whether a list may name only the first features; numbered names may always have gaps.

        Raises:
            UsageError: there are more names than features, or fewer.
        """
        length = max(self.words, default=-1) + 1
        if length == count + 1 and self.words.get(0, "").strip(" _").casefold() in BACKGROUND:
            log.warning("labels: the first name, %s, is dropped: layer %s has %d features", self.words[0], layer, count)
            return replace(self, words={number - 1: word for number, word in self.words.items() if number})
        is_whole = self.listed is not None or len(self.words) == length
        if length > count or (is_whole and not may_lack and count > (self.listed or length)):
            raise UsageError(
                f"labels: names of features 0 to {(self.listed or length) - 1} given; layer {layer!r} has {count} "
                f"features: a name for each of 0 to {count - 1} is needed"
            )
        return self

    def title(self, number: int) -> str:
        """Return a feature's first name: `tiger` of `tiger, Panthera tigris`; "" if it has none."""
        word = self.words.get(number, "")
        return word.partition(",")[0] if self.has_synonyms else word

    def numbers(self, chosen: Sequence[int | str], layer: str) -> tuple[int, ...]:
        """Return the numbers of features given by number or name, in order, each once.

        Args:
            chosen: numbers, names, and consecutive parts of a name that contains commas.
            layer: name of the layer, for messages.

        Raises:
            UsageError: a name belongs to no feature, or to several.
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
            # a name may contain commas: take the longest match
            joined = (_key(", ".join(map(str, chosen[place:stop]))) for stop in range(end, place, -1))
            key = next((each for each in joined if each in whole), _key(word))
            numbers = whole.get(key) or single.get(key)
            if numbers is None:
                known = [name for word in self.words.values() for name in self._each(word)]
                raise UsageError(f"features: {unknown('name', word, known, f'among those of layer {layer!r}')}")
            if len(numbers) > 1:
                several = ", ".join(f"{number} ({self.words[number]})" for number in numbers)
                raise UsageError(f"features: {word!r} given; several features have this name: {several}; give a number")
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


def read_labels(file: str, layers: Sequence[str], known: Collection[str] = ()) -> dict[str, Names]:
    """Return the names of features, or of the run's directions, by layer.

    Args:
        file: path of a `.json` file with a list, `{number: name}`, `{layer: either}`, or one of these under `id2label`;
            of a `.jsonl` file; of a `.csv` or `.tsv` file with rows of number and name; or of a text file with a name
            per line from 0, alone or after its synset, and empty lines for features without a name.
        layers: names of the run's layers.
        known: names of all layers and modules of the network; empty if they are not known.

    Raises:
        UsageError: the file cannot be read, has no names, names no layers while there are several, or names a layer
            that the network does not have.
    """
    try:
        with open_regular(expanded(file), MOST_BYTES, links=True) as opened:
            content = opened.read()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        found = parse_labels(file.rpartition(".")[2].casefold(), text, layers, known)
        if isinstance(found, Labels):
            if len(layers) > 1:
                raise UsageError(
                    f"labels: {file} names no layers, but {len(layers)} are requested; give JSON of {{layer: names}}"
                )
            found = dict.fromkeys(layers, found)
        for names in found.values():
            if not names.words:
                raise ValueError("no names in the file; a name per line is needed")
            for word in names.words.values():
                check_word(word, LONGEST)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"labels: {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise UsageError(f"labels: {file}: {shorten(str(error), 200, placeholder=' ...')}") from None
    return {layer: Names(labels.words, listed=labels.listed) for layer, labels in found.items()}
