"""Paths as users write them: with `~`, or as `FILE:entry`."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

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
