"""Networks of packages that nobody here wrote: listed, and a feature of one layer drawn.

python -m benchmarks.packages [PACKAGE ...] [--path PACKAGE=FOLDER] [--python PACKAGE=PYTHON] [--write docs/networks.md]

Nothing is installed or downloaded; a package that cannot be imported is skipped. Weights are random. Each trial runs in
a process of its own, whose memory is limited, and is reported whatever becomes of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.package_trial import NEAR, TRIALS, Outcome, Trial
from benchmarks.record import TREE
from benchmarks.tables import markdown_table, write_between
from featlight.errors import unknown

PATIENCE = 120  # seconds of a trial
HEAD = (
    "package",
    "typed",
    "layer",
    "px",
    "layers",
    "its map",
    "step",
    "at the start",
    "at the end",
    "by a hook",
    "network",
)
PACKAGES = list(dict.fromkeys(trial.package for trial in TRIALS))
Tried = tuple[Trial, Outcome]


def alone(number: int, python: str, path: str | None) -> Outcome:
    """A trial in a process of its own.

    Args:
        number: number of the trial.
        python: an interpreter that has torch and what featlight needs.
        path: a folder in which modules are looked for first.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [python, "-W", "ignore", "-m", "benchmarks.package_trial", str(number), str(answer)]
        own = {"HF_HUB_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": folder}
        paths = [each for each in (path, os.environ.get("PYTHONPATH")) if each]
        environment = {**os.environ, **own, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            process = subprocess.run(
                command, cwd=TREE, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return Outcome("?", refusal=f"not done after {PATIENCE} s")
        except OSError as error:
            raise SystemExit(f"--python: {python}: {error.strerror}") from None
        if process.returncode:
            last = process.stderr.strip().splitlines()[-1:]
            return Outcome("?", refusal=f"its process ended with code {process.returncode}: {' '.join(last)}")
        return Outcome(*json.loads(answer.read_text()))


def fault(outcome: Outcome) -> str:
    """What is wrong with an outcome; "" where nothing is."""
    if outcome.refusal:
        return f"refused: {outcome.refusal.replace('|', '/')}"
    if outcome.changed:
        return "the network came back changed"
    if not abs(outcome.by_hook - outcome.recorded) <= NEAR * abs(outcome.by_hook):
        return "a hook sees something else"
    return ""


def row(trial: Trial, outcome: Outcome) -> tuple[str, ...]:
    """A trial's row of the table."""
    package = f"{trial.package} {outcome.version}"
    layers = f"{outcome.layers} of {outcome.every}" if outcome.every else ""
    numbers = [f"{value:.4g}" for value in (outcome.start, outcome.recorded, outcome.by_hook)]
    ends = ["", "", ""] if outcome.refusal else numbers
    network = (f"changed: {outcome.changed}" if outcome.changed else "unchanged") if outcome.every else ""
    step = fault(outcome) or "made"
    return package, f"`{trial.typed}`", f"`{trial.layer}`", str(trial.size), layers, outcome.map, step, *ends, network


def table(tried: Sequence[Tried]) -> list[str]:
    """In Markdown, how many work before it, and what was skipped after it."""
    there = [each for each in tried if each[1].version]
    made = sum(not fault(outcome) for _, outcome in there)
    version = torch.__version__.partition("+")[0]
    skipped = {trial.package: outcome.refusal for trial, outcome in tried if not outcome.version}
    return [
        f"{made} of {len(there)} networks make a picture whose activation a hook confirms (torch {version}).",
        "",
        *markdown_table(HEAD, [row(*each) for each in there]),
        *(line for name, why in skipped.items() for line in ("", f"Skipped: {name} ({why}).")),
    ]


def _pair(given: str) -> tuple[str, str]:
    package, equals, value = given.partition("=")
    if not equals or not value:
        raise argparse.ArgumentTypeError(f"{given} given; PACKAGE=... is needed")
    return package, value


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("packages", nargs="*", metavar="PACKAGE", help=f"{', '.join(PACKAGES)}; all of them where none is named")
    pairs = {"action": "append", "type": _pair, "default": []}
    add(
        "--path",
        metavar="PACKAGE=FOLDER",
        help="where a package lies, as `pip install --target FOLDER` leaves it",
        **pairs,
    )
    add(
        "--python",
        metavar="PACKAGE=PYTHON",
        help="an interpreter that has a package, and what featlight needs",
        **pairs,
    )
    add("--write", type=Path, metavar="FILE", help="put the table between the marks in this file")
    words = parser.parse_args(arguments)
    for name in [*words.packages, *(name for name, _ in words.path + words.python)]:
        if name not in PACKAGES:
            parser.error(unknown("package", name, PACKAGES))
    lines = table(try_all(words.packages or PACKAGES, dict(words.path), dict(words.python)))
    print(lines[0])
    if words.write is not None:
        write_between(words.write, "packages", lines)
    return 0


def try_all(packages: Sequence[str], path: Mapping[str, str], python: Mapping[str, str]) -> list[Tried]:
    """Run the trials of some packages, and say what becomes of each."""
    found = []
    for number, trial in enumerate(TRIALS):
        if trial.package not in packages:
            continue
        started = time.perf_counter()
        folder = path.get(trial.package)
        outcome = alone(number, python.get(trial.package, sys.executable), folder and str(Path(folder).absolute()))
        found.append((trial, outcome))
        said = row(trial, outcome) if outcome.version else (trial.package, trial.typed, f"skipped: {outcome.refusal}")
        print(*said, f"{time.perf_counter() - started:.0f} s", sep=" · ", flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
