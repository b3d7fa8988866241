"""Words that people and files give: each stands in a line; and what a file is called without its folders."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import PurePosixPath
from typing import Any

from featlight.console import printable

LONGEST = 4096  # characters of a word; as many as a path may have on Linux
# A path from a root, a drive or a home: in quotes, or from there to the last word that has a slash in it
_ROOT = r"(?:~\w*|[A-Za-z]:)?[/\\]"
_PATH = re.compile(rf"(['\"]){_ROOT}.*?\1|(?<![\w.<]){_ROOT}(?=\S)(?:.*[/\\])?[^\s/\\]*", re.DOTALL)
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control codes, halves of characters, ends of lines and of paragraphs


def check_word(word: str, most: int = LONGEST) -> None:
    """Raise ValueError where a word cannot stand in a line: control codes, bytes that are not UTF-8, endless ones."""
    if len(word) > most:
        raise ValueError(f"a word of {len(word)} characters given; at most {most} are allowed")
    if not word.isprintable() and any(unicodedata.category(sign) in _CONTROL for sign in word):
        raise ValueError(f"{word[:60]!r} given; control codes, and bytes that are not UTF-8, are not allowed")


def is_text(word: str) -> bool:
    """Whether a name from a file system is UTF-8, so that it can be written to a file and read back."""
    return not any("\ud800" <= sign <= "\udfff" for sign in word)


def is_word(word: str) -> bool:
    """Whether a word can stand in a line; see `check_word`."""
    try:
        check_word(word)
    except ValueError:
        return False
    return True


def check_words(value: Any) -> None:
    """Raise ValueError where any word in a value of tables and lists, however deep, cannot stand in a line."""
    left = [value]
    while left:
        match left.pop():
            case str() as word:
                check_word(word)
            case Mapping() as table:
                left += [*table, *table.values()]
            case list() | tuple() as row:
                left += row
            case thing if is_dataclass(thing) and not isinstance(thing, type):
                left += vars(thing).values()


def without_folder(word: str) -> str:
    """A file's name alone, of a path as any system writes it."""
    return re.split(r"[/\\]", word.rstrip("/\\"))[-1]


def weights_without_folder(weights: str) -> str:
    """What names the same weights to somebody who stands in the folder of their file; the name of weights as it is."""
    name = without_folder(weights)
    return name if name == weights or PurePosixPath(name).suffix else f"./{name}"


def shared_reason(words: str) -> str:
    """Why something failed, as others may read it: printable, and without absolute paths; in doubt, more goes."""
    return printable(_PATH.sub("...", words))
