"""Lines for people. Where nobody can read them any more, the run goes on in silence."""

import logging
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

# Control codes, marks that turn the direction of reading, halves of characters, ends of lines and paragraphs
_MOVING = ("Cc", "Cf", "Cs", "Zl", "Zp")
WITHOUT_LINKS = ("dumb", "linux")  # terminals, by TERM, that may print what they do not understand


class Link(str):
    """A path that a terminal opens at a click, control codes and all."""


def printable(text: str) -> str:
    """A text on one line in which nothing moves a terminal's cursor, colours it, or turns its reading round.

    Names come from whoever has made a file, a network or a run; what they should not hold is shown as Python writes it.
    """
    if text.isprintable():
        return text
    return "".join(sign if unicodedata.category(sign) not in _MOVING else _written(sign) for sign in text)


def _written(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


class PrintableFormatter(logging.Formatter):
    """Log lines that are printable; the traceback of somebody else's stays as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  its name in the library
        return printable(super().formatMessage(record))


def say(*parts: str) -> None:
    """Print a line at once; what the terminal's encoding lacks is written out, as in \\u00e4.

    Args:
        parts: of it; links stay as they are, all else is made printable.
    """
    line = "".join(part if isinstance(part, Link) else printable(part) for part in parts)
    try:
        try:
            print(line, flush=True)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except (OSError, ValueError):  # the reader, `head` say, has gone
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  for the rest of the process


def link(path: Path) -> Link:
    """A path that a terminal opens at a click; nothing but its text where nobody can click.

    The address names no host: over SSH, some terminals refuse one that is not theirs, and others take it for a share.

    Args:
        path: of a file or a folder.

    Source: OSC 8, "Hyperlinks in terminal emulators", https://gist.github.com/egmontkob/eb114294efbcd5adb1944c9f3cb5feda
    """
    text = printable(str(path))
    if not _is_terminal() or os.environ.get("TERM", "dumb") in WITHOUT_LINKS:
        return Link(text)
    return Link(f"\x1b]8;;{path.absolute().as_uri()}\x1b\\{text}\x1b]8;;\x1b\\")


def _is_terminal() -> bool:
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # closed
        return False


def lacking(files: Sequence[str], total: int) -> str:
    """What a run still lacks, and what to do.

    Args:
        files: of the missing tiles.
        total: number of tiles that were asked for.
    """
    named = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return f"{len(files)} of {total} tiles are missing ({named}): a worker ended early; the same command makes them"


def format_bytes(count: int) -> str:
    """Bytes as people read them."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def cell_text(text: str) -> str:
    """Quote the text of a CSV cell that a spreadsheet would run as a formula; names in a run come from its author.

    Source: OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
