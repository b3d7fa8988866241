"""Patterns of layer names: `all`, `blocks.*`, `**.conv1`."""

import re
from collections.abc import Iterable

EVERY = "all"


def is_pattern(word: str) -> bool:
    """Return whether text may match several layers; a module with exactly this name takes precedence."""
    return word == EVERY or any(sign in word for sign in "*?[")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that match a pattern, in their order.

    Args:
        pattern: name in which `*` matches any text between two dots, `?` one character, `[ab]` one of these characters,
            `**` any text with dots; `all` is `**`.
        names: names of layers.
    """
    wildcards = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*|\*|\?|\[[^\]]+\])", "**" if pattern == EVERY else pattern)
    expressions = [wildcards.get(part) or (_signs(part) if part.startswith("[") else re.escape(part)) for part in parts]
    whole = re.compile("".join(expressions))
    return [name for name in names if whole.fullmatch(name)]


def _signs(part: str) -> str:
    """Return the regular expression of `[abc]`, `[a-c]` or `[!abc]`, which match no dot."""
    inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"[^.{inner[1:]}]" if inner.startswith("!") and len(inner) > 1 else f"[{inner}]"
