"""Layers by pattern: `all`, `blocks.*`, `**.conv1`."""

import re
from collections.abc import Iterable

EVERY = "all"


def is_pattern(word: str) -> bool:
    """Whether a word may stand for several layers; a module of that very name comes first."""
    return word == EVERY or any(sign in word for sign in "*?[")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Those of the names that a pattern takes, in their order.

    Args:
        pattern: `*` stands for any part of a name between two dots, `?` for one sign of it, `[ab]` for one of these
            signs, `**` for anything, dots too; `all` is `**`.
        names: of layers.
    """
    words = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*|\*|\?|\[[^\]]+\])", "**" if pattern == EVERY else pattern)
    made = [words.get(part) or (_signs(part) if part.startswith("[") else re.escape(part)) for part in parts]
    whole = re.compile("".join(made))
    return [name for name in names if whole.fullmatch(name)]


def _signs(part: str) -> str:
    """`[abc]`, `[a-c]` or `[!abc]`, whose signs are no dots, as an expression."""
    inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"[^.{inner[1:]}]" if inner.startswith("!") and len(inner) > 1 else f"[{inner}]"
