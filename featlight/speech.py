"""Lines for people. Where nobody can read them any more, the run goes on in silence."""

import os
import sys
from pathlib import Path


def say(line: str) -> None:
    """Print a line at once."""
    try:
        print(line, flush=True)
    except (OSError, ValueError):  # the reader, `head` say, has gone
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  for the rest of the process
