"""Tests of featlight, in the order of its packages."""

from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the source tree
