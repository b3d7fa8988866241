"""Terminal output. If standard output is closed, the run continues silently."""

import logging
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

# Control codes, marks of writing direction, surrogates, ends of lines and paragraphs
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
WITHOUT_LINKS = ("dumb", "linux")  # values of TERM of terminals that may print unknown control codes


class Link(str):
    """The text of a clickable path, with control codes."""


def printable(text: str) -> str:
    """Escape control codes, line ends and direction marks as Python does.

    Names of files, networks and runs may come from anybody, and could otherwise control the terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        char if unicodedata.category(char) not in _UNPRINTABLE else char.encode("unicode_escape").decode()
        for char in text
    )


class PrintableFormatter(logging.Formatter):
    """Formats printable log lines; tracebacks stay unchanged."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  its name in the library
        return printable(super().formatMessage(record))


def say(*parts: str) -> None:
    """Print a line and flush; characters that the terminal's encoding lacks are escaped, for example \\u00e4.

    Args:
        parts: parts of the line; all except links are made printable.
    """
    line = "".join(part if isinstance(part, Link) else printable(part) for part in parts)
    try:
        try:
            print(line, flush=True)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except (OSError, ValueError):  # the reader, for example `head`, has ended
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  for the rest of the process


def link(path: Path) -> Link:
    """Return a path as a clickable link; plain text if standard output is no terminal.

    The address has no host name: over SSH, some terminals refuse a foreign host, others treat it as a network share.

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
    """Return a line that names missing tiles and the way to make them.

    Args:
        files: files of the missing tiles.
        total: number of requested tiles.
    """
    named = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return f"{len(files)} of {total} tiles are missing ({named}): a worker ended early; the same command makes them"


def format_bytes(count: int) -> str:
    """Return a number of bytes with a unit."""
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
