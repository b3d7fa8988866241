"""Paths as people write them."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

# No file of such a name is weights unless its folder is named too: it may lie where the user happens to stand.
WEIGHTS_NAME = re.compile(r"DEFAULT|none|IMAGENET1K_[A-Z0-9_]+")
FROM_PYTHON = "an array"  # words for directions that come from no file


def expanded(path: str | Path) -> Path:
    """The path with `~` and `~user` written out; a shell leaves `--out=~/runs` and a file's words as they are."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody of that name, or a system without homes
        return Path(path)


def weights_file(weights: str) -> tuple[Path, str] | None:
    """The file, and the entry in it, that the words after --weights name; None where they are a name.

    Args:
        weights: `FILE`, `FILE:entry`, or a name, which has neither folders nor a suffix.
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


PathWord = Annotated[str, BeforeValidator(_home)]  # a path, or one of a few words
