"""Paths as people write them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator


def expanded(path: str | Path) -> Path:
    """The path with `~` and `~user` written out; a shell leaves `--out=~/runs` and a file's words as they are."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody of that name, or a system without homes
        return Path(path)


def _home(given: Any) -> Any:
    return str(expanded(given)) if isinstance(given, str) and given.startswith("~") else given


PathWord = Annotated[str, BeforeValidator(_home)]  # a path, or one of a few words
