"""Checks of text from users and files, paths as they write them, and file names without folders."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator

from featlight.console import printable

LONGEST = 4096  # characters, the limit of a path on Linux
# An absolute path (from a root, drive or home): in quotes, or up to the last word that contains a slash
_ROOT = r"(?:~\w*|[A-Za-z]:)?[/\\]"
_PATH = re.compile(rf"(['\"]){_ROOT}.*?\1|(?<![\w.<]){_ROOT}(?=\S)(?:.*[/\\])?[^\s/\\]*", re.DOTALL)
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control codes, surrogates, line and paragraph separators


def check_word(word: str, most: int = LONGEST) -> None:
    """Raise ValueError if text is too long, or has control codes or bytes that are not UTF-8."""
    if len(word) > most:
        raise ValueError(f"text of {len(word)} characters given; at most {most} are allowed")
    if not word.isprintable() and any(unicodedata.category(sign) in _CONTROL for sign in word):
        raise ValueError(f"{word[:60]!r} given; control codes, and bytes that are not UTF-8, are not allowed")


def is_text(word: str) -> bool:
    """Return whether a file name is valid UTF-8."""
    return not any("\ud800" <= sign <= "\udfff" for sign in word)


def is_word(word: str) -> bool:
    """Return whether text passes `check_word`."""
    try:
        check_word(word)
    except ValueError:
        return False
    return True


def check_words(value: Any) -> None:
    """Apply `check_word` to every string in nested tables, lists and dataclasses."""
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
    """Return the file name of a path in the notation of any system."""
    return re.split(r"[/\\]", word.rstrip("/\\"))[-1]


def weights_without_folder(weights: str) -> str:
    """Return weights as named from inside their file's folder; a weights name as it is."""
    name = without_folder(weights)
    return name if name == weights or PurePosixPath(name).suffix else f"./{name}"


def shared_reason(words: str) -> str:
    """Return an error text that may be shared: printable and without absolute paths; it may lose more than these."""
    return printable(_PATH.sub("...", words))


# These are always names of weights; a file with such a name needs its folder, as in ./DEFAULT.
WEIGHTS_NAME = re.compile(r"DEFAULT|none|IMAGENET1K_[A-Z0-9_]+")
FROM_PYTHON = "an array"  # stands in a plan for directions that came from Python


def expanded(path: str | Path) -> Path:
    """Expand `~` and `~user`, which a shell leaves as they are in `--out=~/runs`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or no home folders
        return Path(path)


def weights_file(weights: str) -> tuple[Path, str] | None:
    """Return the file and entry that `--weights` names; None for a weights name.

    Args:
        weights: `FILE`, `FILE:entry`, or a name without folder and suffix.
    """
    if WEIGHTS_NAME.fullmatch(weights):
        return None
    path, colon, entry = weights.rpartition(":")
    if colon and len(path) > 1 and not expanded(weights).exists() and expanded(path).is_file():
        return expanded(path), entry
    is_file = "/" in weights or "\\" in weights or Path(weights).suffix != "" or expanded(weights).is_file()
    return (expanded(weights), "") if is_file else None


def _home(given: Any) -> Any:
    return str(expanded(given)) if isinstance(given, str) and given.startswith("~") else given


PathWord = Annotated[str, BeforeValidator(_home)]  # a path or a keyword


def one_of(names: Iterable[str]) -> Callable[[Any], Any]:
    """Return a check that a value is one of some names, which raises ValueError."""
    allowed = tuple(names)

    def check(given: Any) -> Any:
        if given not in allowed:
            raise ValueError(f"allowed: {', '.join(allowed)}")
        return given

    return check
