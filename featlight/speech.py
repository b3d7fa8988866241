"""Lines for people. Where nobody can read them any more, the run goes on in silence."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def say(line: str) -> None:
    """Print a line at once."""
    try:
        print(line, flush=True)
    except (OSError, ValueError):  # the reader, `head` say, has gone
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  for the rest of the process


def lacking(files: Sequence[str], total: int) -> str:
    """What a run still lacks, and what to do.

    Args:
        files: of the missing tiles.
        total: number of tiles that were asked for.
    """
    named = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return f"{len(files)} of {total} tiles are missing ({named}): a worker ended early; the same command makes them"


def in_words(count: int) -> str:
    """Bytes as people read them."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
