"""Tests of featlight, in the order of its packages."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the source tree


def other_process(*flags: str) -> None:
    """Run the command line in another process, which finds the networks of the tests."""
    command = [sys.executable, "-m", "featlight", *flags]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
